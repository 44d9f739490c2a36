//! A stage that makes a directory, and removes it.

use std::{
    fmt,
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind},
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use batrun::{CancelContext, Failure, Stage, TaskContext};

/// A stage that makes a directory; its cancel removes it.
///
/// The path is made of the context by a closure; the context goes on as it came. A directory that
/// is there already fails the task for good, unless [`or_existing`](Self::or_existing) says that
/// it will do. After each directory its parent is synced to the disk.
///
/// It blocks (a sync takes milliseconds or more), so each of its workers has a thread of its own.
///
/// # What it leaves alone
/// A cancel removes only directories that this task made, and only if they are empty. Undos are
/// cancelled first come, first served, so what later stages left in a directory is still there at
/// the first try; it is gone when the rollback comes back to it. What is still in it then was put
/// there by another: the task is stuck, for a person to look at. So it is where another has
/// replaced the directory since.
///
/// A directory is known again by its inode (on Unix; elsewhere by its path alone). One that another
/// removed and made anew may have the same inode: it is then removed if it is empty.
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
    /// Makes a directory where `path` says.
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

    /// Makes the parents that are missing too, each with an undo of its own.
    ///
    /// Tasks that share a parent: it belongs to the one that made it. If that one fails while the
    /// other's directory is in it, it is stuck.
    pub fn parents(mut self) -> Self {
        self.parents = true;
        self
    }

    /// A directory that is there already will do; it stays when the task is taken back.
    pub fn or_existing(mut self) -> Self {
        self.or_existing = true;
        self
    }

    /// The permissions of the directories it makes, less the process's umask, like `0o750`:
    /// `0o777` unless told otherwise.
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

/// What takes a [`MakeDirectory`] back: a directory, to be removed if it is empty.
#[derive(Clone)]
pub struct MakeDirectoryUndo {
    path: PathBuf,
    /// Set once the directory was made. The undo is registered before that, and a directory that
    /// another makes at this path must not be taken for this task's.
    made: Arc<OnceLock<Inode>>,
}

/// Device and inode, where there are such.
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
        // The deepest first: undos are cancelled in the order of their registration, and a parent
        // can't be removed before what is in it.
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
            // A parent that another made in the meantime will do.
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
        let why = format!("{} was replaced by another since", path.display());
        return Err(Failure::permanent(why));
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Another try soon won't find it empty: the rollback's second round may, when what came
        // after it was taken back.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            Err(Failure::permanent(in_words(error, path)))
        }
        Err(error) => Err(in_words(error, path).into()),
        Ok(()) => Ok(sync_parent(path)?),
    }
}

/// The directory, and with `parents` those above it that aren't there, the deepest first.
fn missing(path: &Path, parents: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut missing = vec![path.to_owned()];
    for above in path.ancestors().skip(1).take_while(|_| parents) {
        // The last one of a relative path.
        if above == Path::new("") {
            break;
        }
        match fs::symlink_metadata(above) {
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(above.to_owned()),
            // Whatever else is there: making a directory in it will tell.
            _ => break,
        }
    }
    Ok(missing)
}

/// Makes a directory, and notes in its undo that it was made. The inner error says that it surely
/// wasn't.
fn make(builder: &DirBuilder, undo: &MakeDirectoryUndo) -> Result<io::Result<()>, Failure> {
    let path = &undo.path;
    if let Err(error) = builder.create(path) {
        return Ok(Err(error));
    }
    let metadata = fs::symlink_metadata(path);
    // Where it can't be looked at, it has no inode that fits, so that its cancel fails and a person
    // looks.
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

/// Makes it last that a directory was made or removed.
fn sync_parent(path: &Path) -> io::Result<()> {
    // Elsewhere a directory can't be opened like a file.
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
