//! The changes in a task's life, as a ledger is told of them.

use std::{any::Any, fmt, time::Duration};

use crate::{
    failure::Failure,
    task::{End, Rollback, StageIx, StopCause, TaskId},
};

/// A change in a task's life.
#[derive(Debug)]
#[non_exhaustive]
pub struct Transition<'a> {
    /// The task.
    pub task: TaskId,
    /// The change.
    pub change: Change<'a>,
}

/// A change in a task's life.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It is accepted, with this context and at most this long to its deadline.
    ///
    /// If another task already has this key, return [`LedgerError::known`](crate::ledger::LedgerError::known):
    /// this task is then not accepted.
    Accepted {
        /// The first stage's input.
        context: Value<'a>,
        /// The key that it can be found by.
        key: Option<&'a str>,
        /// Its name for people, at most 64 bytes.
        label: Option<&'a str>,
        /// The time that is left.
        deadline: Option<Duration>,
        /// The time it will have once the first stage takes it up.
        work_timeout: Option<Duration>,
    },
    /// A stage is about to work on it.
    Started {
        /// The stage.
        stage: StageIx,
        /// From 1.
        attempt: u32,
        /// The time that is left.
        deadline: Option<Duration>,
    },
    /// A stage is about to have an effect, which this undo takes back.
    UndoRegistered {
        /// The stage.
        stage: StageIx,
        /// The stage's attempt.
        attempt: u32,
        /// The undo's number within the task, from 0.
        undo: usize,
        /// The undo.
        value: Value<'a>,
    },
    /// The effect of an undo surely did not happen.
    UndoWithdrawn {
        /// The undo's number.
        undo: usize,
    },
    /// A stage returned in time.
    Finished {
        /// The stage.
        stage: StageIx,
        /// Its result: the next stage's input.
        output: Value<'a>,
    },
    /// A stage's attempt failed and another one will follow.
    AttemptFailed {
        /// The stage.
        stage: StageIx,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: &'a Failure,
    },
    /// A stage failed for good; the rollback is about to begin.
    Failed {
        /// The stage.
        stage: StageIx,
        /// Why.
        failure: &'a Failure,
    },
    /// The deadline passed, and nothing works on the task any more; the rollback is about to begin.
    TimedOut {
        /// The stage it was in, or waited for.
        stage: StageIx,
    },
    /// It was cancelled, and nothing works on it any more; the rollback is about to begin.
    Cancelled {
        /// The stage it was in, or waited for.
        stage: StageIx,
        /// By whom.
        cause: StopCause,
    },
    /// An undo is about to be cancelled.
    CancelStarted {
        /// The undo's number.
        undo: usize,
        /// From 1.
        attempt: u32,
    },
    /// An undo's cancel returned.
    CancelEnded {
        /// The undo's number.
        undo: usize,
        /// Why it failed, if it did.
        failure: Option<&'a Failure>,
    },
    /// It has its outcome.
    Ended {
        /// Its end.
        end: &'a End,
        /// The result of its rollback.
        rollback: &'a Rollback,
    },
    /// It was stuck, and the undos that are left are about to run again.
    Retried,
    /// It was stuck, and a person has dealt with it.
    Resolved,
    /// It has not begun, and is left to another process from now on. Only with a journal in a database.
    Released,
}

/// A context or an undo, whose type the ledger knows or finds out.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a dyn Any);

impl<'a> Value<'a> {
    pub(crate) fn of(value: &'a dyn Any) -> Self {
        Value(value)
    }

    /// The value, if it is a `T`.
    pub fn downcast_ref<T: Any>(&self) -> Option<&'a T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}
