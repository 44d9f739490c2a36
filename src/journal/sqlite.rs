//! Rows in a file of SQLite's, in the format that any of its tools reads.

mod error;
mod read;
mod tables;
mod write;

use std::{
    fs::{File, Metadata, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, Error, OpenFlags, config::DbConfig};

pub(super) use self::tables::FORMAT;
use self::{
    error::unusable,
    read::{block_row, kept_row},
    tables::{known, make, whole},
    write::Statements,
};
use super::{
    Durability, JournalError,
    rows::{BlockRow, KeptRow},
    store::{Contents, Op, Store, StoreError, TaskRead},
};

/// Pages of the log before they are copied into the file: 32 MB, so that a page that changes often
/// is copied seldom.
const CHECKPOINT_PAGES: u32 = 8_192;

pub(super) struct Sqlite {
    /// None once it is closed.
    connection: Option<Connection>,
    /// Whoever has it locked is the only one to write.
    lock: Option<File>,
    /// What SQLite counts what others write with.
    others: i64,
}

/// The file beside it that says who has it.
fn lock_path(path: &Path) -> PathBuf {
    beside(path, "-lock")
}

/// The one name of a file that may have others, and no special name of SQLite's (`:memory:`).
pub(super) fn whole_path(path: &Path) -> Result<PathBuf, JournalError> {
    let failed = |error: io::Error| JournalError::Io {
        path: path.to_owned(),
        error: error.into(),
    };
    if path.exists() {
        let path = path.canonicalize().map_err(failed)?;
        regular(&path)?;
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
    let path = folder.canonicalize().map_err(failed)?.join(name);
    regular(&path)?;
    Ok(path)
}

/// Whether a journal and what belongs to it are files, where they are there: a pipe is waited for until
/// somebody else opens it, and what is written to a device goes wherever it goes.
fn regular(path: &Path) -> Result<(), JournalError> {
    let names = ["-lock", "-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix));
    for path in names.iter().map(PathBuf::as_path).chain([path]) {
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(JournalError::Io {
                path: path.to_owned(),
                error: "this is no file, but a folder, a pipe or a device".into(),
            });
        }
    }
    Ok(())
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
    let name = lock_path(path);
    let failed = |error: io::Error| JournalError::Io {
        path: name.clone(),
        error: error.into(),
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
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
        // Its name is in the folder, which is a file of its own. Whoever made it may have been killed
        // before this.
        if let Some(folder) = path.parent() {
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
        if let Err(error) = path.metadata() {
            return Err(JournalError::Io {
                path: path.to_owned(),
                error: error.into(),
            });
        }
        let path = &whole_path(path)?;
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

/// Changes once another connection has written.
fn others(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
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
