//! A stage that writes a file, and restores what was there before.

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

/// How large a file may be that is replaced, in bytes, unless told otherwise: its content is kept
/// in memory until its task has ended.
const LARGEST: u64 = 16 << 20;

/// A stage that writes a file whole or not at all; its cancel restores what was there before.
///
/// Path and content are made of the context by closures; the context goes on as it came. The
/// content is written to a temporary file in the same folder, which is synced to the disk and then
/// renamed to the path; then the folder is synced. A file that was there before is replaced: its
/// permissions are kept, its owner is not, and its content is held by the undo.
///
/// It blocks (a sync takes milliseconds or more), so each of its workers has a thread of its own.
///
/// # What it leaves alone
/// What is at the path and isn't a regular file (a folder, a symbolic link) fails the task, and so
/// does a file larger than [`largest`](Self::largest). A cancel acts only on the file that this
/// task wrote. Where another has replaced, changed or removed it since, the cancel fails and the
/// task is stuck, for a person to look at.
///
/// Between its last look and its rename, some microseconds, another writer of the same path is not
/// seen: let a path have one writer at a time.
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
    /// Writes what `content` makes of a context to where `path` says.
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

    /// How large a file may be that is replaced, in bytes: 16 MiB unless told otherwise. Its
    /// content is kept in memory until its task has ended.
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

/// What takes a [`WriteFile`] back. Its `Debug` shows paths and sizes, no contents.
#[derive(Clone)]
pub struct WriteFileUndo(Step);

#[derive(Clone)]
enum Step {
    /// A temporary file was made, under a name that nobody else uses.
    Temporary(PathBuf),
    /// It was renamed to the path.
    Renamed {
        path: PathBuf,
        written: Written,
        before: Option<Before>,
    },
}

/// How the file that was written is known again.
#[derive(Clone)]
struct Written {
    mark: Mark,
    content: Arc<[u8]>,
}

/// Tells a file from another with the same content.
#[derive(Clone, PartialEq, Eq)]
struct Mark {
    modified: Option<SystemTime>,
    /// Device and inode, where there are such.
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
                // Nobody should use such a name, but it isn't ours.
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
        // Nothing is at that name any more.
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

/// Puts back what was at the path before, if what is there now is what was written.
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
                // It is of no use any more, and of the two errors the first one says why.
                remove(&temporary).ok();
            }
            put?;
        }
        None if ours => remove(path)?,
        // Nothing was renamed, or it was taken back before.
        None if now.is_none() => {}
        Some(before) if now.is_some_and(|now| now.is_file()) && is(path, before)? => {}
        _ => {
            let why = format!(
                "{} was changed by another since; it is left as it is",
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

/// The file at the path, if there is one.
fn look(path: &Path, largest: u64) -> Result<Option<Before>, Failure> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(in_words(error, path)),
    };
    let refuse = |why: String| Failure::permanent(format!("{} {why}", path.display()));
    if !metadata.is_file() {
        return Err(refuse("is there and is not a regular file".to_owned()));
    }
    if metadata.len() > largest {
        return Err(refuse(format!(
            "has {} bytes, too many to be kept for a cancel",
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

/// A name in the same folder that nobody else uses, now or after a restart.
fn temporary_for(path: &Path) -> Result<PathBuf, Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        let why = format!("{} names no file", path.display());
        return Err(Failure::permanent(why));
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{count}-{}", process::id(), since.as_nanos()));
    Ok(path.with_file_name(hidden))
}

/// Writes a file that must not be there yet, and syncs it.
fn write_new(path: &Path, content: &[u8], permissions: Option<&Permissions>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions.clone())?;
    }
    file.sync_all()
}

/// Makes a rename or a removal last.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder can't be opened like a file.
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

/// An I/O error with the path it is about; another attempt may not meet it.
fn in_words(error: io::Error, path: &Path) -> Failure {
    Failure::new(io::Error::new(
        error.kind(),
        format!("{}: {error}", path.display()),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use batrun::{Report, Rollback, prelude::*};
    use tempfile::{TempDir, tempdir};

    use super::*;

    /// What happens between the write and the end of the task.
    type Then = fn(&Path) -> Result<(), Failure>;

    /// Writes "new" to `file` of the folder, then runs `then`, of which a failure causes the cancel.
    fn run(folder: &TempDir, then: Then) -> Report {
        run_with(folder, then, |stage| stage)
    }

    type Stage = WriteFile<PathBuf, fn(&PathBuf) -> PathBuf, fn(&PathBuf) -> &'static str>;

    fn run_with(folder: &TempDir, then: Then, with: fn(Stage) -> Stage) -> Report {
        let stage: Stage = WriteFile::new(|path| path.clone(), |_| "new");
        let then = stage_fn(
            "then",
            async move |path: PathBuf, _: &TaskContext<'_, ()>| then(&path),
        );
        actix_rt::System::new()
            .block_on(
                Pipeline::new("write")
                    .producer(from_iter([folder.path().join("file")]))
                    .stage(with(stage))
                    .stage(then)
                    .run(),
            )
            .unwrap()
    }

    fn fail(_: &Path) -> Result<(), Failure> {
        Err(Failure::permanent("no"))
    }

    fn content(folder: &TempDir) -> Option<String> {
        fs::read_to_string(folder.path().join("file")).ok()
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn rollback(report: &Report) -> &Rollback {
        &report.last_failures[0].rollback
    }

    #[test]
    fn a_file_is_written_and_nothing_else() {
        let folder = tempdir().unwrap();
        let report = run(&folder, |_| Ok(()));
        assert_eq!(report.counts.done, 1, "{report}");
        assert_eq!(content(&folder).as_deref(), Some("new"));
        assert_eq!(names(&folder), ["file"]);
    }

    #[test]
    fn a_new_file_is_removed_by_its_cancel() {
        let folder = tempdir().unwrap();
        let report = run(&folder, fail);
        assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn a_replaced_file_is_restored_by_its_cancel() {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("file"), "old").unwrap();
        let report = run(&folder, |path| {
            assert_eq!(fs::read_to_string(path).unwrap(), "new");
            fail(path)
        });
        assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
        assert_eq!(content(&folder).as_deref(), Some("old"));
        assert_eq!(names(&folder), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_kept_and_restored() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        run(&folder, |_| Ok(()));
        assert_eq!(
            (content(&folder).as_deref(), mode(&path)),
            (Some("new"), 0o640)
        );
        run(&folder, |path| {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            fail(path)
        });
        assert_eq!(
            (content(&folder).as_deref(), mode(&path)),
            (Some("new"), 0o640)
        );
    }

    #[test]
    fn a_file_that_another_changed_is_left_and_the_task_is_stuck() {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("file"), "old").unwrap();
        let report = run(&folder, |path| {
            fs::write(path, "theirs")?;
            fail(path)
        });
        let Rollback::Stuck(stuck) = rollback(&report) else {
            panic!("{report}")
        };
        assert!(stuck.undos[0].undo.starts_with("restore "), "{stuck}");
        assert!(stuck.undos[0].undo.ends_with("(3 bytes)"), "{stuck}");
        assert_eq!(content(&folder).as_deref(), Some("theirs"));
        assert_eq!(names(&folder), ["file"]);
    }

    #[test]
    fn a_change_that_left_the_time_as_it_was_is_seen() {
        let folder = tempdir().unwrap();
        let report = run(&folder, |path| {
            // As two writes within one tick of the file system's clock.
            let modified = fs::metadata(path)?.modified()?;
            fs::write(path, "NEW")?;
            File::options()
                .write(true)
                .open(path)?
                .set_modified(modified)?;
            fail(path)
        });
        assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
        assert_eq!(content(&folder).as_deref(), Some("NEW"));
    }

    #[test]
    fn anothers_file_with_the_same_content_is_left() {
        let folder = tempdir().unwrap();
        let report = run(&folder, |path| {
            let theirs = path.with_extension("theirs");
            fs::write(&theirs, "new")?;
            fs::rename(theirs, path)?;
            fail(path)
        });
        assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
        assert_eq!(content(&folder).as_deref(), Some("new"));
    }

    #[test]
    fn a_file_that_is_gone_needs_no_cancel() {
        let folder = tempdir().unwrap();
        let report = run(&folder, |path| {
            fs::remove_file(path)?;
            fail(path)
        });
        assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    }

    #[test]
    fn a_cancel_may_be_called_twice() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        for old in [None, Some("old")] {
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let before = look(&path, LARGEST).unwrap();
            let temporary = temporary_for(&path).unwrap();
            write_new(&temporary, b"new", None).unwrap();
            let written = Written {
                mark: mark(&fs::metadata(&temporary).unwrap()),
                content: b"new"[..].into(),
            };
            // Before the rename, and twice after it.
            restore(&path, &written, before.as_ref()).unwrap();
            fs::rename(&temporary, &path).unwrap();
            for _ in 0..2 {
                restore(&path, &written, before.as_ref()).unwrap();
                assert_eq!(content(&folder).as_deref(), old);
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_left() {
        let folder = tempdir().unwrap();
        fs::create_dir(folder.path().join("file")).unwrap();
        let report = run(&folder, |_| Ok(()));
        assert_eq!(report.counts.failed, 1);
        assert_eq!(rollback(&report), &Rollback::None);
        assert!(folder.path().join("file").is_dir());
        assert_eq!(names(&folder), ["file"]);
    }

    #[test]
    fn a_file_too_large_to_be_kept_is_left() {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("file"), "old").unwrap();
        let report = run_with(&folder, |_| Ok(()), |stage| stage.largest(2));
        assert_eq!(report.counts.failed, 1);
        assert_eq!(content(&folder).as_deref(), Some("old"));
    }

    #[test]
    fn a_folder_that_is_not_there_fails_the_task() {
        let folder = tempdir().unwrap();
        let stage: Stage = WriteFile::new(|path| path.join("absent/file"), |_| "new");
        let report = actix_rt::System::new()
            .block_on(
                Pipeline::new("write")
                    .producer(from_iter([folder.path().to_owned()]))
                    .stage(stage)
                    .run(),
            )
            .unwrap();
        assert_eq!(report.counts.failed, 1);
        assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn an_undo_shows_no_contents() {
        let undo = WriteFileUndo(Step::Renamed {
            path: "a/file".into(),
            written: Written {
                mark: Mark {
                    modified: None,
                    inode: None,
                },
                content: b"secret"[..].into(),
            },
            before: None,
        });
        assert_eq!(format!("{undo:?}"), "remove a/file");
    }
}
