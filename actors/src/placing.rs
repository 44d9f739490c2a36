//! Puts files and directories into their places whole: made under a name that nobody else uses,
//! then renamed.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use batrun::Failure;

/// A name in the same folder that nobody else uses, now or after a restart: with the process, a
/// count and the time.
pub(crate) fn temporary_for(path: &Path) -> Result<PathBuf, Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        let why = format!("{} has no file name", path.display());
        return Err(Failure::permanent(why));
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut hidden = OsString::from(".");
    // Not the whole name, which may be as long as the file system allows.
    hidden.push(name.to_string_lossy().chars().take(20).collect::<String>());
    hidden.push(format!(".{}-{count}-{}", process::id(), since.as_nanos()));
    Ok(path.with_file_name(hidden))
}

/// The metadata of what is at the path, links not followed; `None` if nothing is.
pub(crate) fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames a directory to a path at which nothing is.
///
/// # Errors
/// `AlreadyExists` if something is there. Otherwise those of a rename.
pub(crate) fn place_directory(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(renamed) = rename_exclusively(from, to) {
        return renamed;
    }
    // A rename replaces an empty directory. The path is claimed first, so that it is not somebody
    // else's.
    fs::create_dir(to)?;
    let renamed = fs::rename(from, to);
    if renamed.is_err() {
        // The error of the rename says more.
        fs::remove_dir(to).ok();
    }
    renamed
}

/// Renames a file to a path at which nothing is. Where the file system has no rename of that kind,
/// a file that comes in the last microseconds is replaced.
///
/// # Errors
/// `AlreadyExists` if something is there. Otherwise those of a rename.
pub(crate) fn place_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(renamed) = rename_exclusively(from, to) {
        return renamed;
    }
    match look(to)? {
        None => fs::rename(from, to),
        Some(_) => Err(ErrorKind::AlreadyExists.into()),
    }
}

/// `None` if the system or the file system can't.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_exclusively(from: &Path, to: &Path) -> Option<io::Result<()>> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => None,
        renamed => Some(renamed.map_err(io::Error::from)),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_exclusively(_: &Path, _: &Path) -> Option<io::Result<()>> {
    None
}

/// Syncs the folder that a path is in, so that a rename or a removal there survives a loss of power.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    sync(folder.unwrap_or(Path::new(".")))
}

/// Syncs a folder.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    // Other systems can't open a folder like a file.
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// An I/O error with its path.
pub(crate) fn in_words(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
