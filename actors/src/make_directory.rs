//! A stage that makes a directory; its undo removes it.

use std::{
    fmt,
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind},
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use batrun::{CancelContext, Failure, Stage, TaskContext};

/// A stage that makes a directory; its undo removes it.
///
/// A closure makes the path from the context, which goes on unchanged. After each directory that it
/// makes, the parent is synced to the disk. It blocks (a sync takes milliseconds or more), so each
/// of its workers has a thread of its own.
///
/// # Undo
/// The undo removes only directories that this task made, and only if they are empty. A rollback
/// runs the undos in the order in which they were registered, so a directory still contains the
/// files of later stages at the first try; they are gone when the rollback comes back to it. If
/// anything is in it even then, somebody else put it there, and the task is stuck until a person
/// has looked. It is also stuck if somebody else has replaced the directory since.
///
/// A directory is recognised by its inode (on Unix; elsewhere by its path alone). One that somebody
/// else removed and made anew may have the same inode: it is then removed if it is empty.
///
/// # Errors
/// A directory that exists already is a permanent failure, unless
/// [`or_existing`](Self::or_existing) is set. Any other error of the file system may be tried
/// again.
///
/// # Cancel safety
/// All undos are registered before the first directory is made, so a deadline leaves no directory
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

/// The undo of a [`MakeDirectory`]: one directory, to be removed if it is empty. Its `Debug` shows
/// the path.
#[derive(Clone)]
pub struct MakeDirectoryUndo {
    path: PathBuf,
    /// Set once the directory was made. The undo is registered before that, and must not take a
    /// directory that somebody else makes at this path for this task's.
    made: Arc<OnceLock<Inode>>,
}

/// Device and inode, on systems that have them.
type Inode = Option<(u64, u64)>;

impl fmt::Debug for MakeDirectoryUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", self.path.display())
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
        // The deepest first: undos run in the order of their registration, and a parent can't be
        // removed before its child.
        let mut registered = Vec::new();
        for path in missing(&path, self.parents)? {
            let undo = MakeDirectoryUndo {
                path,
                made: Arc::default(),
            };
            registered.push((undo.clone(), task.on_cancel(undo).await?));
        }
        let builder = self.builder();
        for (undo, registered) in registered.into_iter().rev() {
            let Err(error) = make(&builder, &undo)? else {
                continue;
            };
            registered.withdraw().await?;
            let is_there = error.kind() == ErrorKind::AlreadyExists;
            // A parent that somebody else made in the meantime will do.
            let will_do = self.or_existing || undo.path != path;
            if !(is_there && will_do && undo.path.is_dir()) {
                let failure = in_words(error, &undo.path);
                return Err(match is_there {
                    true => Failure::permanent(failure),
                    false => failure.into(),
                });
            }
        }
        Ok(input)
    }

    async fn cancel(
        &mut self,
        undo: MakeDirectoryUndo,
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        remove(&undo)
    }
}

/// Removes a directory that this task made, if it is empty.
fn remove(undo: &MakeDirectoryUndo) -> Result<(), Failure> {
    let path = &undo.path;
    let Some(made) = undo.made.get() else {
        return Ok(());
    };
    let now = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        now => now.map_err(|error| in_words(error, path))?,
    };
    if !now.is_dir() || inode(&now) != *made {
        let why = format!(
            "{} is not the one that this task made, so it was not removed",
            path.display()
        );
        return Err(Failure::permanent(why));
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Permanent, because a retry soon after won't find it empty either. The rollback's second
        // round may: by then the undos of later stages have run.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            Err(Failure::permanent(in_words(error, path)))
        }
        Err(error) => Err(in_words(error, path).into()),
        Ok(()) => Ok(sync_parent(path)?),
    }
}

/// The directories to make, the deepest first: the one at `path`, and with `parents` those above it
/// that are missing.
fn missing(path: &Path, parents: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut missing = vec![path.to_owned()];
    for above in path.ancestors().skip(1).take_while(|_| parents) {
        // The last ancestor of a relative path is the empty one.
        if above == Path::new("") {
            break;
        }
        match fs::symlink_metadata(above) {
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(above.to_owned()),
            // Anything else ends the search: if no directory can be made in it, `make` says why.
            _ => break,
        }
    }
    Ok(missing)
}

/// Makes a directory, and records in its undo that it was made.
///
/// # Errors
/// The inner error: the directory surely wasn't made. The outer one: it was, and its undo has to
/// run.
fn make(builder: &DirBuilder, undo: &MakeDirectoryUndo) -> Result<io::Result<()>, Failure> {
    let path = &undo.path;
    if let Err(error) = builder.create(path) {
        return Ok(Err(error));
    }
    let metadata = fs::symlink_metadata(path);
    // If it can't be looked at, its undo records no inode. No directory matches that, so the undo
    // fails and a person looks at it.
    let made = metadata.as_ref().map_or(None, inode);
    undo.made.set(made).ok();
    metadata.map_err(|error| in_words(error, path))?;
    sync_parent(path)?;
    Ok(Ok(()))
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Inode {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Inode {
    None
}

/// Syncs the parent, so that the directory's making or removal survives a loss of power.
fn sync_parent(path: &Path) -> io::Result<()> {
    // Other systems can't open a directory like a file.
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn in_words(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
