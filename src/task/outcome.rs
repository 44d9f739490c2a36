//! The end of a task.

use std::{any::Any, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    id::TaskId,
    names::{Named, Names},
};
use crate::failure::Failure;

/// A stage's name, shared.
pub type StageName = Arc<str>;

/// The end of a task, and of its rollback.
///
/// It prints as a line: `task 4 failed in pay: card refused; 2 undos taken back`, and with a label
/// and a key as `task 4 "ada" (key order-17) failed ..`. From a
/// [`PipelineHandle`](crate::PipelineHandle)'s ticket, a done task's outcome has the output:
///
/// ```
/// # use batrun::prelude::*;
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let numbers = Pipeline::new("numbers")
/// #     .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n)))
/// #     .start()
/// #     .await?;
/// let outcome = numbers.submit(7).await?.outcome().await?;
/// match (outcome.end, outcome.output) {
///     (End::Done, Some(output)) => assert_eq!(output, 14),
///     (end, _) => println!("not done: {end}"),
/// }
/// # Ok(()) }
/// ```
///
/// It is `Serialize` if its output is, and the output is part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "O: Serialize", deserialize = "O: Deserialize<'de>"))]
#[non_exhaustive]
pub struct Outcome<O = ()> {
    /// The task.
    pub task: TaskId,
    /// The [key](crate::submit::Submit::key) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The [label](crate::submit::Submit::label) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// The end of its work.
    pub end: End,
    /// The end of its rollback.
    pub rollback: Rollback,
    /// The last stage's output, for a done task whose [`Ticket`](crate::Ticket) asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<O>,
}

/// The end of a task's work: the first one that was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum End {
    /// Every stage returned in time.
    Done,
    /// A stage failed or panicked, and no attempt was left.
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
        /// The cause.
        cause: StopCause,
    },
    /// It was done, and then [taken back](crate::PipelineHandle::take_back).
    TakenBack,
}

/// The cause of a cancelled task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopCause {
    /// [`Ticket::cancel`](crate::Ticket::cancel) or
    /// [`PipelineHandle::cancel`](crate::PipelineHandle::cancel).
    User,
    /// The pipeline's shutdown.
    Shutdown,
    /// A restart with [`Recovery::RollBack`](crate::policy::Recovery::RollBack).
    Recovery,
}

/// The end of a task's rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Rollback {
    /// No undo had to run: the task is done, or had registered none.
    None,
    /// Every undo ran to its end.
    Complete {
        /// The number of undos, without those that ran between two attempts.
        undos: usize,
    },
    /// Something is left that a person has to look at; see
    /// [`PipelineHandle::stuck`](crate::PipelineHandle::stuck).
    Stuck(Stuck),
}

/// A task whose rollback could not be completed. It prints each undo that is left:
/// `pay: 30 (the bank is closed)`.
///
/// It is listed until a person has dealt with it:
/// [`PipelineHandle::resolve`](crate::PipelineHandle::resolve), or the program `batrun` for a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stuck {
    /// The task.
    pub task: TaskId,
    /// The [key](crate::submit::Submit::key) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The [label](crate::submit::Submit::label) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// The stage whose call had not returned when the shutdown gave up waiting for it; its thread
    /// may still be at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_running: Option<StageName>,
    /// Each undo that is left, in the order of the rollback.
    pub undos: Vec<StuckUndo>,
}

/// An undo that is left: it failed for good, or did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StuckUndo {
    /// The stage that registered it.
    pub stage: StageName,
    /// The undo, as its `Debug` shows it.
    pub undo: String,
    /// The error of its last try, or the reason why there was none.
    pub error: String,
}

impl Rollback {
    /// `true` if something is left that a person has to look at.
    pub fn is_stuck(&self) -> bool {
        matches!(self, Rollback::Stuck(_))
    }
}

impl Outcome {
    pub(crate) fn new(task: TaskId, names: Names, end: End, rollback: Rollback) -> Self {
        Outcome {
            task,
            key: names.key,
            label: names.label,
            end,
            rollback,
            output: None,
        }
    }

    /// That of a task that is done.
    pub(crate) fn done(task: TaskId, names: Names) -> Self {
        Self::new(task, names, End::Done, Rollback::None)
    }
}

impl Stuck {
    /// The task as people are told of it: its number and its names.
    pub(crate) fn named(&self) -> Named<'_> {
        Named {
            task: self.task,
            key: self.key.as_deref(),
            label: self.label.as_deref(),
        }
    }
}

impl Outcome<Box<dyn Any + Send>> {
    /// The same with its output as an `O`, or without it if it is of another type.
    pub(crate) fn downcast<O: 'static>(mut self) -> Outcome<O> {
        let output = self.output.take().and_then(|any| any.downcast().ok());
        self.with_output(output.map(|output| *output))
    }
}

impl<O> Outcome<O> {
    /// `true` if every stage returned in time.
    pub fn is_done(&self) -> bool {
        matches!(self.end, End::Done)
    }

    /// The same outcome with another output, made from this one if there is any.
    pub fn map<P>(mut self, output: impl FnOnce(O) -> P) -> Outcome<P> {
        let mapped = self.output.take().map(output);
        self.with_output(mapped)
    }

    /// The task as people are told of it: its number and its names.
    pub(crate) fn named(&self) -> Named<'_> {
        Named {
            task: self.task,
            key: self.key.as_deref(),
            label: self.label.as_deref(),
        }
    }

    pub(crate) fn with_output<P>(self, output: Option<P>) -> Outcome<P> {
        Outcome {
            task: self.task,
            key: self.key,
            label: self.label,
            end: self.end,
            rollback: self.rollback,
            output,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Done => f.write_str("done"),
            End::TakenBack => f.write_str("done, then taken back"),
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
        if parts.is_empty() {
            // It was set aside, and its end says why.
            parts.push("it waits for a person".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

impl<O> fmt::Display for Outcome<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} {}", self.named(), self.end)?;
        match &self.rollback {
            Rollback::None => Ok(()),
            rollback => write!(f, "; {rollback}"),
        }
    }
}
