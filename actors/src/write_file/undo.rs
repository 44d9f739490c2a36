//! The undo of a file that was written, as data, and its run.

use std::{
    fmt,
    fs::{self, File, Metadata, Permissions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use batrun::Failure;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::write_new;
use crate::{
    identity::{self, Identity},
    kept::{self, Bytes, Name},
    placing::{in_words, look, sync_folder},
};

/// The number of the layout below: another one for each that reads differently.
const LAYOUT: u32 = 1;

/// The undo of a [`WriteFile`](crate::WriteFile): a file to be removed, or to be restored with its
/// earlier content.
///
/// Its `Debug` shows path and size, no contents, because reports print it. A journal keeps it with
/// the number of its layout. One of a layout that this version doesn't know is an error, with which
/// the journal sets its task aside.
#[derive(Clone)]
pub struct WriteFileUndo(pub(super) Step);

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// A temporary file may have been made, under a name that nobody else uses.
    Temporary(Name<PathBuf>),
    Renamed(Renamed),
}

/// A file that was written, and may have been renamed to the path.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Renamed {
    pub(super) path: Name<PathBuf>,
    /// It is here until it is renamed.
    pub(super) temporary: Name<PathBuf>,
    pub(super) written: Written,
    pub(super) before: Option<Before>,
}

/// The properties by which the written file is recognised.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Written {
    identity: Identity,
    modified: Option<SystemTime>,
    /// Of the content: a change within one tick of the file system's clock leaves the time as it is.
    sha256: Bytes,
}

/// The file that was there before.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) content: Bytes,
    pub(super) access: Access,
}

/// A file's permissions.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Access {
    /// On systems that have modes.
    mode: Option<u32>,
    readonly: bool,
}

impl Access {
    pub(super) fn of(permissions: &Permissions) -> Self {
        #[cfg(unix)]
        let mode = Some(std::os::unix::fs::PermissionsExt::mode(permissions) & 0o7777);
        #[cfg(not(unix))]
        let mode = None;
        Access {
            mode,
            readonly: permissions.readonly(),
        }
    }

    pub(super) fn give_to(self, file: &File) -> io::Result<()> {
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(self.readonly);
        #[cfg(unix)]
        if let Some(mode) = self.mode {
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, mode);
        }
        file.set_permissions(permissions)
    }
}

impl Written {
    pub(super) fn of(metadata: &Metadata, content: &[u8]) -> Self {
        Written {
            identity: Identity::of(metadata),
            modified: modified(metadata),
            sha256: digest(content),
        }
    }

    /// `true` if it is the file at the path.
    fn is_at(&self, path: &Path, now: &Metadata) -> io::Result<bool> {
        let same = now.is_file() && self.identity.is_of(now) && self.modified == modified(now);
        Ok(same && digest(&fs::read(path)?) == self.sha256)
    }
}

fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok().filter(identity::is_kept)
}

fn digest(content: &[u8]) -> Bytes {
    Bytes(Sha256::digest(content)[..].into())
}

impl fmt::Debug for WriteFileUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Step::Temporary(path) => write!(f, "remove {}", path.display()),
            Step::Renamed(Renamed { path, before, .. }) => match before {
                None => write!(f, "remove {}", path.display()),
                Some(Before { content, .. }) => {
                    write!(f, "restore {} ({} bytes)", path.display(), content.len())
                }
            },
        }
    }
}

impl Serialize for WriteFileUndo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        kept::serialize::<LAYOUT, _>(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for WriteFileUndo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        kept::deserialize::<LAYOUT, _, _>(deserializer).map(WriteFileUndo)
    }
}

/// Restores the file that was at the path before, if the one that is there now is the written one.
///
/// # Errors
/// A permanent failure if somebody else has changed it since.
pub(super) fn restore(undo: &Renamed) -> Result<(), Failure> {
    let path = &**undo.path;
    let now = look(path).map_err(|error| in_words(error, path))?;
    let ours = match &now {
        Some(now) => undo.written.is_at(path, now)?,
        None => false,
    };
    // The name of the old content's way back. A kill may have left one of an earlier run.
    let old = name_of_old(&undo.temporary);
    remove(&old)?;
    match &undo.before {
        Some(before) if ours => {
            let put = write_new(&old, &before.content, Some(before.access))
                .and_then(|()| fs::rename(&old, path));
            if put.is_err() {
                // An error of this is dropped: the first one says why the undo fails.
                remove(&old).ok();
            }
            put?;
        }
        None if ours => remove(path)?,
        // It was never renamed, so whatever is at the path is somebody else's.
        _ if look(&undo.temporary)?.is_some() => remove(&undo.temporary)?,
        // Nothing was renamed, or an earlier run of this undo has restored it already.
        None if now.is_none() => {}
        Some(before) if now.is_some_and(|now| now.is_file()) && is(path, before)? => {}
        _ => {
            let why = format!(
                "{} was changed after this task wrote it, so it was not restored",
                path.display()
            );
            return Err(Failure::permanent(why));
        }
    }
    match sync_folder(path) {
        // The undo of the folder's stage has run before this one was repeated.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        synced => Ok(synced?),
    }
}

pub(super) fn name_of_old(temporary: &Path) -> PathBuf {
    let mut name = temporary.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

fn is(path: &Path, before: &Before) -> io::Result<bool> {
    Ok(fs::read(path)? == *before.content)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
