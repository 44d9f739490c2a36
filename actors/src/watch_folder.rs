//! A producer that makes a task of each file that appears in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use batrun::{Failure, Intake, Producer};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::{
    progress::Progress,
    reading::{self, Ahead},
};

use tell::{News, Tell};

mod tell;

/// Maximum number of paths that wait while the pipeline is full. With paths of a usual length they
/// take less than a megabyte.
const WAITING: usize = 4_096;

/// Time between two looks whether the folder at the path is still the one that is watched: the
/// system tells nothing of a link that was swapped, or of a folder above that was moved.
const LOOK: Duration = Duration::from_secs(1);

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
/// On Linux a file is submitted once it is complete: when a program that wrote it closes it, when it
/// is renamed into the folder, or, a moment later, when it is linked into it (`ln`, a maildir, a file
/// that was made without a name). Elsewhere it is submitted when it appears and whenever it
/// changes, complete or not; there, let files be renamed into the folder.
///
/// **Each file is submitted at least once**, and sometimes more often: after each time it was
/// written, and after events were lost. Events are lost if the system has too many of them, or if
/// more than 4,096 wait for a full pipeline. The whole folder is then searched, and every file in
/// it is submitted again, including those that are still being written. So let the task's work move
/// a file away when it is done, or recognise it. A file that is gone before its turn is left out.
///
/// **The path counts, not the folder that was there at the start.** If the path is a symbolic link
/// that is swapped, or a folder above it is moved and made anew, the folder that is there now is
/// watched within two seconds, and all its files are submitted.
///
/// # Errors
/// The producer fails if the folder can't be watched or read, or was removed or moved and none is at
/// its path. A folder within it that can't be watched is logged as a warning and left out.
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
        reading::submit_all(
            "batrun-watch",
            tasks,
            timeout,
            &Progress::default(),
            move |ahead| {
                // The watcher reports absolute paths. With an absolute root, a search finds the same
                // ones.
                let root = std::path::absolute(&self.folder)?;
                let tell = Tell::new(root.clone(), sender);
                let mut watch = Watch {
                    watcher: None,
                    watched: None,
                    missing: false,
                    look: self.look,
                    make: self.make,
                    ahead,
                    tell,
                    root,
                };
                watch.run(self.existing, &events)
            },
        )
        .await
    }
}

struct WakeOnDrop(SyncSender<News>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        // A full channel wakes the thread as well.
        self.0.try_send(News::Wake).ok();
    }
}

/// The folder at a path, by device and inode; elsewhere by the path that it leads to.
#[derive(PartialEq, Eq)]
struct Folder {
    #[cfg(unix)]
    inode: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl Folder {
    fn at(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = fs::metadata(path)?;
            let inode = (metadata.dev(), metadata.ino());
            Ok(Folder { inode })
        }
        #[cfg(not(unix))]
        Ok(Folder {
            path: fs::canonicalize(path)?,
        })
    }
}

struct Watch<'a, C, F> {
    root: PathBuf,
    tell: Tell,
    /// `None` before the first watch.
    watcher: Option<RecommendedWatcher>,
    watched: Option<Folder>,
    /// At the last look nothing was at the path.
    missing: bool,
    look: Look,
    make: F,
    ahead: &'a Ahead<C>,
}

impl<C, F: FnMut(PathBuf) -> Option<C>> Watch<'_, C, F> {
    fn run(&mut self, existing: bool, events: &Receiver<News>) -> Result<(), Failure> {
        self.begin(existing)?;
        let mut looked = Instant::now();
        while !self.ahead.is_closed() {
            let wait = LOOK.saturating_sub(looked.elapsed());
            let news = events.recv_timeout(wait.min(self.tell.next_judgement()));
            // The flag is cleared before the search, so that events lost during it count anew.
            if self.tell.were_lost() {
                log::warn!(
                    "{:?}: events were lost, so all its files are submitted again",
                    self.root
                );
                self.search(true)?;
            }
            match news {
                Ok(News::At(path)) => self.at(path),
                Ok(News::Gone) => self.gone()?,
                Ok(News::Wake) | Err(_) => {}
            }
            for path in self.tell.linked() {
                self.at(path);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look_at_root()?;
            }
        }
        Ok(())
    }

    /// Watches the folder that is at the path now, with a watcher of its own: one that was watched
    /// before means nothing any more. With `files`, its files are submitted.
    fn begin(&mut self, files: bool) -> Result<(), Failure> {
        loop {
            let folder = Folder::at(&self.root).map_err(|error| self.in_words(error))?;
            let tell = self.tell.clone();
            self.watcher = None;
            let mut watcher = notify::recommended_watcher(move |event| tell.event(event))?;
            // Watch first, then search: the other way round, a file that appears between the two
            // would be missed.
            watcher.watch(&self.root, RecursiveMode::NonRecursive)?;
            self.watcher = Some(watcher);
            let is_same = Folder::at(&self.root).is_ok_and(|now| now == folder);
            self.watched = Some(folder);
            if is_same {
                break;
            }
        }
        self.search(files)
    }

    fn search(&mut self, files: bool) -> Result<(), Failure> {
        let root = self.root.clone();
        Ok(self
            .folder(&root, files)
            .map_err(|error| self.in_words(error))?)
    }

    fn in_words(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.root.display()))
    }

    /// Sees whether the folder at the path is another one now.
    fn look_at_root(&mut self) -> Result<(), Failure> {
        match Folder::at(&self.root) {
            Ok(folder) if self.watched.as_ref() == Some(&folder) => {
                self.missing = false;
                Ok(())
            }
            Ok(_) => self.follow(),
            // Perhaps it is being swapped just now.
            Err(_) if !self.missing => {
                self.missing = true;
                Ok(())
            }
            Err(_) => Err(self.was_removed()),
        }
    }

    /// The folder that is watched was removed or moved.
    fn gone(&mut self) -> Result<(), Failure> {
        match fs::metadata(&self.root) {
            // Perhaps with the same inode, so this isn't compared.
            Ok(_) => self.follow(),
            Err(_) => Err(self.was_removed()),
        }
    }

    fn follow(&mut self) -> Result<(), Failure> {
        log::warn!(
            "{:?}: another folder is there now, so all its files are submitted",
            self.root
        );
        self.missing = false;
        self.begin(true)
    }

    fn was_removed(&self) -> Failure {
        Failure::permanent(format!(
            "{}: the watched folder was removed or moved",
            self.root.display()
        ))
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
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let watched = watcher.watch(path, RecursiveMode::NonRecursive);
        let looked = watched
            .map_err(|error| error.to_string())
            .and_then(|()| self.folder(path, files).map_err(|error| error.to_string()));
        // A folder that is gone again is no problem.
        if let Err(error) = looked
            && path.exists()
        {
            // The names of others, which may hold what a terminal would obey.
            log::warn!("{path:?}: can't be watched, so its files are missed: {error:?}");
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
