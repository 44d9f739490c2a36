//! A producer that makes a task of each file that comes into a folder.

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

use crate::reading::{self, Ahead};

/// How many paths may wait while the pipeline is full: with paths of a usual length less than a
/// megabyte.
const WAITING: usize = 4_096;

/// A producer that makes a task of each file that comes into a folder.
///
/// The closure makes a task's context of a file's absolute path, or says with `None` that it is to be left
/// alone. It runs on a thread of its own, which may block. The producer goes on until the pipeline
/// shuts down, and ends with a failure when the folder can't be watched or is gone.
///
/// # What comes
/// Regular files, which other folders and symbolic links are not; names that begin with a dot only
/// with [`hidden`](Self::hidden), as that is how unfinished files are often called
/// ([`WriteFile`](crate::WriteFile)'s too).
///
/// On Linux a file comes once it is complete: when a program that wrote it closes it, or when it is
/// renamed into the folder. Elsewhere it comes when it appears and whenever it changes, complete or
/// not; there, have files renamed into the folder.
///
/// **Each file comes at least once**, and sometimes more often: after each time it was written, and
/// when events were lost, which happens if the system has too many of them or if more than 4,096
/// wait for a full pipeline. The whole folder is then looked through, and all that is in it comes
/// again, what is being written too. So let the task's work move a file away when it is done, or
/// know it again. A file that is gone when its turn comes doesn't come.
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

/// Which files are looked at.
#[derive(Clone, Copy)]
struct Look {
    recursive: bool,
    hidden: bool,
}

impl<F> WatchFolder<F> {
    /// Watches a folder once the producer runs.
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

    /// Files that are there at the start come too.
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Files of folders within the folder come too, of new ones as well: each has a watch of its
    /// own, of which systems have a limited number.
    pub fn recursive(mut self) -> Self {
        self.look.recursive = true;
        self
    }

    /// Files and folders with names that begin with a dot come too.
    pub fn hidden(mut self) -> Self {
        self.look.hidden = true;
        self
    }

    /// Each task has this long from its acceptance.
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
        // Dropped after the future below, so that the thread, woken up, sees that it is to end.
        let _wake = WakeOnDrop(sender.clone());
        let timeout = self.timeout;
        reading::submit_all("batrun-watch", tasks, timeout, move |ahead| {
            // The watcher makes paths absolute; so they are the same however a file is found.
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
    /// Look whether to end, and what was lost.
    Wake,
}

struct WakeOnDrop(SyncSender<News>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        // Where there is no room, the thread has enough to be woken by.
        self.0.try_send(News::Wake).ok();
    }
}

/// What the watcher's own thread has. It must not wait: it also answers when a watch is added.
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

/// Whether a file may be complete, or a folder new.
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
        // Watched before it is looked through, so that nothing comes between the two.
        self.watcher.watch(root, RecursiveMode::NonRecursive)?;
        self.folder(root, existing).map_err(gone)?;
        while !self.ahead.is_closed() {
            let Ok(news) = events.recv() else {
                break;
            };
            // Before the folder is looked through: what is lost from then on counts anew.
            if lost.swap(false, Ordering::SeqCst) {
                log::warn!("{}: events were lost; all files come again", root.display());
                self.folder(root, true).map_err(gone)?;
            }
            match news {
                News::At(path) => self.at(path),
                News::Gone => {
                    let why = format!("{}: the folder was removed or moved", root.display());
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
            // The loop sees when nobody takes it.
            self.ahead.send(context);
        }
    }

    /// A folder within the folder.
    fn inner(&mut self, path: &Path, files: bool) {
        if !self.look.recursive {
            return;
        }
        let watched = self.watcher.watch(path, RecursiveMode::NonRecursive);
        let looked = watched
            .map_err(|error| error.to_string())
            .and_then(|()| self.folder(path, files).map_err(|error| error.to_string()));
        // One that is gone again is no concern.
        if let Err(error) = looked
            && path.exists()
        {
            log::warn!("{} can't be watched: {error}", path.display());
        }
    }

    /// Looks through a folder that is watched.
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
