//! The journal: what a pipeline remembers over the end of its process.
//!
//! [`Keeper`] is the ledger that a pipeline records to. It encodes what changes and hands it to the
//! [`writer`], a thread that commits whatever has gathered while the commit before ran. The writer's
//! [`book`] knows every [`live`] task and turns changes into [`rows`]; the [`store`] keeps them. At
//! the start [`recovery`] reads them and says what is to be done with each task. Between two runs
//! [`inspect`] shows the file to people, and writes what they have decided.

mod book;
mod inspect;
mod keeper;
mod live;
#[cfg(feature = "testing")]
mod memory;
mod note;
mod recovery;
mod rows;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use inspect::{
    JournalFile, JournalOutcome, JournalStage, JournalTask, JournalUndo, JournalUndoStatus,
    JournalValue, NotStuck,
};
pub(crate) use keeper::Keeper;
#[cfg(feature = "testing")]
pub use memory::{Disk, DiskFault};
pub(crate) use recovery::{Recovered, RecoveredTask, Start, Todo};
#[cfg(feature = "internals")]
pub(crate) use rows::read_rows;
pub(crate) use rows::{decode, encode};

use self::{
    rows::BlockRow,
    sqlite::Sqlite,
    store::{Store, StoreError},
};

/// What a pipeline remembers over the end of its process: an embedded journal, in one file.
///
/// ```no_run
/// # use batrun::{Journal, prelude::*};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let report = Pipeline::new("orders")
///     .journal(Journal::open("orders.journal")?)
///     .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(n * 2)))
///     .run()
///     .await?;
/// # Ok(()) }
/// ```
///
/// A task is in it from before its `submit` returns until it has its outcome: its stage, its
/// context, its deadline, its undos in their order, and which of them are cancelled. After a crash,
/// [`Pipeline::start`](crate::Pipeline::start) goes on with what it finds, as
/// [`Recovery`](crate::Recovery) says. Outcomes stay for seven days or until there are a million of
/// them; stuck tasks stay until a person [resolves](crate::PipelineHandle::resolve) them.
///
/// The file is an SQLite database, with its log beside it (`-wal`, `-shm`) while it is open, and a
/// file `-lock` that says who has it. Values are MessagePack with the names of fields, so that a
/// field that is added with `#[serde(default)]` is no new version. The program `batrun` (feature
/// `cli`) shows what is in it.
#[must_use = "a journal is for a pipeline: `.journal(..)`"]
pub struct Journal {
    store: Box<dyn Store>,
    path: PathBuf,
    retention: Retention,
}

/// What a journal survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The machine's loss of power: each commit is synced to the disk before anything follows from
    /// it. Where the disk says that it has synced and has not, nothing can help.
    #[default]
    Power,
    /// The kill of the process, at any instant: each commit is handed to the system, which writes it
    /// when it likes. After a loss of power or a crash of the system the journal is whole, but may lack the last
    /// commits: tasks that were accepted may be missing, and what was done may be done again.
    Process,
}

/// Why a journal can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The system refused something.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pipeline, of this process or another one, has it.
    #[error("{}: a running pipeline has this journal", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// It is a database, but another program's.
    #[error("{}: this is no journal of batrun", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// Another version of batrun wrote it.
    #[error("{}: this journal has format {found}, and this program knows {known}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
        /// The one that is known.
        known: i32,
    },
    /// It is another pipeline's.
    #[error("{}: this is the journal of the pipeline {found:?}, not of {wanted:?}", path.display())]
    OtherPipeline {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// It is not what was written.
    #[error("{}: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A person has decided about tasks that don't wait for one. Nothing was changed.
    #[error("{}: {}", path.display(), listed(tasks))]
    NotStuck {
        /// The file.
        path: PathBuf,
        /// What is wrong with which of them.
        tasks: Vec<NotStuck>,
    },
}

fn listed(tasks: &[NotStuck]) -> String {
    let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
    tasks.join("; ")
}

impl Journal {
    /// Opens a journal, or makes one, that survives a loss of power.
    ///
    /// # Errors
    /// [`JournalError`]. A journal that another process has is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::open_with(path, Durability::Power)
    }

    /// Opens a journal, or makes one, that survives what this durability says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, durability: Durability) -> Result<Self, JournalError> {
        let path = path.as_ref();
        Ok(Self::on(Box::new(Sqlite::open(path, durability)?), path))
    }

    fn on(store: Box<dyn Store>, path: impl Into<PathBuf>) -> Self {
        Journal {
            store,
            path: path.into(),
            retention: Retention::default(),
        }
    }

    /// How long outcomes are kept: seven days unless told otherwise. For so long a key stays taken.
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.retention.time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// How many outcomes are kept at most: 1,000,000 unless told otherwise. The oldest go first, some
    /// hundred at a time.
    pub fn keep_most(mut self, outcomes: u64) -> Self {
        self.retention.most = outcomes;
        self
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// What is said of a store that has failed.
fn unusable(path: &Path, error: StoreError) -> JournalError {
    let path = path.to_owned();
    match error {
        StoreError::Corrupt(corrupt) => JournalError::Corrupt {
            path,
            why: corrupt.to_string(),
        },
        StoreError::Failed(why) => JournalError::Io {
            path,
            error: why.into(),
        },
    }
}

/// How long outcomes are kept, and how many. Times are milliseconds.
#[derive(Clone, Debug)]
struct Retention {
    time: u64,
    most: u64,
    /// When the oldest one's time will have passed.
    next: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            time: 7 * 24 * 3_600 * 1_000,
            most: 1_000_000,
            next: 0,
        }
    }
}

impl Retention {
    fn is_due(&self, outcomes: u64, now: u64) -> bool {
        outcomes > self.most || now >= self.next
    }

    fn is_over(&self, row: &BlockRow, outcomes: u64, now: u64) -> bool {
        outcomes > self.most || row.at.saturating_add(self.time) < now
    }

    /// Nothing older than this time is left.
    fn look_again(&mut self, oldest: u64) {
        self.next = oldest.saturating_add(self.time).saturating_add(1);
    }
}
