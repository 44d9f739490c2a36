//! The part of a task's record that few tasks need, which is behind its lock.

use std::{any::Any, sync::Arc, task::Waker};

use super::{
    id::TaskId,
    names::Names,
    outcome::{Outcome, StopCause},
    state::StageIx,
    undo::Undos,
};
use crate::{failure::Failure, text::cut};

/// The longest text of a progress, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// The part of a record that few tasks need.
#[derive(Default)]
pub(crate) struct Details {
    pub(crate) undos: Undos,
    /// Set by the first end that was taken, and never again.
    pub(crate) end: Option<Box<EndReason>>,
    pub(crate) names: Option<Box<Names>>,
    pub(crate) progress: Option<Box<Progress>>,
    pub(crate) output: Option<Box<dyn Any + Send>>,
    pub(crate) answer: Option<TicketAnswer>,
    /// Wakers of those who wait for the answer, each with a number of its own.
    pub(crate) waiting: Vec<(u64, Waker)>,
    pub(crate) last_waiting: u64,
    /// Its ticket was given before its acceptance was recorded, and it still isn't.
    pub(crate) is_recording: bool,
    /// Number of its attempts of this stage that ended with the process. They don't count as tries.
    pub(crate) spared: (StageIx, u32),
    /// The number of processes that it was of before this one.
    pub(crate) owners: u32,
}

/// Why a task is not done.
#[derive(Clone, Debug)]
pub(crate) enum EndReason {
    Failed(StageIx, Failure),
    TimedOut(StageIx),
    Cancelled(StageIx, StopCause),
    /// It was done.
    #[cfg(feature = "journal")]
    TakenBack,
    /// It waited for its first stage, and goes on in another process.
    #[cfg(feature = "journal")]
    Released,
}

/// The answer of a ticket.
pub(crate) enum TicketAnswer {
    Outcome(Box<Outcome>),
    /// The runtime ended under the pipeline.
    Gone,
    Suspended(Arc<str>),
    /// Whatever the ledger says of the task with this key, which was there before.
    InLedger {
        task: TaskId,
        key: Arc<str>,
    },
    /// The same of this task itself, which was left to another process.
    #[cfg(feature = "journal")]
    Released {
        task: TaskId,
        key: Arc<str>,
    },
    /// It could not be recorded, so it was never accepted.
    Unrecorded(Arc<str>),
}

/// The progress of a task in one attempt of one stage. Once the task is elsewhere, it counts no more.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) stage: StageIx,
    pub(crate) attempt: u32,
    /// From 0 to 1.
    pub(crate) fraction: f64,
    pub(crate) text: Arc<str>,
}

impl Progress {
    pub(crate) fn new(stage: StageIx, attempt: u32, fraction: f64, text: &str) -> Self {
        Progress {
            stage,
            attempt,
            // This way round, a NaN is 0.
            fraction: if fraction > 0.0 {
                fraction.min(1.0)
            } else {
                0.0
            },
            text: cut(text, MAX_TEXT_BYTES).into(),
        }
    }
}
