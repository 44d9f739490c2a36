//! The errors of building, starting and using a pipeline, and the failures of stages.
//!
//! | error | of |
//! |---|---|
//! | [`Error`] | starting and using a pipeline |
//! | [`BuildError`] | a pipeline that is put together wrongly |
//! | [`Failure`] | a stage, an undo, a producer |
//! | [`SubmitError`](crate::SubmitError), [`TrySubmitError`](crate::TrySubmitError) | submitting a task |
//! | [`UndoError`](crate::stage::UndoError) | registering an undo |
//! | [`RetryError`] | retrying a stuck task |
//! | `KeyError` | forgetting or taking back a task by its key |
//! | `AnywhereError` | a decision about a task in another process |
//! | [`LedgerError`](crate::ledger::LedgerError), `journal::JournalError` | recording |

use std::sync::Arc;

#[cfg(feature = "journal")]
use crate::journal::JournalError;
#[cfg(feature = "journal")]
use crate::task::EndKind;
use crate::task::TaskId;

pub use crate::failure::{Failure, FailureKind};

/// The error of a pipeline that runs, or could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline was put together wrongly; nothing was started.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The operating system refused a thread; nothing was started.
    #[error("the operating system refused a thread for the pipeline: {0}")]
    Spawn(#[source] std::io::Error),
    /// The runtime that the pipeline lived in has ended under it, or a ticket's outcome is no longer
    /// kept. [Shut the pipeline down](crate::PipelineHandle::shutdown) before its System ends.
    #[error(
        "the runtime ended before the pipeline did; shut the pipeline down before its System ends"
    )]
    Gone,
    /// The pipeline stopped where it was, because a change could not be recorded or by
    /// [`Shutdown::Suspend`](crate::Shutdown::Suspend). With a journal, the next start goes on.
    #[error("the pipeline is suspended: {0}")]
    Suspended(Arc<str>),
    /// The task was never accepted, since it could not be recorded: its context can't be encoded, say. For
    /// tickets of [`Submit::now`](crate::submit::Submit::now), which doesn't wait for that.
    #[error("the task can't be recorded: {0}")]
    Unrecorded(Arc<str>),
    /// The pipeline is shutting down, or has ended, so nothing of it can be changed. For a
    /// [`Control`](crate::Control), which keeps no pipeline open.
    #[error("the pipeline is shutting down or has ended, so nothing of it can be changed")]
    Ended,
    /// The journal can't be used; the error names its file.
    #[cfg(feature = "journal")]
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The pipeline has no such stage.
    #[error("the pipeline has no stage named {0:?}")]
    NoSuchStage(String),
    /// More workers than a machine has use for: at most 100,000.
    #[error("stage {0:?} can't have more than {MOST_WORKERS} workers")]
    TooManyWorkers(String),
    /// A pool can't be resized to nothing: [pause](crate::PipelineHandle::pause) the pipeline instead.
    #[error("stage {0:?} needs at least one worker; to stop all work, pause the pipeline")]
    ZeroWorkers(String),
    /// The stage is an actor of yours, whose capacity can't be changed while it runs.
    #[error("stage {0:?} is an actor of yours: its capacity can't be changed while it runs")]
    FixedSize(String),
}

/// A stuck task can't be tried again now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// No task of this number is stuck: it was resolved, or it is being retried already.
    #[error("task {0} isn't stuck")]
    NotStuck(TaskId),
    /// It can only go on in another process.
    #[error(
        "task {0} can't be retried by this process: {1}; with a journal in a file, stop the pipeline, say \
         `batrun journal retry FILE {0}`, and start a version of the program that can go on with it; with one in \
         a database, start such a version, stop this process, and say `batrun cluster retry --pipeline NAME {0}`"
    )]
    Unable(TaskId, Arc<str>),
    /// The pipeline is shutting down, or has ended.
    #[error(
        "task {0} can't be retried, as the pipeline takes no more tasks; with a journal, retry it once the \
         pipeline runs again, or say `batrun journal retry FILE {0}` before; with one in a database, say \
         `batrun cluster retry --pipeline NAME {0}`"
    )]
    Closed(TaskId),
    /// The pipeline is suspended, because its journal or ledger has failed or by
    /// [`Shutdown::Suspend`](crate::Shutdown::Suspend).
    #[error(
        "task {0} can't be retried, as the pipeline is suspended; retry it after the next start"
    )]
    Suspended(TaskId),
}

/// The task with this key can't be forgotten or taken back.
#[cfg(feature = "journal")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No task in flight has this key, and no outcome with it is kept.
    #[error(
        "no task with the key {0:?} is known: it was never submitted, or its outcome has expired"
    )]
    Unknown(Box<str>),
    /// The task has no outcome yet. Wait for [`outcome_of`](crate::PipelineHandle::outcome_of), or
    /// [cancel](crate::PipelineHandle::cancel_key) it.
    #[error("task {task} with the key {key:?} has no outcome yet; wait for it, or cancel the task")]
    InFlight {
        /// The key.
        key: Box<str>,
        /// The task.
        task: TaskId,
    },
    /// The task is stuck. [Retry](crate::PipelineHandle::retry) or
    /// [resolve](crate::PipelineHandle::resolve) it.
    #[error("task {task} with the key {key:?} is stuck; retry or resolve it")]
    Stuck {
        /// The key.
        key: Box<str>,
        /// The task.
        task: TaskId,
    },
    /// The task has ended, but not well, so there is nothing to take back.
    #[error("task {task} with the key {key:?} isn't done, it {}; there is nothing to take back", ended(*.end))]
    NotDone {
        /// The key.
        key: Box<str>,
        /// The task.
        task: TaskId,
        /// Its end.
        end: EndKind,
    },
    /// The undos were dropped when the task was done: say
    /// [`keep_undos`](crate::Pipeline::keep_undos), for later ones.
    #[error(
        "the undos of task {task} with the key {key:?} weren't kept; for later tasks, say \
         .keep_undos() on the pipeline"
    )]
    NotKept {
        /// The key.
        key: Box<str>,
        /// The task.
        task: TaskId,
    },
    /// An undo can't be decoded any more. The task stays done.
    #[error(
        "task {task} with the key {key:?} can't be taken back: {why}; run a version of the program \
         that knows it"
    )]
    Undecodable {
        /// The key.
        key: Box<str>,
        /// The task.
        task: TaskId,
        /// The reason.
        why: String,
    },
    /// The pipeline is shutting down, or has ended.
    #[error("the pipeline takes no more tasks; try again after the next start")]
    Closed,
    /// The pipeline is suspended, because its journal has failed or by [`Shutdown::Suspend`](crate::Shutdown::Suspend).
    #[error(
        "the pipeline is suspended: its journal has failed, as the log says, or `Shutdown::Suspend` was \
         called; try again after the next start"
    )]
    Suspended,
}

/// A task that may be another process's can't be decided about, or looked for.
#[cfg(feature = "journal")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnywhereError {
    /// No process has a task of this number: it has ended, or there never was one.
    #[error("no process has a task {0}: it has ended, or it was never submitted")]
    NoSuchTask(TaskId),
    /// The process that has the task can't do it, and says why.
    #[error("{0}")]
    Refused(String),
    /// The database has not answered, or what it says can't be read. The pipeline goes on.
    #[error("the journal could not be asked: {0}; try again")]
    Failed(String),
    /// The pipeline is shutting down, or has ended.
    #[error(
        "the pipeline takes no more tasks; try again after the next start, or in another process"
    )]
    Closed,
    /// The pipeline is suspended, because its journal has failed or by [`Shutdown::Suspend`](crate::Shutdown::Suspend).
    #[error(
        "the pipeline is suspended: its journal has failed, as the log says, or `Shutdown::Suspend` was \
         called; try again after the next start, or in another process"
    )]
    Suspended,
}

#[cfg(feature = "journal")]
fn ended(end: EndKind) -> &'static str {
    match end {
        EndKind::Done => "is done",
        EndKind::Failed => "has failed",
        EndKind::TimedOut => "timed out",
        EndKind::Cancelled => "was cancelled",
        EndKind::TakenBack => "was taken back",
    }
}

/// The number of workers that a stage may have.
pub(crate) const MOST_WORKERS: usize = 100_000;

/// A mistake that [`Pipeline::start`](crate::Pipeline::start) finds before anything runs. Each names
/// the pipeline or the stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A pipeline needs a stage.
    #[error("pipeline {0:?} has no stage; add one with .stage(..)")]
    NoStage(String),
    /// More stages than can be started: at most 1,000.
    #[error("pipeline {0:?} has more than 1,000 stages")]
    TooManyStages(String),
    /// Logs, reports and a journal know a pipeline by its name.
    #[error("a pipeline has an empty name; give Pipeline::new(..) one")]
    NoPipelineName,
    /// Logs, reports and a journal know a stage by its name.
    #[error("a stage of pipeline {0:?} has an empty name; give it one with .named(..)")]
    NoStageName(String),
    /// Nothing would ever be accepted.
    #[error("pipeline {0:?} has max_stuck(0), with which nothing is accepted; allow at least 1")]
    ZeroStuck(String),
    /// Every task would fail at the next start, whatever it was doing.
    #[cfg(feature = "journal")]
    #[error("pipeline {0:?} has crash_limit(0), at which every task fails; allow at least 1")]
    ZeroCrashLimit(String),
    /// Workers are counted from 1.
    #[error("stage {0:?} has zero workers; it needs at least one")]
    ZeroWorkers(String),
    /// A queue needs room for at least one task.
    #[error("stage {0:?} has zero capacity; its queue needs room for at least one task")]
    ZeroCapacity(String),
    /// More workers than a machine has use for: at most 100,000.
    #[error("stage {0:?} has more than {MOST_WORKERS} workers")]
    TooManyWorkers(String),
    /// More room than a semaphore can count.
    #[error("stage {0:?} has a capacity beyond {max}", max = usize::MAX >> 4)]
    CapacityTooLarge(String),
    /// A timeout of zero would fail every attempt.
    #[error("stage {0:?} has a zero {1}, which would fail every attempt")]
    ZeroTimeout(String, &'static str),
    /// A rate of zero would never let a task start.
    #[error("stage {0:?} has a zero rate limit, which would never let a task start")]
    ZeroRate(String),
    /// Stages are told apart by their names.
    #[error("two stages are named {0:?}; use .named(..) to tell them apart")]
    SameName(String),
    /// A test wants a run repeated, and the stage's input can't be copied.
    #[cfg(feature = "testing")]
    #[error("stage {0:?} can't be run twice: say .retry(Retry::none()), which copies its input")]
    NotRepeatable(String),
    /// A test's fault is meant for a stage that isn't there.
    #[cfg(feature = "testing")]
    #[error("a fault is meant for stage {0:?}, which the pipeline doesn't have")]
    FaultWithoutStage(String),
    /// A pipeline needs a thread to run on.
    #[error("pipeline {0:?} has zero arbiters; it needs at least one")]
    ZeroArbiters(String),
    /// A pipeline needs a place for at least one task.
    #[error("pipeline {0:?} has zero places for tasks in flight; it needs at least one")]
    ZeroInFlight(String),
    /// A pipeline records to one place: a ledger of yours or a journal.
    #[cfg(feature = "journal")]
    #[error("pipeline {0:?} has a ledger and a journal; it can have one of them")]
    TwoLedgers(String),
    /// A journal has to know the types of what it keeps, so `.journal(..)` comes before the stages.
    #[cfg(feature = "journal")]
    #[error("pipeline {0:?} had stages before its journal; say .journal(..) first")]
    JournalAfterStages(String),
}
