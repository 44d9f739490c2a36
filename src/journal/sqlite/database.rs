//! An open journal: its connection, and the lock if it was opened for writing.

use std::{fs::File, io, path::Path, time::Duration};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    error::journal_error,
    lock::Lock,
    path::{OpenFiles, beside, canonical_path},
    schema::{check_format, check_integrity, create_tables},
};
use crate::{
    journal::{
        durability::Durability,
        error::JournalError,
        store::{StoreError, Writes},
    },
    logging,
};

/// The log is copied into the file once it has this many pages, 32 MB: a page that changes often
/// is copied seldom.
const CHECKPOINT_PAGES: u32 = 8_192;

/// The log is cut to this size, in bytes, once it is copied, so that a burst leaves no large file.
const LOG_SIZE_LIMIT: u32 = 64 << 20;

/// The size of SQLite's page cache: negative numbers are KiB.
const CACHE_SIZE: i32 = -65_536;

/// The longest wait for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A journal's file.
pub(in crate::journal) struct Sqlite {
    /// `None` once it is closed.
    connection: Option<Connection>,
    /// `None` if the file was opened for reading, or is closed.
    lock: Option<Lock>,
    /// SQLite's count of the commits of other connections, when this one was opened.
    foreign_commits: i64,
    /// `None` if it was opened for reading.
    files: Option<OpenFiles>,
}

impl Sqlite {
    /// Opens a journal for writing, and creates it if there is none.
    pub(in crate::journal) fn open(
        path: &Path,
        durability: Durability,
    ) -> Result<Self, JournalError> {
        let path = &canonical_path(path)?;
        let lock = Lock::take(path)?;
        refuse_log_without_file(path)?;
        let failed = |error| journal_error(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if tables == 0 {
            create_tables(&connection).map_err(failed)?;
        } else {
            check_format(path, &connection)?;
            check_integrity(path, &connection)?;
        }
        configure_writes(&connection, durability).map_err(failed)?;
        sync_folder(path)?;
        let foreign_commits = foreign_commits(&connection).map_err(failed)?;
        Ok(Sqlite {
            connection: Some(connection),
            lock: Some(lock),
            foreign_commits,
            files: Some(OpenFiles::of(path)?),
        })
    }

    /// Opens a journal for reading, also while a pipeline writes to it. Everything is read as it
    /// is at this moment.
    pub(in crate::journal) fn open_read_only(path: &Path) -> Result<Self, JournalError> {
        path.metadata()
            .map_err(|error| JournalError::io(path, error))?;
        let path = &canonical_path(path)?;
        let failed = |error| journal_error(path, error);
        let connection = match connect_for_reading(path, Reader::BesideAWriter) {
            Err(error) if needs_write_access(&error) => {
                let log = beside(path, "-wal");
                if log.metadata().is_ok_and(|log| log.len() > 0) {
                    return Err(JournalError::io(path, unreadable_log(&log)));
                }
                connect_for_reading(path, Reader::Alone).map_err(failed)?
            }
            connected => connected.map_err(failed)?,
        };
        check_format(path, &connection)?;
        Ok(Sqlite {
            connection: Some(connection),
            lock: None,
            foreign_commits: 0,
            files: None,
        })
    }

    /// Returns true if the journal was opened for reading only.
    pub(in crate::journal) fn is_read_only(&self) -> bool {
        self.lock.is_none()
    }

    /// Reads the whole file, and returns the first damage that SQLite finds.
    pub(in crate::journal) fn check(&self, path: &Path) -> Result<(), JournalError> {
        let connection = self
            .connection()
            .map_err(|error| JournalError::store(path, error))?;
        check_integrity(path, connection)
    }

    pub(super) fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection
            .as_ref()
            .ok_or_else(|| StoreError::Failed("the journal is closed".to_owned()))
    }

    /// Refuses to go on once another connection has written to the file.
    ///
    /// The lock excludes that, unless somebody deleted the file `-lock`. Of two writers, the one
    /// that would write next stops.
    pub(super) fn refuse_foreign_commits(&self) -> Result<(), StoreError> {
        if foreign_commits(self.connection()?)? == self.foreign_commits {
            return Ok(());
        }
        Err(StoreError::Failed(
            "another program has written to the journal while this pipeline had it open".to_owned(),
        ))
    }

    /// Refuses to say that a commit is recorded once its file isn't found any more by its name.
    pub(super) fn refuse_missing_files(&mut self) -> Result<(), StoreError> {
        match self.files.as_mut().and_then(OpenFiles::missing) {
            Some(missing) => Err(StoreError::Failed(missing)),
            None => Ok(()),
        }
    }

    /// Closes the file, then gives the lock back.
    pub(super) fn close_file(&mut self, writes: Writes) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if writes == Writes::Succeeded {
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = connection.set_db_config(no_checkpoint, false) {
                logging::warning!(
                    "the journal's log stays beside it, where the next start finds it: {error}"
                );
            }
        }
        if let Err((_, error)) = connection.close() {
            logging::warning!("SQLite could not close the journal: {error}");
        }
        self.unlock();
    }

    fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.release();
        }
    }

    /// Copies the log into the file.
    #[cfg(test)]
    pub(in crate::journal) fn checkpoint(&mut self) {
        if let Some(connection) = &self.connection {
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
            assert_eq!(busy, Ok(0));
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The file first: whoever gets the lock next must not meet this connection.
        self.connection = None;
        self.unlock();
    }
}

/// A reader of a journal's file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It takes part in SQLite's locking, in files beside the journal that it may have to make.
    BesideAWriter,
    /// Nobody has the journal open: the file is all that there is.
    Alone,
}

/// Opens a file, and begins one transaction until it is closed. The read in it settles the state that
/// all later ones see.
fn connect_for_reading(path: &Path, reader: Reader) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if reader == Reader::Alone {
        let uri = format!("file:{}?immutable=1", uri_path(path));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    configure(&connection)?;
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// A path within an URI: all but the plainest letters are escaped.
fn uri_path(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// SQLite wants to make files beside the journal, and may not.
fn needs_write_access(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)
    )
}

fn unreadable_log(log: &Path) -> io::Error {
    let why = format!(
        "{} has changes that only who may write into its folder can read; run this as the pipeline's \
         user, or copy the journal together with its -wal file to a folder of yours",
        log.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Refuses a log whose file is missing or empty: SQLite would throw that log away.
fn refuse_log_without_file(path: &Path) -> Result<(), JournalError> {
    let empty = path.metadata().map_or(true, |file| file.len() == 0);
    let log = beside(path, "-wal");
    if empty && log.metadata().is_ok_and(|log| log.len() > 0) {
        let why = "the file is missing or empty, and its log (-wal) is not";
        return Err(JournalError::corrupt(path, why));
    }
    Ok(())
}

/// Settings of every connection.
fn configure(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A file from elsewhere can't run anything.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Nothing may be written after a failed write, not even a last checkpoint. `close_file` allows
    // it when every write succeeded.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", CACHE_SIZE)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Settings of a connection that writes.
fn configure_writes(connection: &Connection, durability: Durability) -> Result<(), Error> {
    let synchronous = match durability {
        // Each commit is synced to the disk.
        Durability::Power => "FULL",
        // Only what a checkpoint depends on is synced.
        Durability::Process => "NORMAL",
    };
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_SIZE_LIMIT)
}

/// Syncs the folder, which holds the name of the file.
///
/// This happens at every start, not only when the file is new: the process that created it may
/// have been killed before it came so far.
fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| JournalError::io(folder, error))
}

/// SQLite's count of the commits of other connections. It changes with each of them.
fn foreign_commits(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}
