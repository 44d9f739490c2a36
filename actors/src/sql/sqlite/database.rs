//! A connection that knows its files, because SQLite doesn't look whether they are still the ones
//! that the path leads to.
//!
//! With a rollback journal it notices a file that was moved when it writes, and refuses to write from
//! then on. With a write-ahead log it never does: what it commits is in no file that has a name.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Error, OpenFlags};

/// A connection, and the files that it was opened on.
pub(super) struct Database {
    pub(super) connection: Connection,
    /// `None` if it is in memory.
    file: Option<Named>,
    /// The write-ahead log, once there is one.
    log: Option<Named>,
}

/// The file that a path led to. `id` is `None` where files have no numbers.
struct Named {
    path: PathBuf,
    id: Option<Id>,
}

/// The device and the number on it.
type Id = (u64, u64);

impl Database {
    /// Opens the database, and creates it if told so.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, Error> {
        let mut flags = OpenFlags::default();
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
        // The last one counts, however often the file is replaced meanwhile.
        for last in [false, false, true] {
            let before = id(path).ok();
            let connection = Connection::open_with_flags(path, flags)?;
            let file = file(path, &connection);
            if before.is_none() || before == file.as_ref().map(|file| file.id) || last {
                return Ok(Database {
                    connection,
                    file,
                    log: None,
                });
            }
        }
        unreachable!("the last one was returned")
    }

    /// `true` if its files are those that the path leads to.
    pub(super) fn is_current(&self) -> bool {
        let files = self.file.iter().chain(&self.log);
        files.into_iter().all(|file| {
            let now = id(&file.path);
            file.id.is_none() || now.is_ok_and(|now| now == file.id)
        })
    }

    /// Remembers the write-ahead log. A transaction must be open, which makes it be there if the
    /// database has one.
    pub(super) fn find_log(&mut self) {
        if self.log.is_some() || !self.has_log() {
            return;
        }
        // SQLite puts it beside the file itself, not beside a link to it.
        let Some(path) = self.connection.path().filter(|path| !path.is_empty()) else {
            return;
        };
        let mut path = OsString::from(path);
        path.push("-wal");
        let path = PathBuf::from(path);
        if let Ok(id) = id(&path) {
            self.log = Some(Named { path, id });
        }
    }

    fn has_log(&self) -> bool {
        let mode = self
            .connection
            .query_row("PRAGMA journal_mode", (), |row| row.get::<_, String>(0));
        mode.is_ok_and(|mode| mode == "wal")
    }
}

/// The database's file, named as the program does, so that a link that leads elsewhere is noticed.
fn file(path: &Path, connection: &Connection) -> Option<Named> {
    let own = connection.path().filter(|path| !path.is_empty())?;
    let named = std::path::absolute(path).ok();
    // It doesn't exist by that name if the name is a URI.
    let named = named.filter(|path| path.exists());
    let path = named.unwrap_or_else(|| own.into());
    let id = id(&path).ok()?;
    Some(Named { path, id })
}

#[cfg(unix)]
fn id(path: &Path) -> io::Result<Option<Id>> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    Ok(Some((metadata.dev(), metadata.ino())))
}

/// Elsewhere an open file can't be replaced.
#[cfg(not(unix))]
fn id(path: &Path) -> io::Result<Option<Id>> {
    fs::metadata(path).map(|_| None)
}
