//! The errors of submitting a task.

use std::{fmt, sync::Arc};

#[cfg(feature = "journal")]
use crate::task::TaskId;
use crate::{failure::Failure, task::Refusal};

/// The text of [`SubmitError::Closed`].
pub(crate) const CLOSED: &str = "the pipeline takes no more tasks";

/// The text of [`SubmitError::Unrecorded`] for a key without a journal.
pub(super) const NO_JOURNAL: &str =
    "only a pipeline with a journal keeps keys: add .journal(..), or submit without .key(..)";

/// A task was not accepted. Its context comes back.
///
/// In a producer, `?` makes it a [`Failure`] if the context is `Sync`; else say
/// `.map_err(SubmitError::into_failure)?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError<C> {
    /// The pipeline is shutting down, or has ended.
    #[error("{CLOSED}")]
    Closed(C),
    /// As many tasks are stuck as [`max_stuck`](crate::Pipeline::max_stuck) allows:
    /// [retry](crate::PipelineHandle::retry_all) or [resolve](crate::PipelineHandle::resolve) some
    /// first.
    #[error(
        "as many tasks are stuck as max_stuck allows, so no more are accepted: once the cause is gone, \
         say retry_all(..), or look at stuck() and resolve(..) them"
    )]
    Stuck(C),
    /// The journal or ledger has failed, or [`Shutdown::Suspend`](crate::Shutdown::Suspend) was called, so no
    /// task is accepted. The log says why; the next start
    /// goes on from what was recorded.
    #[error(
        "the pipeline is suspended: its journal or ledger has failed, as the log says, or \
         `Shutdown::Suspend` was called; the next start goes on"
    )]
    Suspended(C),
    /// This task can't be recorded, others can: its context can't be encoded, or it has a key and
    /// the pipeline no journal.
    #[error("the task can't be recorded: {1}")]
    Unrecorded(C, Arc<str>),
    /// The key is that of this task, which was submitted with another context. See
    /// [`compare_contexts`](crate::journal::Journal::compare_contexts).
    #[cfg(feature = "journal")]
    #[error(
        "task {1} has the same key, and was submitted with another context; use another key, or say \
         compare_contexts(false) on the journal if both mean the same"
    )]
    KeyConflict(C, TaskId),
}

impl<C> SubmitError<C> {
    pub(crate) fn of(why: Option<Refusal>, context: C) -> Self {
        match why {
            None | Some(Refusal::Closed) => SubmitError::Closed(context),
            Some(Refusal::Stuck) => SubmitError::Stuck(context),
            Some(Refusal::Suspended) => SubmitError::Suspended(context),
        }
    }

    /// The context that was not accepted.
    pub fn into_context(self) -> C {
        match self {
            SubmitError::Closed(context) | SubmitError::Stuck(context) => context,
            SubmitError::Suspended(context) | SubmitError::Unrecorded(context, _) => context,
            #[cfg(feature = "journal")]
            SubmitError::KeyConflict(context, _) => context,
        }
    }
}

impl<C> SubmitError<C> {
    /// A failure with the reason, without the context: for producers of contexts that are not
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
            #[cfg(feature = "journal")]
            SubmitError::KeyConflict(..) => "KeyConflict(..)",
        })
    }
}

/// A task was not accepted at once. Its context comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TrySubmitError<C> {
    /// There is no room now; try again later. Nothing was recorded.
    #[error("the pipeline is full: try again later")]
    Full(C),
    /// Refused for another reason than room. Trying again only helps with [`SubmitError::Stuck`].
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
