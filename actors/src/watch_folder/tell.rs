//! The watcher's side: what its events mean, and files that are linked into the folder.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use super::WAITING;

/// A close of a written file is told, or isn't.
const TELLS_CLOSES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Time in which a program that makes a file also opens it, in the same call. A file that has not
/// been opened by then was linked into the folder.
const GRACE: Duration = Duration::from_millis(100);

/// Time until something may be linked, if nothing is.
const NEVER: Duration = Duration::from_secs(3_600);

pub(super) enum News {
    /// Something is new at this path.
    At(PathBuf),
    /// The folder was removed or moved away.
    Gone,
    /// No path: look whether to end, and whether events were lost.
    Wake,
}

/// Called on the watcher's own thread. It must not wait: the same thread answers when a watch is
/// added, so a wait for room here would be a deadlock.
#[derive(Clone)]
pub(super) struct Tell {
    root: PathBuf,
    sender: SyncSender<News>,
    lost: Arc<AtomicBool>,
    /// Files that appeared under a new name, and may be unfinished.
    new: Arc<Mutex<HashMap<PathBuf, New>>>,
}

/// A new name, and what has happened to its file since.
struct New {
    since: Instant,
    opened: bool,
    written: bool,
}

impl Tell {
    pub(super) fn new(root: PathBuf, sender: SyncSender<News>) -> Self {
        Tell {
            root,
            sender,
            lost: Arc::default(),
            new: Arc::default(),
        }
    }

    pub(super) fn event(&self, event: notify::Result<Event>) {
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
                kind if TELLS_CLOSES => match self.meaning(kind, &path) {
                    Some(()) => News::At(path),
                    None => continue,
                },
                EventKind::Access(_) | EventKind::Remove(_) => continue,
                _ => News::At(path),
            };
            self.send(news);
        }
    }

    /// `Some` if, after such an event, a file is complete or a folder new.
    fn meaning(&self, kind: EventKind, path: &Path) -> Option<()> {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                self.files().remove(path);
                Some(())
            }
            EventKind::Create(CreateKind::Folder) => Some(()),
            EventKind::Create(_) => {
                let mut files = self.files();
                if files.len() >= WAITING {
                    files.clear();
                    drop(files);
                    self.lose();
                    return None;
                }
                let new = New {
                    since: Instant::now(),
                    opened: false,
                    written: false,
                };
                files.insert(path.to_owned(), new);
                drop(files);
                // The thread may be waiting for longer.
                self.send(News::Wake);
                None
            }
            EventKind::Access(AccessKind::Open(_)) => {
                if let Some(new) = self.files().get_mut(path) {
                    new.opened = true;
                }
                None
            }
            EventKind::Modify(ModifyKind::Data(_)) => {
                if let Some(new) = self.files().get_mut(path) {
                    new.written = true;
                }
                None
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                self.files().remove(path);
                None
            }
            _ => None,
        }
    }

    fn send(&self, news: News) {
        if self.sender.try_send(news).is_err() {
            self.lose();
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.sender.try_send(News::Wake).ok();
    }

    /// `true` if events were lost since the last call.
    pub(super) fn were_lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Time until it can be told of a new file whether it was linked.
    pub(super) fn next_judgement(&self) -> Duration {
        let files = self.files();
        let waits = files.values().map(|new| new.since.elapsed());
        waits
            .max()
            .map_or(NEVER, |oldest| GRACE.saturating_sub(oldest))
    }

    /// The files that were linked into the folder. Those that are being written are told when they
    /// are closed.
    pub(super) fn linked(&self) -> Vec<PathBuf> {
        let mut ripe = Vec::new();
        self.files().retain(|path, new| {
            let is_ripe = new.since.elapsed() >= GRACE;
            if is_ripe {
                ripe.push((path.clone(), !new.opened, new.written));
            }
            !is_ripe
        });
        // Looked at without the lock, for which the watcher's thread may be waiting.
        let is_linked = |(path, unopened, written): (PathBuf, bool, bool)| {
            let had_content = || fs::symlink_metadata(&path).is_ok_and(|file| is_older(&file));
            (unopened || !written && had_content()).then_some(path)
        };
        ripe.into_iter().filter_map(is_linked).collect()
    }

    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, New>> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `true` if a file, to which nothing was written since it got its name, is older than that. It may
/// have been opened since by whoever reads new files.
fn is_older(file: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let changed = u64::try_from(file.ctime()).ok().map(|seconds| {
            let nanos = u32::try_from(file.ctime_nsec()).unwrap_or(0);
            std::time::UNIX_EPOCH + Duration::new(seconds, nanos)
        });
        // A link changes the time of the last change; a file's making is its first.
        let is_changed = file.created().is_ok_and(|born| changed > Some(born));
        file.nlink() > 1 || file.len() > 0 || is_changed
    }
    #[cfg(not(unix))]
    {
        file.len() > 0
    }
}
