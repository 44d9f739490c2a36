//! The undo of a directory that was made, as data, and its run.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use batrun::Failure;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    identity::Identity,
    kept::{self, Name},
    placing::{in_words, look, sync_folder},
};

/// The number of the layout below: another one for each that reads differently.
const LAYOUT: u32 = 1;

/// The undo of a [`MakeDirectory`](crate::MakeDirectory): one directory, to be removed if it is
/// empty. Its `Debug` shows the path.
///
/// A journal keeps it with the number of its layout. One of a layout that this version doesn't know
/// is an error, with which the journal sets its task aside.
#[derive(Clone)]
pub struct MakeDirectoryUndo(pub(super) Step);

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// These may have been made, the deepest first, under names that nobody else uses.
    Staged(Vec<Name<PathBuf>>),
    Made(Made),
}

/// A directory that was made, and may have got to its path.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) path: Name<PathBuf>,
    /// It is here until it gets to its path.
    pub(super) staged: Name<PathBuf>,
    pub(super) identity: Identity,
}

impl fmt::Debug for MakeDirectoryUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.0 {
            Step::Staged(paths) => paths.last(),
            Step::Made(made) => Some(&made.path),
        };
        match path {
            Some(path) => write!(f, "remove {}", path.display()),
            None => f.write_str("remove nothing"),
        }
    }
}

impl Serialize for MakeDirectoryUndo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        kept::serialize::<LAYOUT, _>(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for MakeDirectoryUndo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        kept::deserialize::<LAYOUT, _, _>(deserializer).map(MakeDirectoryUndo)
    }
}

/// Removes what is left under the hidden names, the deepest first.
pub(super) fn remove_staged<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    for path in paths {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(|error| in_words(error, path))?,
        }
    }
    Ok(())
}

/// Removes a directory that this task made, if it is empty.
///
/// # Errors
/// A permanent failure if it isn't empty, or if nobody can tell whether it is this task's.
pub(super) fn remove(made: &Made) -> Result<(), Failure> {
    let path = &**made.path;
    let there = look(path).map_err(|error| in_words(error, path))?;
    let is_ours = |now: &fs::Metadata| now.is_dir() && made.identity.is_of(now);
    if there.as_ref().is_some_and(is_ours) {
        return match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Permanent, because a retry soon after won't find it empty either. The rollback's
            // second round may: by then the undos of later stages have run.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                Err(Failure::permanent(in_words(error, path)))
            }
            Err(error) => Err(in_words(error, path).into()),
            Ok(()) => Ok(sync_folder(path)?),
        };
    }
    let staged = &**made.staged;
    if look(staged)?.is_some() {
        // It never got to its path, so whatever is there is somebody else's.
        return Ok(remove_staged([staged].into_iter())?);
    }
    match there {
        None => Ok(()),
        // This task's is gone: somebody removed it, perhaps an earlier run of this undo.
        Some(now) if made.identity.is_surely_not(&now) => Ok(()),
        Some(_) => Err(Failure::permanent(format!(
            "{} may not be the one that this task made, so it was not removed",
            path.display()
        ))),
    }
}
