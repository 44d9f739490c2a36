//! A stage that writes a file; its undo restores the one that was there before.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    marker::PhantomData,
    path::{Path, PathBuf},
};

use batrun::{CancelContext, Failure, Stage, TaskContext};

use crate::{
    kept::{Bytes, Name},
    placing::{in_words, place_file, sync_folder, temporary_for},
};

pub use undo::WriteFileUndo;
use undo::{Access, Before, Renamed, Step, Written};

mod undo;

/// Default of [`WriteFile::largest`], in bytes.
const LARGEST: u64 = 16 << 20;

/// A stage that writes a whole file or nothing; its undo restores the file that was there before.
///
/// Closures make path and content from the context, which goes on unchanged. The content is written
/// to a temporary file in the same folder, which is synced to the disk and then renamed to the
/// path; then the folder is synced. A file that was there before is replaced: its permissions are
/// kept, its owner is not, and the undo holds its content. It blocks (a sync takes milliseconds or
/// more), so each of its workers has a thread of its own.
///
/// # Undo
/// The undo acts only on the file that this task wrote. If somebody else has replaced, changed or
/// removed it since, the undo fails, and the task is stuck until a person has looked.
///
/// # With a journal
/// A process may be killed at any instant: after the restart, the undo tells by the file's inode,
/// its times and a digest of its content whether the file at the path is this task's, and removes
/// what is left under the temporary name.
///
/// - The journal keeps the content of a file that was replaced until the task has ended. Whoever may
///   read the journal may read it there.
/// - Where the file system keeps no time of birth, the device's number counts too. It may be another
///   one after a reboot: the undo then doesn't recognise the file, and the task is stuck.
///
/// # Errors
/// - Permanent: anything at the path that isn't a regular file (a folder, a symbolic link), a file
///   larger than [`largest`](Self::largest), and a path without a file name.
/// - May be tried again: any other error of the file system, and a new file that somebody else made
///   at the path at the same time.
///
/// # Cancel safety
/// Each step is registered as an undo before it is taken: a deadline between two of them leaves no
/// temporary file.
///
/// # Limits
/// - Write a path once in a task, and by one task at a time. A restored file is a new one with the
///   old content, so the undo of an earlier write of the same path doesn't recognise it, and fails.
/// - Where a file is replaced, another writer of the same path is not seen between the stage's last
///   look and its rename, some microseconds. Where none was there, on file systems without a rename
///   that replaces nothing (NFS among them).
///
/// ```
/// use batrun::prelude::*;
/// use batrun_actors::WriteFile;
///
/// let folder = tempfile::tempdir()?;
/// let root = folder.path().to_owned();
/// let greet = WriteFile::new(
///     move |name: &String| root.join(name).with_extension("txt"),
///     |name: &String| format!("Hello {name}\n"),
/// );
/// let check = stage_fn("check", async |name: String, _: &TaskContext<()>| match &*name {
///     "Eve" => Err(Failure::permanent("not on the list")),
///     _ => Ok(name),
/// });
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("greetings")
///         .producer(from_iter(["Ada", "Eve"].map(String::from)))
///         .stage(greet.workers(2))
///         .stage(check)
///         .run(),
/// )?;
/// assert_eq!((report.counts.done, report.counts.failed), (1, 1));
/// assert_eq!(std::fs::read_to_string(folder.path().join("Ada.txt"))?, "Hello Ada\n");
/// assert!(!folder.path().join("Eve.txt").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WriteFile<I, P, C> {
    path: P,
    content: C,
    largest: u64,
    input: PhantomData<fn(I) -> I>,
}

impl<I, P, C> WriteFile<I, P, C> {
    /// A stage that writes the content that `content` makes from a task's context to the path that
    /// `path` makes from it. The folder has to exist. Both closures are called once in each
    /// attempt.
    pub fn new<B>(path: P, content: C) -> Self
    where
        P: Fn(&I) -> PathBuf,
        C: Fn(&I) -> B,
        B: AsRef<[u8]>,
    {
        WriteFile {
            path,
            content,
            largest: LARGEST,
            input: PhantomData,
        }
    }

    /// Maximum size of a file that is replaced, in bytes. Its content is kept in memory, in the
    /// undo, until the task has ended. A larger one fails the task for good. Default: 16 MiB.
    pub fn largest(mut self, bytes: u64) -> Self {
        self.largest = bytes;
        self
    }
}

impl<I, P: Clone, C: Clone> Clone for WriteFile<I, P, C> {
    fn clone(&self) -> Self {
        WriteFile {
            path: self.path.clone(),
            content: self.content.clone(),
            largest: self.largest,
            input: PhantomData,
        }
    }
}

impl<I, P, C, B> Stage for WriteFile<I, P, C>
where
    I: Send + 'static,
    P: Fn(&I) -> PathBuf + 'static,
    C: Fn(&I) -> B + 'static,
    B: AsRef<[u8]>,
{
    type Input = I;
    type Output = I;
    type Undo = WriteFileUndo;

    const BLOCKING: bool = true;

    async fn run(&mut self, input: I, task: &TaskContext<'_, WriteFileUndo>) -> Result<I, Failure> {
        let path = (self.path)(&input);
        let content = (self.content)(&input);
        let content = content.as_ref();
        let temporary = temporary_for(&path)?;
        let before = look(&path, self.largest)?;

        let undo = WriteFileUndo(Step::Temporary(Name(temporary.clone())));
        let first = task.on_cancel(undo).await?;
        let access = before.as_ref().map(|before| before.access);
        match write_new(&temporary, content, access) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Nobody should use such a name, but if somebody does, the file isn't ours to
                // remove.
                first.withdraw().await?;
                return Err(in_words(error, &temporary).into());
            }
            other => other.map_err(|error| in_words(error, &temporary))?,
        }

        let written = Written::of(&fs::symlink_metadata(&temporary)?, content);
        let is_new = before.is_none();
        let renamed = WriteFileUndo(Step::Renamed(Renamed {
            path: Name(path.clone()),
            temporary: Name(temporary.clone()),
            written,
            before,
        }));
        // Together, so that a journal has both or none: the second undo sees by the temporary name
        // whether the rename took place, and the first one would remove that.
        let (registered, withdrawn) = tokio::join!(task.on_cancel(renamed), first.withdraw());
        if let Err(error) = registered {
            // It may not have been registered.
            undo::remove(&temporary).ok();
            return Err(error.into());
        }
        withdrawn?;
        match is_new {
            true => place_file(&temporary, &path),
            false => fs::rename(&temporary, &path),
        }
        .map_err(|error| in_words(error, &path))?;
        sync_folder(&path)?;
        Ok(input)
    }

    async fn cancel(
        &mut self,
        WriteFileUndo(step): WriteFileUndo,
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        match step {
            Step::Temporary(path) => Ok(undo::remove(&path)?),
            Step::Renamed(renamed) => undo::restore(&renamed),
        }
    }
}

/// The file at the path, if there is one, for the undo to keep.
///
/// # Errors
/// A permanent failure if it isn't a regular file or is larger than `largest` bytes.
fn look(path: &Path, largest: u64) -> Result<Option<Before>, Failure> {
    let looked = crate::placing::look(path).map_err(|error| in_words(error, path))?;
    let Some(metadata) = looked else {
        return Ok(None);
    };
    let refuse = |why: String| Failure::permanent(format!("{} {why}", path.display()));
    if !metadata.is_file() {
        return Err(refuse("exists and is not a regular file".to_owned()));
    }
    if metadata.len() > largest {
        return Err(refuse(format!(
            "has {} bytes, more than the {largest} that may be kept for the undo",
            metadata.len()
        )));
    }
    let content = fs::read(path).map_err(|error| in_words(error, path))?;
    Ok(Some(Before {
        content: Bytes(content.into()),
        access: Access::of(&metadata.permissions()),
    }))
}

/// Options for a file that must not exist yet. Until it has its final permissions, nobody else may
/// read it, because its content may be a secret.
fn private(access: Option<Access>) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access.is_some() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    options
}

/// Writes a file that must not exist yet, and syncs it.
fn write_new(path: &Path, content: &[u8], access: Option<Access>) -> io::Result<()> {
    let mut file = private(access).open(path)?;
    file.write_all(content)?;
    if let Some(access) = access {
        access.give_to(&file)?;
    }
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
