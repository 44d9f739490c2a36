//! The seam for remembering: whatever happens to a task is recorded before what follows from it.

#[cfg(feature = "journal")]
mod mark;

#[cfg(feature = "journal")]
pub(crate) use mark::{Mark, Progress};

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
    task::{End, Outcome, Rollback, StageIx, StopCause, TaskId},
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

    /// The outcome of the task that was accepted with this key, once it has one; `None` where no
    /// such task is live or kept. A ledger that keeps no keys knows none.
    fn outcome_of(&self, key: &str) -> KeptOutcome {
        let _ = key;
        Box::pin(async { Ok(None) })
    }

    /// The pipeline has ended: nothing more will be recorded. May block for as long as it takes to
    /// write what is left.
    fn close(&self) {}
}

/// An outcome that a ledger keeps, with the last stage's output if it was kept too.
pub type KeptOutcome =
    Pin<Box<dyn Future<Output = Result<Option<Outcome<Box<dyn Any + Send>>>, LedgerError>> + Send>>;

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
    ///
    /// Where its key is another task's, the answer is [`LedgerError::known`], and the task is none.
    Accepted {
        /// The first stage's input.
        context: Value<'a>,
        /// What it can be found by.
        key: Option<&'a str>,
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
    /// It was stuck, and a person has dealt with it.
    Resolved,
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
    #[cfg(feature = "journal")]
    Mark(Mark),
    Later(Pin<Box<dyn Future<Output = Result<(), LedgerError>> + Send>>),
}

/// Why a change could not be recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct LedgerError {
    text: Arc<str>,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nothing can be recorded any more.
    Broken,
    /// This change can't be recorded; others can.
    Refused,
    /// The key is this task's.
    Known(TaskId),
}

impl LedgerError {
    /// Nothing can be recorded any more, with a text for people: the pipeline is suspended.
    pub fn new(text: impl fmt::Display) -> Self {
        Self::of(Why::Broken, text)
    }

    /// This change can't be recorded, a value that can't be encoded, say; others can. Fails what
    /// the change is part of: the `submit`, the `on_cancel`, the task whose stage has returned it.
    pub fn refused(text: impl fmt::Display) -> Self {
        Self::of(Why::Refused, text)
    }

    /// A task can't be accepted because its key is that of another one.
    pub fn known(task: TaskId) -> Self {
        Self::of(Why::Known(task), format_args!("task {task} has this key"))
    }

    fn of(why: Why, text: impl fmt::Display) -> Self {
        let text = text.to_string().into();
        LedgerError { text, why }
    }

    pub(crate) fn text(&self) -> Arc<str> {
        self.text.clone()
    }

    pub(crate) fn why(&self) -> Why {
        self.why
    }

    /// Whether other changes can be recorded all the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.why != Why::Broken
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

    /// Recorded once a ledger that writes in order has come so far.
    #[cfg(feature = "journal")]
    pub(crate) fn at(mark: Mark) -> Self {
        Recorded(State::Mark(mark))
    }

    /// The result, if it is there already.
    pub(crate) fn ready(self) -> Result<Result<(), LedgerError>, Recorded> {
        match self.0 {
            State::Ready(None) => Ok(Ok(())),
            State::Ready(Some(error)) => Ok(Err(error)),
            #[cfg(feature = "journal")]
            State::Mark(mark) => match mark.result() {
                Some(result) => Ok(result),
                None => Err(Recorded(State::Mark(mark))),
            },
            later => Err(Recorded(later)),
        }
    }
}

/// What a batch waits for: all of these.
#[derive(Default)]
pub(crate) struct AllRecorded(Vec<Recorded>);

impl AllRecorded {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more that isn't ready.
    pub(crate) fn add(&mut self, recorded: Recorded) {
        #[cfg(feature = "journal")]
        if let (Some(Recorded(State::Mark(last))), State::Mark(next)) =
            (self.0.last_mut(), &recorded.0)
            && last.join(next)
        {
            return;
        }
        self.0.push(recorded);
    }

    pub(crate) async fn wait(self) -> Result<(), LedgerError> {
        for recorded in self.0 {
            recorded.await?;
        }
        Ok(())
    }
}

impl Future for Recorded {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            #[cfg(feature = "journal")]
            State::Mark(mark) => Pin::new(mark).poll(cx),
            State::Later(recorded) => recorded.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(None) => "Recorded(now)",
            State::Ready(Some(_)) => "Recorded(failed)",
            _ => "Recorded(later)",
        })
    }
}
