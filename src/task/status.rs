//! The answer to the question how a task is doing.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    id::TaskId,
    outcome::{End, StageName},
};

/// The place where a task is now, as [`PipelineHandle::status`](crate::PipelineHandle::status) tells it.
///
/// It is as old as the call: the task goes on meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
#[non_exhaustive]
pub enum TaskStatus {
    /// No task in flight has this key, and no outcome with it is kept.
    Unknown,
    /// It waits for a stage: for the first time, or for another attempt.
    Queued {
        /// The task.
        task: TaskId,
        /// The stage.
        stage: StageName,
        /// The attempt that it waits for, from 1.
        attempt: u32,
    },
    /// A stage is at work on it.
    Running {
        /// The task.
        task: TaskId,
        /// The stage.
        stage: StageName,
        /// The attempt, from 1.
        attempt: u32,
        /// The progress that it has made, if the stage [tells](crate::TaskContext::progress).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<StageProgress>,
    },
    /// An attempt has failed, and its undos run before the next one.
    CleaningUp {
        /// The task.
        task: TaskId,
        /// The stage.
        stage: StageName,
        /// The attempt that has failed, from 1.
        attempt: u32,
    },
    /// Its end is decided: its undos run, or will once the work on it has stopped.
    RollingBack {
        /// The task.
        task: TaskId,
    },
    /// Its rollback could not be completed, and it waits to be
    /// [retried](crate::PipelineHandle::retry) or [resolved](crate::PipelineHandle::resolve).
    Stuck {
        /// The task.
        task: TaskId,
    },
    /// It has ended. [`outcome_of`](crate::PipelineHandle::outcome_of) has its whole outcome.
    Ended {
        /// The task.
        task: TaskId,
        /// Its end.
        end: EndKind,
    },
}

/// The progress of a task within a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageProgress {
    /// The part of the stage's work that is done, from 0 to 1.
    pub fraction: f64,
    /// The text, for people.
    pub text: Arc<str>,
}

impl TaskStatus {
    /// The task, if there is one.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            TaskStatus::Unknown => None,
            TaskStatus::Queued { task, .. }
            | TaskStatus::Running { task, .. }
            | TaskStatus::CleaningUp { task, .. }
            | TaskStatus::RollingBack { task }
            | TaskStatus::Stuck { task }
            | TaskStatus::Ended { task, .. } => Some(*task),
        }
    }
}

/// The kind of a task's [`End`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndKind {
    /// Every stage returned in time.
    Done,
    /// A stage failed.
    Failed,
    /// Its deadline passed.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// It was done, and then taken back.
    TakenBack,
}

impl EndKind {
    #[cfg(feature = "journal")]
    pub(crate) const ALL: [EndKind; 5] = [
        EndKind::Done,
        EndKind::Failed,
        EndKind::TimedOut,
        EndKind::Cancelled,
        EndKind::TakenBack,
    ];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            EndKind::Done => "done",
            EndKind::Failed => "failed",
            EndKind::TimedOut => "timed out",
            EndKind::Cancelled => "cancelled",
            EndKind::TakenBack => "taken back",
        }
    }
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl End {
    /// Its kind.
    pub fn kind(&self) -> EndKind {
        match self {
            End::Done => EndKind::Done,
            End::Failed { .. } => EndKind::Failed,
            End::TimedOut { .. } => EndKind::TimedOut,
            End::Cancelled { .. } => EndKind::Cancelled,
            End::TakenBack => EndKind::TakenBack,
        }
    }
}
