//! How a task ended.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::TaskId;
use crate::Failure;

/// A stage's name, shared.
pub type StageName = Arc<str>;

/// How a task ended, and how taking back what it did went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
#[non_exhaustive]
pub struct Outcome<O = ()> {
    /// The task.
    pub task: TaskId,
    /// How it ended.
    pub end: End,
    /// How its rollback went.
    pub rollback: Rollback,
    /// What the last stage returned, for a done task whose [`Ticket`](crate::Ticket) asked for it.
    #[serde(skip)]
    pub output: Option<O>,
}

/// How a task ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum End {
    /// Every stage returned in time.
    Done,
    /// A stage failed or panicked, and was not tried again.
    Failed {
        /// The stage.
        stage: StageName,
        /// Its error.
        failure: Failure,
    },
    /// Its deadline passed first.
    TimedOut {
        /// The stage it was in, or waited for.
        stage: StageName,
    },
    /// It was cancelled first.
    Cancelled {
        /// The stage it was in, or waited for.
        stage: StageName,
        /// By whom.
        cause: StopCause,
    },
}

/// Who cancelled a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopCause {
    /// [`Ticket::cancel`](crate::Ticket::cancel) or
    /// [`PipelineHandle::cancel`](crate::PipelineHandle::cancel).
    User,
    /// The pipeline's shutdown.
    Shutdown,
    /// A restart that was told to take back whatever it found.
    Recovery,
}

/// How taking back what a task did went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Rollback {
    /// There was nothing to take back: the task is done, or had registered no undo.
    None,
    /// Every undo was cancelled.
    Complete {
        /// How many, not counting those cancelled between two attempts.
        undos: usize,
    },
    /// Something is left that a person has to look at.
    Stuck(Stuck),
}

/// A task whose rollback could not be completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stuck {
    /// The task.
    pub task: TaskId,
    /// The stage whose call had not returned when the shutdown gave up waiting for it; its thread
    /// may still be at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_running: Option<StageName>,
    /// Each undo that is left, in the order of the rollback.
    pub undos: Vec<StuckUndo>,
}

/// An undo that was not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StuckUndo {
    /// The stage that registered it.
    pub stage: StageName,
    /// The undo, as its `Debug` shows it.
    pub undo: String,
    /// Why its last cancel failed, or why none was tried.
    pub error: String,
}

impl Rollback {
    /// Whether something is left that a person has to look at.
    pub fn is_stuck(&self) -> bool {
        matches!(self, Rollback::Stuck(_))
    }
}

#[cfg(feature = "journal")]
impl Outcome {
    /// That of a task that is done.
    pub(crate) fn done(task: TaskId) -> Self {
        Outcome {
            task,
            end: End::Done,
            rollback: Rollback::None,
            output: None,
        }
    }
}

impl<O> Outcome<O> {
    /// Whether every stage returned in time.
    pub fn is_done(&self) -> bool {
        matches!(self.end, End::Done)
    }

    /// The same with another output.
    pub fn map<P>(self, output: impl FnOnce(O) -> P) -> Outcome<P> {
        let Outcome {
            task,
            end,
            rollback,
            output: before,
        } = self;
        Outcome {
            task,
            end,
            rollback,
            output: before.map(output),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Done => f.write_str("done"),
            End::Failed { stage, failure } => write!(f, "failed in {stage}: {failure}"),
            End::TimedOut { stage } => write!(f, "timed out in {stage}"),
            End::Cancelled {
                stage,
                cause: StopCause::User,
            } => write!(f, "cancelled in {stage}"),
            End::Cancelled {
                stage,
                cause: StopCause::Shutdown,
            } => {
                write!(f, "cancelled by the shutdown in {stage}")
            }
            End::Cancelled {
                stage,
                cause: StopCause::Recovery,
            } => {
                write!(f, "cancelled by the restart in {stage}")
            }
        }
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rollback::None => f.write_str("nothing to take back"),
            Rollback::Complete { undos: 1 } => f.write_str("1 undo taken back"),
            Rollback::Complete { undos } => write!(f, "{undos} undos taken back"),
            Rollback::Stuck(stuck) => write!(f, "stuck: {stuck}"),
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(stage) = &self.still_running {
            parts.push(format!("{stage} is still running"));
        }
        for StuckUndo { stage, undo, error } in &self.undos {
            parts.push(format!("{stage}: {undo} ({error})"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl<O> fmt::Display for Outcome<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} {}", self.task, self.end)?;
        match &self.rollback {
            Rollback::None => Ok(()),
            rollback => write!(f, "; {rollback}"),
        }
    }
}
