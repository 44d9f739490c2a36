//! A stage that makes a directory; its undo removes it.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    marker::PhantomData,
    path::{Component, Path, PathBuf},
};

use batrun::{CancelContext, Failure, Stage, TaskContext, stage::Registered};

use crate::{
    identity::Identity,
    kept::Name,
    placing::{in_words, look, place_directory, sync, sync_folder, temporary_for},
};

pub use undo::MakeDirectoryUndo;
use undo::{Made, Step};

mod undo;

/// A stage that makes a directory; its undo removes it.
///
/// A closure makes the path from the context, which goes on unchanged. The directory is made beside
/// its path, under a hidden name that nobody else uses, and then renamed to the path; with
/// [`parents`](Self::parents) all of them are made there and renamed in one step. Everything is
/// synced to the disk. It blocks (a sync takes milliseconds or more), so each of its workers has a
/// thread of its own.
///
/// # Undo
/// The undo removes only directories that this task made, and only if they are empty. A rollback
/// runs the undos in the order in which they were registered, so a directory still contains the
/// files of later stages at the first try; they are gone when the rollback comes back to it. If
/// anything is in it even then, somebody else put it there, and the task is stuck until a person
/// has looked.
///
/// A directory is recognised by its inode and the time of its birth, which are registered before it
/// gets to its path. One that somebody else put in its place stays, and the undo has nothing to do.
/// Where the file system keeps no such time, the task is stuck then, and one that was made anew with
/// the same inode passes for this task's: it is removed if it is empty. On systems without inodes
/// that keep none either, the path alone counts.
///
/// # With a journal
/// A process may be killed at any instant: after the restart, the undo tells in the same way whether
/// the directory at the path is this task's, and removes what is left under the hidden name. It
/// leaves a directory alone that somebody else made at the path in the meantime.
///
/// - Where the file system keeps no time of birth, the device's number counts too. It may be another
///   one after a reboot: the undo then doesn't recognise the directory, and the task is stuck.
/// - A rename that replaces nothing is missing on some systems and file systems (NFS among them). A
///   kill in the microseconds between two calls then leaves an empty directory at the path. The
///   undo leaves it alone, and the task that finds it at its next attempt fails.
///
/// # Errors
/// A directory that exists already is a permanent failure, unless
/// [`or_existing`](Self::or_existing) is set; so is a `..` below a directory that doesn't exist. Any
/// other error of the file system may be tried again.
///
/// # Cancel safety
/// Every undo is registered before its directory gets to its path, so a deadline leaves no directory
/// without an undo.
///
/// ```
/// use batrun::prelude::*;
/// use batrun_actors::{MakeDirectory, try_map};
///
/// let folder = tempfile::tempdir()?;
/// let root = folder.path().to_owned();
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("homes")
///         .producer(from_iter(["ada", "eve"]))
///         .stage(MakeDirectory::new(move |name: &&str| root.join("home").join(name)).parents())
///         .stage(try_map("check", |name: &str| match name {
///             "eve" => Err(Failure::permanent("not on the list")),
///             _ => Ok(name),
///         }))
///         .run(),
/// )?;
/// assert_eq!((report.counts.done, report.counts.failed), (1, 1));
/// assert!(folder.path().join("home/ada").is_dir());
/// assert!(!folder.path().join("home/eve").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MakeDirectory<I, P> {
    path: P,
    parents: bool,
    or_existing: bool,
    mode: Option<u32>,
    input: PhantomData<fn(I) -> I>,
}

impl<I, P> MakeDirectory<I, P> {
    /// A stage that makes a directory at the path that `path` makes from a task's context. Its
    /// parent has to exist, unless [`parents`](Self::parents) is set.
    pub fn new(path: P) -> Self
    where
        P: Fn(&I) -> PathBuf,
    {
        MakeDirectory {
            path,
            parents: false,
            or_existing: false,
            mode: None,
            input: PhantomData,
        }
    }

    /// Makes missing parents as well, each with an undo of its own. Default: a missing parent fails
    /// the attempt.
    ///
    /// If tasks share a parent, it belongs to the task that made it. If that task fails while the
    /// other's directory is in the parent, it is stuck.
    pub fn parents(mut self) -> Self {
        self.parents = true;
        self
    }

    /// Accepts a directory that exists already. It stays when the task is rolled back. Default: the
    /// task fails for good.
    pub fn or_existing(mut self) -> Self {
        self.or_existing = true;
        self
    }

    /// Sets the permissions of the directories that it makes, such as `0o750`, less the process's
    /// umask. Default: `0o777`.
    #[cfg(unix)]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    fn builder(&self) -> DirBuilder {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        if let Some(mode) = self.mode {
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
        }
        builder
    }
}

impl<I, P: Clone> Clone for MakeDirectory<I, P> {
    fn clone(&self) -> Self {
        MakeDirectory {
            path: self.path.clone(),
            input: PhantomData,
            ..*self
        }
    }
}

impl<I, P> Stage for MakeDirectory<I, P>
where
    I: Send + 'static,
    P: Fn(&I) -> PathBuf + 'static,
{
    type Input = I;
    type Output = I;
    type Undo = MakeDirectoryUndo;

    const BLOCKING: bool = true;

    async fn run(
        &mut self,
        input: I,
        task: &TaskContext<'_, MakeDirectoryUndo>,
    ) -> Result<I, Failure> {
        let path = (self.path)(&input);
        let builder = self.builder();
        loop {
            if look(&path)
                .map_err(|error| in_words(error, &path))?
                .is_some()
            {
                if self.or_existing && path.is_dir() {
                    return Ok(input);
                }
                let exists = in_words(ErrorKind::AlreadyExists.into(), &path);
                return Err(Failure::permanent(exists));
            }
            let staged = Staged::of(&path, self.parents)?;
            if make(&builder, &staged, task).await? {
                return Ok(input);
            }
            // Somebody else was quicker. A parent will do, and the directory itself is seen above.
        }
    }

    async fn cancel(
        &mut self,
        MakeDirectoryUndo(step): MakeDirectoryUndo,
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        match step {
            Step::Staged(paths) => Ok(undo::remove_staged(paths.iter().map(|path| &***path))?),
            Step::Made(made) => undo::remove(&made),
        }
    }
}

/// The directories that are made under a hidden name, the deepest first.
struct Staged {
    /// Each with the path at which it is made, and the one at which it is in the end.
    directories: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// The one at `path`, and with `parents` those above it that are missing.
    fn of(path: &Path, parents: bool) -> Result<Self, Failure> {
        let mut missing = vec![path];
        for above in path.ancestors().skip(1).take_while(|_| parents) {
            // The last ancestor of a relative path is the empty one.
            if above == Path::new("") {
                break;
            }
            match fs::symlink_metadata(above) {
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(above),
                // Anything else ends the search: if no directory can be made in it, `make` says why.
                _ => break,
            }
        }
        let top = *missing.last().unwrap_or(&path);
        let temporary = temporary_for(top)?;
        let mut directories = Vec::with_capacity(missing.len());
        for path in missing {
            let below = path.strip_prefix(top).unwrap_or(Path::new(""));
            if below.components().any(|part| part == Component::ParentDir) {
                let why = format!(
                    "{} leads through a directory that doesn't exist back to the one above it",
                    path.display()
                );
                return Err(Failure::permanent(why));
            }
            let staged = match below == Path::new("") {
                true => temporary.clone(),
                false => temporary.join(below),
            };
            directories.push((staged, path.to_owned()));
        }
        Ok(Staged { directories })
    }

    fn staged(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.directories.iter().map(|(staged, _)| &**staged)
    }

    /// Makes the directories under their hidden names.
    fn make(&self, builder: &DirBuilder) -> io::Result<Vec<Identity>> {
        for (staged, path) in self.directories.iter().rev() {
            builder
                .create(staged)
                .map_err(|error| in_words(error, path))?;
        }
        let mut identities = Vec::with_capacity(self.directories.len());
        for (staged, path) in &self.directories {
            sync(staged).map_err(|error| in_words(error, path))?;
            identities.push(Identity::of(&fs::symlink_metadata(staged)?));
        }
        Ok(identities)
    }
}

/// Makes directories and puts them into their place. `false` if somebody else's is there now, and
/// nothing of this one is left.
async fn make(
    builder: &DirBuilder,
    staged: &Staged,
    task: &TaskContext<'_, MakeDirectoryUndo>,
) -> Result<bool, Failure> {
    let Some((temporary, top)) = staged.directories.last() else {
        return Ok(true);
    };
    let paths = staged.staged().map(|path| Name(path.to_owned())).collect();
    let undo = task
        .on_cancel(MakeDirectoryUndo(Step::Staged(paths)))
        .await?;
    let identities = match staged.make(builder) {
        Ok(identities) => identities,
        Err(error) => {
            // Nobody else should use such a name, but if somebody does, it isn't ours to remove.
            if error.kind() != ErrorKind::AlreadyExists {
                undo::remove_staged(staged.staged())?;
            }
            undo.withdraw().await?;
            return Err(error.into());
        }
    };
    // The deepest first: undos run in the order of their registration, and a parent can't be
    // removed before its child.
    let mut made = staged.directories.iter().zip(identities);
    let top_made = made.next_back();
    let as_undo = |((staged, path), identity): (&(PathBuf, PathBuf), Identity)| {
        MakeDirectoryUndo(Step::Made(Made {
            path: Name(path.clone()),
            staged: Name(staged.clone()),
            identity,
        }))
    };
    let mut registered: Vec<Registered<'_>> = Vec::new();
    for made in made {
        registered.push(task.on_cancel(as_undo(made)).await?);
    }
    // Together, so that a journal has both or none: the undos above see by the hidden names whether
    // the rename took place, and the first one would remove these.
    if let Some(made) = top_made {
        let (last, withdrawn) = tokio::join!(task.on_cancel(as_undo(made)), undo.withdraw());
        match last {
            Ok(last) => registered.push(last),
            Err(error) => {
                // It may not have been registered.
                undo::remove_staged(staged.staged()).ok();
                return Err(error.into());
            }
        }
        withdrawn?;
    }
    let Err(error) = place_directory(temporary, top) else {
        sync_folder(top).map_err(|error| in_words(error, top))?;
        return Ok(true);
    };
    undo::remove_staged(staged.staged())?;
    for registered in registered {
        registered.withdraw().await?;
    }
    match error.kind() {
        ErrorKind::AlreadyExists => Ok(false),
        _ => Err(in_words(error, top).into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
