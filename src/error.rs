//! What can go wrong, and how a stage says so.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::task::TaskId;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a stage, a cancel or a producer failed.
///
/// Any [`std::error::Error`] becomes one with `?`. It may be tried again unless it is
/// [permanent](Failure::permanent). For that conversion's sake it is not an error itself;
/// [`Failure::error`] is.
#[derive(Clone)]
pub struct Failure {
    error: Arc<dyn StdError + Send + Sync>,
    kind: FailureKind,
}

pub(crate) const PANICKED: &str = "panicked: ";

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// An error that another attempt may not meet.
    Error,
    /// An error that every attempt would meet: it is not tried again.
    Permanent,
    /// A panic: it is not tried again.
    Panic,
    /// The attempt's own timeout passed.
    AttemptTimeout,
    /// The stage has no worker, because its factory keeps failing.
    StageDown,
    /// The process ended while the stage was at work, too often: it is not tried again.
    Interrupted,
    /// What was kept of the task can't be used by this pipeline: its stage is gone or another
    /// version, or a value doesn't decode. It waits for a person.
    Quarantined,
}

impl Failure {
    /// An error that another attempt may not meet. Takes an error or a text.
    pub fn new(error: impl Into<Source>) -> Self {
        Self::of(FailureKind::Error, error)
    }

    /// An error that every attempt would meet: the task fails at once. Takes an error or a text.
    pub fn permanent(error: impl Into<Source>) -> Self {
        Self::of(FailureKind::Permanent, error)
    }

    pub(crate) fn of(kind: FailureKind, error: impl Into<Source>) -> Self {
        Failure {
            error: Arc::from(error.into()),
            kind,
        }
    }

    /// From what `catch_unwind` caught.
    pub(crate) fn panic(caught: Box<dyn std::any::Any + Send>) -> Self {
        let text = caught
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| caught.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        // Its drop is the user's code too.
        crate::guard::drop_quietly(caught);
        Self::of(FailureKind::Panic, text)
    }

    /// From its kind and how it was shown.
    pub(crate) fn as_shown(kind: FailureKind, mut shown: String) -> Self {
        // It is added when the failure is shown.
        if kind == FailureKind::Panic
            && let Some(text) = shown.strip_prefix(PANICKED)
        {
            shown = text.to_owned();
        }
        Self::of(kind, shown)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether another attempt makes sense.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, FailureKind::Error | FailureKind::AttemptTimeout)
    }

    /// The error it was made of.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.error
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::new(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FailureKind::Panic {
            f.write_str(PANICKED)?;
        }
        self.error.fmt(f)?;
        let mut source = self.error.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("Failure", 2)?;
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("error", &crate::guard::shown(self))?;
        fields.end()
    }
}

/// What is left of a failure is its kind and its text.
impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Failure")]
        struct Shown {
            kind: FailureKind,
            error: String,
        }
        let Shown { kind, error } = Shown::deserialize(from)?;
        Ok(Failure::as_shown(kind, error))
    }
}

/// What a running pipeline, or the attempt to start one, answers with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline was put together wrongly.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system gave no thread to run on.
    #[error("the system gave no thread to run on: {0}")]
    Spawn(#[source] std::io::Error),
    /// The runtime that the pipeline lived in has ended under it.
    #[error("the runtime ended before the pipeline did")]
    Gone,
    /// What happened to a task could not be recorded, so the pipeline stopped where it was.
    #[error("the pipeline is suspended: {0}")]
    Suspended(Arc<str>),
    /// The journal can't be used.
    #[cfg(feature = "journal")]
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// The pipeline has no such stage.
    #[error("the pipeline has no stage named {0:?}")]
    NoSuchStage(String),
    /// More workers than a machine can have use for.
    #[error("stage {0:?} can't have more than {MOST_WORKERS} workers")]
    TooManyWorkers(String),
    /// A pool can't be resized to nothing: pause the pipeline instead.
    #[error("stage {0:?} can't do with zero workers; pause the pipeline instead")]
    ZeroWorkers(String),
    /// The size of this stage is fixed.
    #[error("stage {0:?} is an actor of yours: its capacity can't be changed while it runs")]
    FixedSize(String),
}

/// How many workers a stage may have.
pub(crate) const MOST_WORKERS: usize = 100_000;

/// What [`Pipeline::start`](crate::Pipeline::start) finds wrong before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A pipeline needs a stage.
    #[error("pipeline {0:?} has no stage")]
    NoStage(String),
    /// More stages than can be started.
    #[error("pipeline {0:?} has more than 1,000 stages")]
    TooManyStages(String),
    /// Workers are counted from 1.
    #[error("stage {0:?} has zero workers")]
    ZeroWorkers(String),
    /// A queue needs room for one task at least.
    #[error("stage {0:?} has zero capacity")]
    ZeroCapacity(String),
    /// More workers than a machine can have use for.
    #[error("stage {0:?} has more than {MOST_WORKERS} workers")]
    TooManyWorkers(String),
    /// More room than a semaphore can count.
    #[error("stage {0:?} has a capacity beyond {max}", max = usize::MAX >> 4)]
    CapacityTooLarge(String),
    /// A timeout of zero would fail every attempt.
    #[error("stage {0:?} has a zero {1}")]
    ZeroTimeout(String, &'static str),
    /// A rate of zero would never let a task start.
    #[error("stage {0:?} has a zero rate limit")]
    ZeroRate(String),
    /// Stages are told apart by their names.
    #[error("two stages are named {0:?}; use .named(..) to tell them apart")]
    SameName(String),
    /// A test wants a run repeated whose input can't be copied.
    #[cfg(feature = "testing")]
    #[error("stage {0:?} can't be run twice: say .retry(Retry::none()), which copies its input")]
    NotRepeatable(String),
    /// A test's fault is meant for a stage that isn't there.
    #[cfg(feature = "testing")]
    #[error("a fault is meant for a stage {0:?}, which the pipeline doesn't have")]
    FaultWithoutStage(String),
    /// A pipeline needs a thread to run on.
    #[error("pipeline {0:?} has zero arbiters")]
    ZeroArbiters(String),
    /// A pipeline needs room for one task at least.
    #[error("pipeline {0:?} has zero places for tasks in flight")]
    ZeroInFlight(String),
    /// A pipeline records to one place.
    #[cfg(feature = "journal")]
    #[error("pipeline {0:?} has a ledger and a journal; it can have one of them")]
    TwoLedgers(String),
    /// What a journal keeps must be of a type that is known.
    #[cfg(feature = "journal")]
    #[error("pipeline {0:?} had stages before its journal; say .journal(..) first")]
    JournalAfterStages(String),
}

/// How [`SubmitError::Closed`] reads.
pub(crate) const CLOSED: &str = "the pipeline takes no more tasks";

/// Why a task was not accepted. Its context comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError<C> {
    /// The pipeline is shutting down, or has ended.
    #[error("{CLOSED}")]
    Closed(C),
    /// As many tasks are stuck as the pipeline may hold; a person has to resolve some first.
    #[error("too many stuck tasks wait for a person")]
    Stuck(C),
    /// What happens to a task can't be recorded, so none is accepted.
    #[error("the pipeline is suspended: its ledger failed")]
    Suspended(C),
    /// This task can't be recorded, others can: its context can't be encoded, or it has a key and
    /// the pipeline no journal.
    #[error("the task can't be recorded: {1}")]
    Unrecorded(C, Arc<str>),
}

impl<C> SubmitError<C> {
    /// The context that was not accepted.
    pub fn into_context(self) -> C {
        match self {
            SubmitError::Closed(context) | SubmitError::Stuck(context) => context,
            SubmitError::Suspended(context) | SubmitError::Unrecorded(context, _) => context,
        }
    }
}

impl<C> SubmitError<C> {
    /// A failure that says why, without the context: for producers of contexts that are not
    /// `Sync`, which `?` can't turn into a failure.
    pub fn into_failure(self) -> Failure {
        Failure::new(self.to_string())
    }
}

impl<C> fmt::Debug for SubmitError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SubmitError::Closed(_) => "Closed(..)",
            SubmitError::Stuck(_) => "Stuck(..)",
            SubmitError::Suspended(_) => "Suspended(..)",
            SubmitError::Unrecorded(..) => "Unrecorded(..)",
        })
    }
}

/// Why a task was not accepted at once. Its context comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TrySubmitError<C> {
    /// There is no room now. Also returned where the ledger doesn't record at once, as a journal
    /// doesn't: the task was recorded then and is cancelled, so use
    /// [`if_room`](crate::Submit::if_room) there.
    #[error("the pipeline is full")]
    Full(C),
    /// Refused for another reason than room. Only [`SubmitError::Stuck`] may pass.
    #[error(transparent)]
    Refused(#[from] SubmitError<C>),
}

impl<C> TrySubmitError<C> {
    /// The context that was not accepted.
    pub fn into_context(self) -> C {
        match self {
            TrySubmitError::Full(context) => context,
            TrySubmitError::Refused(refused) => refused.into_context(),
        }
    }
}

impl<C> fmt::Debug for TrySubmitError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySubmitError::Full(_) => f.write_str("Full(..)"),
            TrySubmitError::Refused(refused) => write!(f, "Refused({refused:?})"),
        }
    }
}

/// Why [`TaskContext::on_cancel`](crate::TaskContext::on_cancel) did not give its blessing: the
/// effect must not take place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The task is late or cancelled. The undo is part of its rollback all the same, unless a
    /// shutdown had given the task up by then.
    #[error("task {0} is being stopped")]
    Stopping(TaskId),
    /// The task has registered as many undos as it may; this one is not recorded.
    #[error("task {task} has registered {limit} undos already")]
    TooMany {
        /// The task.
        task: TaskId,
        /// How many undos a task may register.
        limit: usize,
    },
    /// The undo could not be recorded: it can't be encoded, or nothing can be recorded any more, and
    /// the pipeline stops where it is.
    #[error("the undo could not be recorded: {0}")]
    Unrecorded(Arc<str>),
}
