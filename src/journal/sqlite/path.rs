//! The path of a journal, and of the files beside it.

use std::{
    fs::Metadata,
    io,
    path::{Path, PathBuf},
};

use crate::journal::error::JournalError;

/// The path of the file that goes with a journal under this suffix.
pub(in crate::journal) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the path absolute, and refuses files that can't be a journal.
///
/// The lock and the log are found by the journal's name, so a file with a second name would have a
/// second lock. An absolute path is no special name of SQLite's either (`:memory:`).
pub(in crate::journal) fn canonical_path(path: &Path) -> Result<PathBuf, JournalError> {
    let failed = |error| JournalError::io(path, error);
    if path.exists() {
        let path = path.canonicalize().map_err(failed)?;
        refuse_special_files(&path)?;
        refuse_second_name(&path, &path.metadata().map_err(failed)?)?;
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
    refuse_special_files(&path)?;
    Ok(path)
}

/// Refuses a journal that exists and is not a regular file, and so with the files beside it.
///
/// Opening a pipe would wait until somebody opens its other end, and a write to a device has any
/// effect.
fn refuse_special_files(path: &Path) -> Result<(), JournalError> {
    let others = ["-lock", "-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix));
    for path in others.iter().map(PathBuf::as_path).chain([path]) {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(JournalError::Io {
                path: path.to_owned(),
                error: "not a regular file, but a folder, a pipe or a device".into(),
            });
        }
    }
    Ok(())
}

/// The names by which a journal's files are found, and the files that they stood for when it was opened.
///
/// SQLite goes on to write into a file that was removed or replaced, and says that all is well.
pub(super) struct OpenFiles {
    file: (PathBuf, FileId),
    log: (PathBuf, Option<FileId>),
}

/// Device and inode, where there are such.
type FileId = (u64, u64);

impl OpenFiles {
    /// Right after they were opened.
    pub(super) fn of(journal: &Path) -> Result<Self, JournalError> {
        let file = file_id(journal).map_err(|error| JournalError::io(journal, error))?;
        let log = beside(journal, "-wal");
        let log_id = file_id(&log).ok();
        Ok(OpenFiles {
            file: (journal.to_owned(), file),
            log: (log, log_id),
        })
    }

    /// Says which of them is no longer the one that was opened, if any.
    pub(super) fn missing(&mut self) -> Option<String> {
        let (path, opened) = &self.file;
        let file = match file_id(path) {
            Ok(now) if now == *opened => None,
            Ok(_) => Some((path, "another file is there now".to_owned())),
            Err(error) => Some((path, error.to_string())),
        };
        let (path, opened) = &mut self.log;
        let log = match (file_id(path), opened) {
            (Ok(now), Some(opened)) if now == *opened => None,
            (Ok(_), Some(_)) => Some((&*path, "another file is there now".to_owned())),
            // The first write makes it.
            (Ok(now), opened) => {
                *opened = Some(now);
                None
            }
            (Err(error), _) => Some((&*path, error.to_string())),
        };
        let (path, why) = file.or(log)?;
        Some(format!(
            "{} was removed, moved or replaced while this pipeline had it open ({why}); nothing more \
             is recorded. Put the files back, then start the pipeline again",
            path.display()
        ))
    }
}

#[cfg(unix)]
fn file_id(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}

/// Elsewhere a file that is open can't be removed.
#[cfg(not(unix))]
fn file_id(path: &Path) -> io::Result<FileId> {
    path.metadata().map(|_| (0, 0))
}

#[cfg(unix)]
fn refuse_second_name(path: &Path, file: &Metadata) -> Result<(), JournalError> {
    if std::os::unix::fs::MetadataExt::nlink(file) > 1 {
        return Err(JournalError::Io {
            path: path.to_owned(),
            error: "the file has several names (hard links), and a journal may have only one; \
                    delete the others, or copy the file"
                .into(),
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_second_name(_: &Path, _: &Metadata) -> Result<(), JournalError> {
    Ok(())
}
