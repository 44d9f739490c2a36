//! The errors of opening, reading and editing a journal.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::store::StoreError;
use crate::task::{EndKind, TaskId};

/// The reason why a journal can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The operating system, SQLite or the database's server refused an operation, for lack of space or
    /// permission, say; or that server can't be reached.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file, or the server and its database.
        path: PathBuf,
        /// The error.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another pipeline has the journal open, in this process or in another one. Stop that one
    /// first, or use another file or schema.
    #[error("{}: a running pipeline has this journal; stop it first{}", path.display(), after(*waited))]
    Held {
        /// The file.
        path: PathBuf,
        /// The time for which [`wait_for_lock`](super::JournalOptions::wait_for_lock) has waited.
        waited: Duration,
    },
    /// The file is a SQLite database, but another program's; or the schema on a server is.
    #[error("{}: not a batrun journal, but another program's database", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// Another version of batrun wrote the journal. Use that version, at least until all of its
    /// tasks have ended.
    #[error(
        "{}: the journal has format {found}, and this version of batrun reads format {known}; use \
         the version that wrote it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The journal's format.
        found: i32,
        /// The only format that this version reads.
        known: i32,
    },
    /// The journal is another pipeline's. Each pipeline needs a file of its own.
    #[error(
        "{}: this is the journal of the pipeline {found:?}, not of {wanted:?}; give each pipeline a \
         file or a schema of its own",
        path.display()
    )]
    OtherPipeline {
        /// The file.
        path: PathBuf,
        /// The name of the pipeline whose journal it is.
        found: String,
        /// The name of the pipeline that was started on it.
        wanted: String,
    },
    /// The journal is damaged: something in it is not what was written.
    ///
    /// Restore it from a copy, together with its `-wal` file. The command `batrun journal show`
    /// still shows everything that can be read.
    #[error("{}: corrupt, restore it from a copy: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The damage.
        why: String,
    },
    /// A person decided about tasks that are not stuck. Nothing was changed.
    #[error("{}: nothing was changed: {}", path.display(), joined(tasks))]
    NotStuck {
        /// The file.
        path: PathBuf,
        /// Each of these tasks, with the reason.
        tasks: Vec<NotStuck>,
    },
    /// A person cancelled tasks that can't be cancelled. Nothing was changed.
    #[cfg(feature = "postgres")]
    #[error("{}: nothing was changed: {}", path.display(), joined(tasks))]
    NotInFlight {
        /// The server and its database.
        path: PathBuf,
        /// Each of these tasks, with the reason.
        tasks: Vec<NotInFlight>,
    },
    /// A person decided about a key whose task doesn't allow it. Nothing was changed.
    #[error("{}: nothing was changed: the key {key:?}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: Box<str>,
        /// The reason.
        why: WrongKey,
    },
}

/// The reason why a person can't decide about a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStuck {
    /// The journal has no such task. It never existed, or it has left the journal.
    #[error("there is no task {0}, or it has left the journal")]
    Unknown(TaskId),
    /// The task is not stuck: it goes on by itself.
    #[error("task {0} is not stuck, it goes on by itself")]
    Live(TaskId),
}

/// The reason why a person can't cancel a task.
#[cfg(feature = "postgres")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotInFlight {
    /// The journal has no such task. It never existed, or it has ended.
    #[error("there is no task {0}, or it has ended")]
    Unknown(TaskId),
    /// The task is rolled back already.
    #[error("task {0} is rolled back already")]
    RollingBack(TaskId),
    /// The task is stuck.
    #[error("task {0} is stuck; retry or resolve it")]
    Stuck(TaskId),
}

/// The reason why a task can't be decided about by its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongKey {
    /// No task in the journal has it, and no outcome with it is kept.
    #[error("no task has it, and no outcome with it is kept")]
    Unknown,
    /// Its task has no outcome yet.
    #[error("task {0} has no outcome yet")]
    InFlight(TaskId),
    /// Its task is rolled back already.
    #[error("task {0} is rolled back already")]
    RollingBack(TaskId),
    /// Its task is stuck.
    #[error("task {0} is stuck; retry or resolve it")]
    Stuck(TaskId),
    /// Its task has ended like this.
    #[error("task {0} has ended already: {1}")]
    Ended(TaskId, EndKind),
    /// Its task is done, and its undos weren't [kept](crate::Pipeline::keep_undos).
    #[error("the undos of task {0} weren't kept; say .keep_undos() on the pipeline")]
    NotKept(TaskId),
}

fn after(waited: Duration) -> String {
    if waited.is_zero() {
        return String::new();
    }
    format!(" (waited {:.1} s for it)", waited.as_secs_f64())
}

fn joined(tasks: &[impl ToString]) -> String {
    let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
    tasks.join("; ")
}

impl JournalError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        JournalError::Io {
            path: path.to_owned(),
            error: error.into(),
        }
    }

    pub(super) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        JournalError::Corrupt {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    /// The error of a store, for the journal in this file.
    pub(super) fn store(path: &Path, error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(corrupt) => Self::corrupt(path, corrupt.to_string()),
            StoreError::Failed(why) => JournalError::Io {
                path: path.to_owned(),
                error: why.into(),
            },
            #[cfg(feature = "postgres")]
            StoreError::NotAJournal => JournalError::NotAJournal {
                path: path.to_owned(),
            },
            #[cfg(feature = "postgres")]
            StoreError::Format { found, known } => JournalError::Format {
                path: path.to_owned(),
                found,
                known,
            },
        }
    }
}
