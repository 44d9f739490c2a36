//! The seam for remembering: whatever happens to a task is recorded before what follows from it.

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    Failure,
    task::{End, Rollback, StageIx, StopCause, TaskId},
};

/// Remembers what happens to tasks, so that another process could go on from there.
///
/// Each change is recorded by whoever makes it (intake, worker, task context, reporter) and what
/// follows from it happens only once [`Recorded`] is ready: a task is accepted, an effect may take
/// place, a result goes on to the next stage, a rollback begins. A pipeline without a ledger keeps
/// nothing and pays nothing.
///
/// Calls come from several threads. Those of one task come one after the other, in the order of
/// what happened; a ledger that writes later must keep that order.
///
/// When a record fails, the pipeline is suspended: it accepts nothing more, drops the futures at
/// work, starts no cancel, and every ticket answers [`Error::Suspended`](crate::Error::Suspended).
pub trait Ledger: Send + Sync + 'static {
    /// Records one change.
    fn record(&self, transition: Transition<'_>) -> Recorded;
}

/// A change in a task's life.
#[derive(Debug)]
#[non_exhaustive]
pub struct Transition<'a> {
    /// The task.
    pub task: TaskId,
    /// What happened to it.
    pub change: Change<'a>,
}

/// What happened to a task.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It is accepted, with this context and at most this long to its deadline.
    Accepted {
        /// The first stage's input.
        context: Value<'a>,
        /// The time that is left.
        deadline: Option<Duration>,
    },
    /// A stage is about to work on it.
    Started {
        /// The stage.
        stage: StageIx,
        /// From 1.
        attempt: u32,
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
        /// What it returned: the next stage's input.
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
        /// How it ended.
        end: &'a End,
        /// How its rollback went.
        rollback: &'a Rollback,
    },
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

/// Ready once a change is recorded.
#[must_use = "what follows from a change waits until it is recorded"]
pub struct Recorded(State);

enum State {
    Ready(Option<LedgerError>),
    Later(Pin<Box<dyn Future<Output = Result<(), LedgerError>> + Send>>),
}

/// Why a change could not be recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LedgerError(Arc<str>);

impl LedgerError {
    /// With a text for people.
    pub fn new(text: impl fmt::Display) -> Self {
        LedgerError(text.to_string().into())
    }

    pub(crate) fn text(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Recorded {
    /// Recorded already, or nothing is kept.
    pub fn now() -> Self {
        Recorded(State::Ready(None))
    }

    /// It could not be recorded.
    pub fn failed(error: LedgerError) -> Self {
        Recorded(State::Ready(Some(error)))
    }

    /// Recorded once this future is ready.
    pub fn later(recorded: impl Future<Output = Result<(), LedgerError>> + Send + 'static) -> Self {
        Recorded(State::Later(Box::pin(recorded)))
    }

    /// The result, if it is there already.
    pub(crate) fn ready(self) -> Result<Result<(), LedgerError>, Recorded> {
        match self.0 {
            State::Ready(None) => Ok(Ok(())),
            State::Ready(Some(error)) => Ok(Err(error)),
            later => Err(Recorded(later)),
        }
    }
}

impl Future for Recorded {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            State::Later(recorded) => recorded.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(None) => "Recorded(now)",
            State::Ready(Some(_)) => "Recorded(failed)",
            State::Later(_) => "Recorded(later)",
        })
    }
}
