//! Rows in a file of SQLite's, in the format that any of its tools reads.

mod write;

use std::{
    fs::{File, Metadata, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, Error, OpenFlags, OptionalExtension, Row, Rows, config::DbConfig, params,
};

use self::write::Statements;
use super::{
    Durability, JournalError,
    rows::{Blob, BlockRow, Corrupt, KeptRow, StageRow, TaskRow, UndoRow, word_sum},
    store::{Contents, Op, Store, StoreError, TaskRead},
};

/// Says whose file it is: `Btrn`.
const APPLICATION: i32 = 0x4274_726e;
/// The version of the tables.
pub(super) const FORMAT: i32 = 1;

/// Pages of the log before they are copied into the file: 32 MB, so that a page that changes often
/// is copied seldom.
const CHECKPOINT_PAGES: u32 = 8_192;

/// As SQLite has them in its schema, to the letter.
const TABLES: [&str; 6] = [
    "CREATE TABLE word (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID",
    "CREATE TABLE stage (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL
)",
    "CREATE TABLE task (
    id INTEGER PRIMARY KEY, key TEXT, stage INTEGER, state TEXT NOT NULL, stuck INTEGER NOT NULL,
    more BLOB NOT NULL, sum INTEGER NOT NULL, context BLOB NOT NULL, context_sum INTEGER NOT NULL
)",
    "CREATE TABLE undo (
    task INTEGER NOT NULL, undo INTEGER NOT NULL, more BLOB NOT NULL, sum INTEGER NOT NULL,
    value BLOB NOT NULL, value_sum INTEGER NOT NULL, PRIMARY KEY (task, undo)
) WITHOUT ROWID",
    "CREATE TABLE outcomes (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, count INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL
)",
    "CREATE TABLE kept (
    key TEXT PRIMARY KEY, task INTEGER NOT NULL, at INTEGER NOT NULL, outcome BLOB NOT NULL,
    output BLOB, sum INTEGER NOT NULL
) WITHOUT ROWID",
];

pub(super) struct Sqlite {
    /// None once it is closed.
    connection: Option<Connection>,
    /// Whoever has it locked is the only one to write.
    lock: Option<File>,
    /// What SQLite counts what others write with.
    others: i64,
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::Corrupt(Corrupt::new("the file", error))
            }
            _ => match error {
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..) => StoreError::Corrupt(Corrupt::new("a row", error)),
                other => StoreError::Failed(other.to_string()),
            },
        }
    }
}

/// The file beside it that says who has it.
fn lock_path(path: &Path) -> PathBuf {
    beside(path, "-lock")
}

/// The one name of a file that may have others, and no special name of SQLite's (`:memory:`).
fn whole_path(path: &Path) -> Result<PathBuf, JournalError> {
    let failed = |error: io::Error| JournalError::Io {
        path: path.to_owned(),
        error: error.into(),
    };
    if path.exists() {
        let path = path.canonicalize().map_err(failed)?;
        one_name(&path, &path.metadata().map_err(failed)?)?;
        return Ok(path);
    }
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidFilename)))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok(folder.canonicalize().map_err(failed)?.join(name))
}

/// Under another name the file would have another log and another lock.
#[cfg(unix)]
fn one_name(path: &Path, file: &Metadata) -> Result<(), JournalError> {
    if std::os::unix::fs::MetadataExt::nlink(file) > 1 {
        return Err(JournalError::Io {
            path: path.to_owned(),
            error: "the file has several names (hard links), and a journal can have but one".into(),
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn one_name(_: &Path, _: &Metadata) -> Result<(), JournalError> {
    Ok(())
}

/// SQLite's log.
fn log_path(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes the lock, which goes with this process.
fn lock(path: &Path) -> Result<File, JournalError> {
    let failed = |error: io::Error| JournalError::Io {
        path: path.to_owned(),
        error: error.into(),
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(path))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Held {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl Sqlite {
    /// Opens a journal to write to it, and makes it if there is none.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, JournalError> {
        let path = &whole_path(path)?;
        let lock = lock(path)?;
        let made = !path.exists();
        let empty = path.metadata().map_or(true, |file| file.len() == 0);
        // SQLite would throw the log away.
        if empty && log_path(path).metadata().is_ok_and(|log| log.len() > 0) {
            return Err(JournalError::Corrupt {
                path: path.to_owned(),
                why: "the file is gone or empty, and its log is not".to_owned(),
            });
        }
        let failed = |error| unusable(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        prepare(&connection).map_err(failed)?;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if tables == 0 {
            make(&connection).map_err(failed)?;
        } else {
            known(path, &connection)?;
            whole(path, &connection)?;
        }
        let synchronous = match durability {
            // Each commit is synced to the disk.
            Durability::Power => "FULL",
            // Only what a checkpoint depends on is.
            Durability::Process => "NORMAL",
        };
        let write = || {
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            // What a burst has made of it doesn't stay.
            connection.pragma_update(None, "journal_size_limit", 64 << 20)
        };
        write().map_err(failed)?;
        if made && let Some(folder) = path.parent() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            // Its name is in the folder, which is a file of its own.
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| JournalError::Io {
                    path: folder.to_owned(),
                    error: error.into(),
                })?;
        }
        let others = others(&connection).map_err(failed)?;
        Ok(Sqlite {
            connection: Some(connection),
            lock: Some(lock),
            others,
        })
    }

    /// Opens a journal to look at it, also while a pipeline writes to it: as it is now, whatever is
    /// written later.
    pub(super) fn look(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            return Err(JournalError::Io {
                path: path.to_owned(),
                error: io::Error::from(io::ErrorKind::NotFound).into(),
            });
        }
        let failed = |error| unusable(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        prepare(&connection).map_err(failed)?;
        // Until it is closed. The first read settles what it sees.
        connection.execute_batch("BEGIN").map_err(failed)?;
        known(path, &connection)?;
        Ok(Sqlite {
            connection: Some(connection),
            lock: None,
            others: 0,
        })
    }

    /// Lets somebody else have it. Closing the file would not do where a process that is just being
    /// started still has a copy of it.
    fn unlock(&mut self) {
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.unlock()
        {
            log::warn!("the journal's lock could not be given back: {error}");
        }
    }

    /// Copies the log into the file.
    #[cfg(test)]
    pub(super) fn checkpoint(&mut self) {
        if let Some(connection) = &self.connection {
            let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
            assert_eq!(moved, Ok(0));
        }
    }

    /// Whether only looking is allowed.
    pub(super) fn is_look(&self) -> bool {
        self.lock.is_none()
    }

    /// Reads the whole file, and says what SQLite finds wrong with it.
    pub(super) fn check(&self, path: &Path) -> Result<(), JournalError> {
        let connection = self
            .connection()
            .map_err(|error| super::unusable(path, error))?;
        whole(path, connection)
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection
            .as_ref()
            .ok_or_else(|| StoreError::Failed("the journal is closed".to_owned()))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The file first.
        self.connection = None;
        self.unlock();
    }
}

fn prepare(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(Duration::from_secs(10))?;
    // A file from elsewhere can't run anything.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // After a failed write nothing may be written any more, a last checkpoint neither: `close` allows
    // it again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn make(connection: &Connection) -> Result<(), Error> {
    let tables = TABLES.join(";");
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; \
         {tables}; COMMIT;"
    ))
}

/// Changes once another connection has written.
fn others(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

fn unusable(path: &Path, error: Error) -> JournalError {
    super::unusable(path, error.into())
}

/// Whether it is a journal, of this version.
fn known(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let failed = |error| unusable(path, error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(failed)?;
    if application != APPLICATION {
        return Err(JournalError::NotAJournal {
            path: path.to_owned(),
        });
    }
    let found = pragma("user_version").map_err(failed)?;
    if found != FORMAT {
        return Err(JournalError::Format {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    // A column of which a letter was flipped may read as nothing.
    let mut tables = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .map_err(failed)?;
    let mut tables = tables
        .query_map([], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?;
    let mut known = TABLES;
    known.sort_unstable();
    tables.sort_unstable();
    if tables != known {
        return Err(JournalError::Corrupt {
            path: path.to_owned(),
            why: "its tables are not those of a journal".to_owned(),
        });
    }
    Ok(())
}

/// Whether it is whole as far as SQLite can tell.
fn whole(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let failed = |error| unusable(path, error);
    let mut ill = connection
        .prepare("PRAGMA integrity_check(1)")
        .map_err(failed)?;
    let ill: String = ill.query_row([], |row| row.get(0)).map_err(failed)?;
    if ill != "ok" {
        return Err(JournalError::Corrupt {
            path: path.to_owned(),
            why: ill,
        });
    }
    Ok(())
}

fn text(row: &Row<'_>, at: usize) -> Result<String, Error> {
    row.get(at)
}

fn task_row(row: &Row<'_>) -> Result<(TaskRow, Blob), Error> {
    let task = TaskRow {
        id: row.get::<_, i64>(0)? as u64,
        key: row.get::<_, Option<String>>(1)?.map(Into::into),
        stage: row.get(2)?,
        state: text(row, 3)?.into(),
        stuck: row.get(4)?,
        more: row.get(5)?,
        sum: row.get(6)?,
    };
    let context = Blob {
        bytes: row.get(7)?,
        sum: row.get(8)?,
    };
    Ok((task, context))
}

fn undo_row(row: &Row<'_>) -> Result<(UndoRow, Blob), Error> {
    let undo = UndoRow {
        task: row.get::<_, i64>(0)? as u64,
        undo: row.get(1)?,
        more: row.get(2)?,
        sum: row.get(3)?,
    };
    let value = Blob {
        bytes: row.get(4)?,
        sum: row.get(5)?,
    };
    Ok((undo, value))
}

fn kept_row(row: &Row<'_>) -> Result<KeptRow, Error> {
    Ok(KeptRow {
        key: text(row, 0)?.into(),
        task: row.get::<_, i64>(1)? as u64,
        at: row.get::<_, i64>(2)? as u64,
        outcome: row.get(3)?,
        output: row.get(4)?,
        sum: row.get(5)?,
    })
}

fn block_row(row: &Row<'_>) -> Result<BlockRow, Error> {
    Ok(BlockRow {
        number: row.get::<_, i64>(0)? as u64,
        at: row.get::<_, i64>(1)? as u64,
        count: row.get::<_, i64>(2)? as u64,
        body: row.get(3)?,
        sum: row.get(4)?,
    })
}

/// Those that could be read, and why the others could not.
type Read<T> = (Vec<T>, Vec<Corrupt>);

impl Sqlite {
    /// The words about the journal itself.
    pub(super) fn words(&self) -> Result<Read<(String, String)>, StoreError> {
        let mut words = self
            .connection()?
            .prepare("SELECT name, value, sum FROM word")?;
        let mut rows = words.query([])?;
        let mut read = Read::default();
        while let Some(row) = rows.next()? {
            let (name, value) = (text(row, 0)?, text(row, 1)?);
            if word_sum(&name, &value) == row.get::<_, u32>(2)? {
                read.0.push((name, value));
            } else {
                let what = format!("the word {name:?}");
                read.1.push(Corrupt::new(what, "its checksum differs"));
            }
        }
        Ok(read)
    }

    pub(super) fn stages(&self) -> Result<Read<StageRow>, StoreError> {
        let mut stages = self
            .connection()?
            .prepare("SELECT number, name, version, sum FROM stage ORDER BY number")?;
        let mut rows = stages.query([])?;
        let mut read = Read::default();
        while let Some(row) = rows.next()? {
            let stage = StageRow {
                number: row.get(0)?,
                name: text(row, 1)?,
                version: row.get(2)?,
                sum: row.get(3)?,
            };
            match stage.check() {
                Ok(()) => read.0.push(stage),
                Err(corrupt) => read.1.push(corrupt),
            }
        }
        Ok(read)
    }

    /// Reads every task, or the one with this number. What is no row is told of in its place.
    pub(super) fn read_tasks(
        &self,
        only: Option<u64>,
        each: &mut dyn FnMut(Result<TaskRead, Corrupt>),
    ) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let of = |column| {
            only.map_or(String::new(), |id| {
                format!("WHERE {column} = {}", id as i64)
            })
        };
        let mut tasks = connection.prepare(&format!(
            "SELECT id, key, stage, state, stuck, more, sum, context, context_sum FROM task {} \
             ORDER BY id",
            of("id")
        ))?;
        let mut undos = connection.prepare(&format!(
            "SELECT task, undo, more, sum, value, value_sum FROM undo {} ORDER BY task, undo",
            of("task")
        ))?;
        let mut tasks = tasks.query([])?;
        let mut undos = undos.query([])?;
        let mut next = next_row(&mut undos, undo_row, each)?;
        while let Some((task, context)) = next_row(&mut tasks, task_row, each)? {
            let mut own = Vec::new();
            while let Some(undo) = next.take_if(|(undo, _)| undo.task <= task.id) {
                if undo.0.task < task.id {
                    each(Err(orphan(&undo.0)));
                } else {
                    own.push(undo);
                }
                next = next_row(&mut undos, undo_row, each)?;
            }
            each(Ok((task, context, own)));
        }
        while let Some((undo, _)) = next {
            each(Err(orphan(&undo)));
            next = next_row(&mut undos, undo_row, each)?;
        }
        Ok(())
    }

    pub(super) fn kept_for(&self, key: &str) -> Result<Option<KeptRow>, StoreError> {
        let mut kept = self.connection()?.prepare_cached(
            "SELECT key, task, at, outcome, output, sum FROM kept WHERE key = ?1",
        )?;
        Ok(kept.query_row([key], kept_row).optional()?)
    }

    pub(super) fn blocks_after(
        &self,
        after: u64,
        most: usize,
    ) -> Result<Vec<BlockRow>, StoreError> {
        let mut blocks = self.connection()?.prepare_cached(
            "SELECT number, at, count, body, sum FROM outcomes WHERE number > ?1 \
             ORDER BY number LIMIT ?2",
        )?;
        let blocks = blocks.query_map(params![after as i64, most as i64], block_row)?;
        Ok(blocks.collect::<Result<_, _>>()?)
    }

    /// How many outcomes are kept, and the last block's number.
    pub(super) fn outcomes(&self) -> Result<(u64, u64), StoreError> {
        let (outcomes, last): (i64, i64) = self.connection()?.query_row(
            "SELECT coalesce(sum(count), 0), coalesce(max(number), 0) FROM outcomes",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok((outcomes.max(0) as u64, last.max(0) as u64))
    }
}

/// The next row that is one; of those before it, why they are none.
fn next_row<T>(
    rows: &mut Rows<'_>,
    read: fn(&Row<'_>) -> Result<T, Error>,
    each: &mut dyn FnMut(Result<TaskRead, Corrupt>),
) -> Result<Option<T>, StoreError> {
    while let Some(row) = rows.next()? {
        match read(row).map_err(StoreError::from) {
            Ok(row) => return Ok(Some(row)),
            Err(StoreError::Corrupt(Corrupt { why, .. })) => {
                let task: i64 = row.get(0).unwrap_or_default();
                each(Err(Corrupt::new(format_args!("a row of task {task}"), why)));
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(None)
}

fn orphan(undo: &UndoRow) -> Corrupt {
    let what = format!("undo {} of task {}", undo.undo, undo.task);
    Corrupt::new(what, "it has no task")
}

impl Store for Sqlite {
    fn contents(&mut self) -> Result<Contents, StoreError> {
        let (words, ill) = self.words()?;
        let (stages, ill_stages) = self.stages()?;
        if let Some(corrupt) = ill.into_iter().chain(ill_stages).next() {
            return Err(corrupt.into());
        }
        let connection = self.connection()?;
        let mut blocks = connection.prepare("SELECT number, at, count, body, sum FROM outcomes")?;
        let (mut outcomes, mut last_block, mut last_task) = (0_u64, 0, 0);
        for row in blocks.query_map([], block_row)? {
            let row = row?;
            last_task = last_task.max(row.block()?.last_task());
            outcomes = outcomes.saturating_add(row.count);
            last_block = last_block.max(row.number);
        }
        // They are looked up one by one, and one whose key was damaged would not be found: a second
        // task would be accepted with it.
        let mut kept =
            connection.prepare("SELECT key, task, at, outcome, output, sum FROM kept")?;
        for row in kept.query_map([], kept_row)? {
            row?.check()?;
        }
        Ok(Contents {
            words,
            stages,
            outcomes,
            last_block,
            last_task,
        })
    }

    fn tasks(&mut self, each: &mut dyn FnMut(TaskRead)) -> Result<(), StoreError> {
        let mut ill = None;
        self.read_tasks(None, &mut |task| match task {
            Ok(task) if ill.is_none() => each(task),
            Ok(_) => {}
            Err(corrupt) => drop(ill.get_or_insert(corrupt)),
        })?;
        // The whole file has passed through the cache, and little of it is asked for again.
        self.connection()?.execute_batch("PRAGMA shrink_memory")?;
        ill.map_or(Ok(()), |corrupt| Err(corrupt.into()))
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let connection = self.connection()?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // The lock was deleted, perhaps. Of two, the one that would write next is the one that stops.
        if others(connection)? != self.others {
            return Err(StoreError::Failed(
                "somebody else has written to the journal".to_owned(),
            ));
        }
        let mut statements = Statements::new(connection);
        for op in ops {
            statements.write(op)?;
        }
        drop(statements);
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn kept(&mut self, key: &str) -> Result<Option<KeptRow>, StoreError> {
        self.kept_for(key)
    }

    fn blocks(&mut self, after: u64, most: usize) -> Result<Vec<BlockRow>, StoreError> {
        self.blocks_after(after, most)
    }

    fn close(&mut self, clean: bool) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if clean {
            let name = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = connection.set_db_config(name, false) {
                log::warn!("the journal's log stays beside it: {error}");
            }
        }
        if let Err((_, error)) = connection.close() {
            log::warn!("the journal could not be closed: {error}");
        }
        self.unlock();
    }
}
