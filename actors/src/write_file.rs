//! A stage that writes a file; its undo restores the one that was there before.

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    marker::PhantomData,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use batrun::{CancelContext, Failure, Stage, TaskContext};

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
/// # Errors
/// - Permanent: anything at the path that isn't a regular file (a folder, a symbolic link), a file
///   larger than [`largest`](Self::largest), and a path without a file name.
/// - May be tried again: any other error of the file system.
///
/// # Cancel safety
/// Each step is registered as an undo before it is taken: a deadline between two of them leaves no
/// temporary file.
///
/// # Limits
/// - Write a path once in a task, and by one task at a time. A restored file is a new one with the
///   old content, so the undo of an earlier write of the same path doesn't recognise it, and fails.
/// - Between the stage's last look and its rename, some microseconds, another writer of the same
///   path is not seen.
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

/// The undo of a [`WriteFile`]: a file to be removed, or to be restored with its earlier content.
///
/// Its `Debug` shows path and size, no contents, because reports print it.
#[derive(Clone)]
pub struct WriteFileUndo(Step);

#[derive(Clone)]
enum Step {
    /// A temporary file may have been made, under a name that nobody else uses.
    Temporary(PathBuf),
    /// It may have been renamed to the path.
    Renamed {
        path: PathBuf,
        written: Written,
        before: Option<Before>,
    },
}

/// The properties by which the written file is recognised.
#[derive(Clone)]
struct Written {
    mark: Mark,
    content: Arc<[u8]>,
}

/// Distinguishes a file from another one with the same content.
#[derive(Clone, PartialEq, Eq)]
struct Mark {
    modified: Option<SystemTime>,
    /// Device and inode, on systems that have them.
    inode: Option<(u64, u64)>,
}

/// The file that was there before.
#[derive(Clone)]
struct Before {
    content: Arc<[u8]>,
    permissions: Permissions,
}

impl fmt::Debug for WriteFileUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Step::Temporary(path) => write!(f, "remove {}", path.display()),
            Step::Renamed { path, before, .. } => match before {
                None => write!(f, "remove {}", path.display()),
                Some(Before { content, .. }) => {
                    write!(f, "restore {} ({} bytes)", path.display(), content.len())
                }
            },
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
        let content: Arc<[u8]> = (self.content)(&input).as_ref().into();
        let temporary = temporary_for(&path)?;
        let before = look(&path, self.largest)?;

        let undo = WriteFileUndo(Step::Temporary(temporary.clone()));
        let undo = task.on_cancel(undo).await?;
        let permissions = before.as_ref().map(|before| &before.permissions);
        match write_new(&temporary, &content, permissions) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Nobody should use such a name, but if somebody does, the file isn't ours to
                // remove.
                undo.withdraw().await?;
                return Err(in_words(error, &temporary));
            }
            other => other.map_err(|error| in_words(error, &temporary))?,
        }

        let mark = mark(&fs::symlink_metadata(&temporary)?);
        task.on_cancel(WriteFileUndo(Step::Renamed {
            path: path.clone(),
            written: Written { mark, content },
            before,
        }))
        .await?;
        fs::rename(&temporary, &path).map_err(|error| in_words(error, &path))?;
        sync_folder(&path)?;
        // After the rename, nothing is left under the temporary name.
        undo.withdraw().await?;
        Ok(input)
    }

    async fn cancel(
        &mut self,
        WriteFileUndo(step): WriteFileUndo,
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        match step {
            Step::Temporary(path) => Ok(remove(&path)?),
            Step::Renamed {
                path,
                written,
                before,
            } => restore(&path, &written, before.as_ref()),
        }
    }
}

/// Restores the file that was at the path before, if the one that is there now is the written one.
///
/// # Errors
/// A permanent failure if somebody else has changed it since.
fn restore(path: &Path, written: &Written, before: Option<&Before>) -> Result<(), Failure> {
    let now = match fs::symlink_metadata(path) {
        Ok(now) => Some(now),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let ours = match &now {
        Some(now) if now.is_file() && mark(now) == written.mark => {
            fs::read(path)? == *written.content
        }
        _ => false,
    };
    match before {
        Some(before) if ours => {
            let temporary = temporary_for(path)?;
            let put = write_new(&temporary, &before.content, Some(&before.permissions))
                .and_then(|()| fs::rename(&temporary, path));
            if put.is_err() {
                // An error of this is dropped: the first one says why the undo fails.
                remove(&temporary).ok();
            }
            put?;
        }
        None if ours => remove(path)?,
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
    Ok(sync_folder(path)?)
}

fn is(path: &Path, before: &Before) -> io::Result<bool> {
    Ok(fs::read(path)? == *before.content)
}

/// The file at the path, if there is one, for the undo to keep.
///
/// # Errors
/// A permanent failure if it isn't a regular file or is larger than `largest` bytes.
fn look(path: &Path, largest: u64) -> Result<Option<Before>, Failure> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(in_words(error, path)),
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
    Ok(Some(Before {
        content: fs::read(path)
            .map_err(|error| in_words(error, path))?
            .into(),
        permissions: metadata.permissions(),
    }))
}

/// A name in the same folder that nobody else uses, now or after a restart: with the process, a
/// count and the time.
fn temporary_for(path: &Path) -> Result<PathBuf, Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        let why = format!("{} has no file name", path.display());
        return Err(Failure::permanent(why));
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    // Not the whole name, which may be as long as the file system allows.
    hidden.push(name.to_string_lossy().chars().take(20).collect::<String>());
    hidden.push(format!(".{}-{count}-{}", process::id(), since.as_nanos()));
    Ok(path.with_file_name(hidden))
}

/// Options for a file that must not exist yet. Until it has its final permissions, nobody else may
/// read it, because its content may be a secret.
fn private(permissions: Option<&Permissions>) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if permissions.is_some() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = permissions;
    options
}

/// Writes a file that must not exist yet, and syncs it.
fn write_new(path: &Path, content: &[u8], permissions: Option<&Permissions>) -> io::Result<()> {
    let mut file = private(permissions).open(path)?;
    file.write_all(content)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions.clone())?;
    }
    file.sync_all()
}

/// Syncs the folder, so that a rename or a removal survives a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Other systems can't open a folder like a file.
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn mark(metadata: &Metadata) -> Mark {
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    };
    #[cfg(not(unix))]
    let inode = None;
    Mark {
        modified: metadata.modified().ok(),
        inode,
    }
}

/// An I/O error with its path, as a failure that may be tried again.
fn in_words(error: io::Error, path: &Path) -> Failure {
    Failure::new(io::Error::new(
        error.kind(),
        format!("{}: {error}", path.display()),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
