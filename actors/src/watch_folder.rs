//! A producer that makes a task of each file that appears in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use batrun::{Failure, Intake, Producer};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use crate::{
    progress::Progress,
    reading::{self, Ahead},
};

/// Maximum number of paths that wait while the pipeline is full. With paths of a usual length they
/// take less than a megabyte.
const WAITING: usize = 4_096;

/// A producer that makes a task of each file that appears in a folder.
///
/// The closure makes a task's context from a file's absolute path, or returns `None` to leave the
/// file alone. It runs on a thread of its own, so it may block. The producer goes on until the
/// pipeline shuts down.
///
/// # Files that become tasks
/// Regular files only, no folders and no symbolic links. Names that begin with a dot are left out
/// unless [`hidden`](Self::hidden) is set, because unfinished files are often named so
/// ([`WriteFile`](crate::WriteFile)'s are).
///
/// On Linux a file is submitted once it is complete: when a program that wrote it closes it, or
/// when it is renamed into the folder. Elsewhere it is submitted when it appears and whenever it
/// changes, complete or not; there, let files be renamed into the folder.
///
/// **Each file is submitted at least once**, and sometimes more often: after each time it was
/// written, and after events were lost. Events are lost if the system has too many of them, or if
/// more than 4,096 wait for a full pipeline. The whole folder is then searched, and every file in
/// it is submitted again, including those that are still being written. So let the task's work move
/// a file away when it is done, or recognise it. A file that is gone before its turn is left out.
///
/// # Errors
/// The producer fails if the folder can't be watched or read, or was removed or moved. A folder
/// within it that can't be watched is logged as a warning and left out.
///
/// # Cancel safety
/// When the pipeline shuts down, files that were found and not submitted yet are dropped; with
/// [`existing`](Self::existing), the next start finds them again.
///
/// ```no_run
/// use batrun::prelude::*;
/// use batrun_actors::{WatchFolder, inspect};
///
/// # async fn watch() -> Result<(), batrun::Error> {
/// let orders = WatchFolder::new("inbox", |path| {
///     let is_order = path.extension().is_some_and(|extension| extension == "json");
///     is_order.then_some(path)
/// });
/// let handle = Pipeline::new("orders")
///     .producer(orders.existing())
///     .stage(inspect("show", |path: &std::path::PathBuf| println!("{}", path.display())))
///     .start()
///     .await?;
/// # Ok(()) }
/// ```
pub struct WatchFolder<F> {
    folder: PathBuf,
    make: F,
    existing: bool,
    look: Look,
    timeout: Option<Duration>,
}

/// The files that are looked at.
#[derive(Clone, Copy)]
struct Look {
    recursive: bool,
    hidden: bool,
}

impl<F> WatchFolder<F> {
    /// Watches a folder, from the time at which the producer runs. Files that are there before are
    /// left out, unless [`existing`](Self::existing) is set.
    pub fn new<C>(folder: impl Into<PathBuf>, make: F) -> Self
    where
        F: FnMut(PathBuf) -> Option<C>,
    {
        WatchFolder {
            folder: folder.into(),
            make,
            existing: false,
            look: Look {
                recursive: false,
                hidden: false,
            },
            timeout: None,
        }
    }

    /// Submits the files that are in the folder at the start as well. Default: only new ones.
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Submits the files of all folders within the folder as well, new folders included. Each
    /// folder needs a watch of its own, of which a system has a limited number. Default: not.
    pub fn recursive(mut self) -> Self {
        self.look.recursive = true;
        self
    }

    /// Includes files and folders with names that begin with a dot. Default: not.
    pub fn hidden(mut self) -> Self {
        self.look.hidden = true;
        self
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<C, F> Producer<C> for WatchFolder<F>
where
    C: Send + 'static,
    F: FnMut(PathBuf) -> Option<C> + Send + 'static,
{
    async fn produce(self, tasks: Intake<C>) -> Result<(), Failure> {
        let (sender, events) = sync_channel(WAITING);
        // Declared before the future below, so dropped after it: the thread that it wakes must
        // find the channel closed, or it would go on waiting for events.
        let _wake = WakeOnDrop(sender.clone());
        let timeout = self.timeout;
        reading::submit_all("batrun-watch", tasks, timeout, &Progress::default(), move |ahead| {
            // The watcher reports absolute paths. With an absolute root, a search finds the same
            // ones.
            let root = std::path::absolute(&self.folder)?;
            let lost = Arc::new(AtomicBool::new(false));
            let tell = Tell {
                root: root.clone(),
                sender,
                lost: lost.clone(),
            };
            let watcher = notify::recommended_watcher(move |event| tell.event(event))?;
            let mut watch = Watch {
                watcher,
                look: self.look,
                make: self.make,
                ahead,
            };
            watch.run(&root, self.existing, &events, &lost)
        })
        .await
    }
}

enum News {
    /// Something is new at this path.
    At(PathBuf),
    /// The folder was removed or moved away.
    Gone,
    /// No path: look whether to end, and whether events were lost.
    Wake,
}

struct WakeOnDrop(SyncSender<News>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        // A full channel wakes the thread as well.
        self.0.try_send(News::Wake).ok();
    }
}

/// The watcher's side, called on the watcher's own thread. It must not wait: the same thread
/// answers when a watch is added, so a wait for room here would be a deadlock.
struct Tell {
    root: PathBuf,
    sender: SyncSender<News>,
    lost: Arc<AtomicBool>,
}

impl Tell {
    fn event(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            return self.lose();
        };
        if event.need_rescan() {
            return self.lose();
        }
        for path in event.paths {
            let news = match event.kind {
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
                    if path == self.root =>
                {
                    News::Gone
                }
                kind if matters(&kind) => News::At(path),
                _ => continue,
            };
            if self.sender.try_send(news).is_err() {
                self.lose();
            }
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.sender.try_send(News::Wake).ok();
    }
}

/// `true` if, after such an event, a file may be complete or a folder new.
fn matters(kind: &EventKind) -> bool {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return !matches!(kind, EventKind::Access(_) | EventKind::Remove(_));
    }
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            | EventKind::Create(CreateKind::Folder)
    )
}

struct Watch<'a, C, F> {
    watcher: RecommendedWatcher,
    look: Look,
    make: F,
    ahead: &'a Ahead<C>,
}

impl<C, F: FnMut(PathBuf) -> Option<C>> Watch<'_, C, F> {
    fn run(
        &mut self,
        root: &Path,
        existing: bool,
        events: &Receiver<News>,
        lost: &AtomicBool,
    ) -> Result<(), Failure> {
        let gone =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", root.display()));
        // Watch first, then search: the other way round, a file that appears between the two would
        // be missed.
        self.watcher.watch(root, RecursiveMode::NonRecursive)?;
        self.folder(root, existing).map_err(gone)?;
        while !self.ahead.is_closed() {
            let Ok(news) = events.recv() else {
                break;
            };
            // The flag is cleared before the search, so that events lost during it count anew.
            if lost.swap(false, Ordering::SeqCst) {
                log::warn!(
                    "{}: events were lost, so all its files are submitted again",
                    root.display()
                );
                self.folder(root, true).map_err(gone)?;
            }
            match news {
                News::At(path) => self.at(path),
                News::Gone => {
                    let why = format!(
                        "{}: the watched folder was removed or moved",
                        root.display()
                    );
                    return Err(Failure::permanent(why));
                }
                News::Wake => {}
            }
        }
        Ok(())
    }

    fn at(&mut self, path: PathBuf) {
        if self.is_skipped(&path) {
            return;
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => self.file(path),
            Ok(metadata) if metadata.is_dir() => self.inner(&path, true),
            _ => {}
        }
    }

    fn file(&mut self, path: PathBuf) {
        if self.ahead.is_closed() {
            return;
        }
        if let Some(context) = (self.make)(path) {
            // The result doesn't matter here: the loop asks `is_closed` anyway.
            self.ahead.send(context);
        }
    }

    /// Watches and searches a folder within the folder.
    fn inner(&mut self, path: &Path, files: bool) {
        if !self.look.recursive {
            return;
        }
        let watched = self.watcher.watch(path, RecursiveMode::NonRecursive);
        let looked = watched
            .map_err(|error| error.to_string())
            .and_then(|()| self.folder(path, files).map_err(|error| error.to_string()));
        // A folder that is gone again is no problem.
        if let Err(error) = looked
            && path.exists()
        {
            log::warn!(
                "{}: can't be watched, so its files are missed: {error}",
                path.display()
            );
        }
    }

    /// Searches a folder that is being watched. With `files`, its files are submitted.
    fn folder(&mut self, path: &Path, files: bool) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let path = entry.path();
            if self.ahead.is_closed() || self.is_skipped(&path) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.inner(&path, files),
                Ok(kind) if kind.is_file() && files => self.file(path),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_skipped(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        !self.look.hidden && name.as_encoded_bytes().starts_with(b".")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
