//! The end of a stage's call, and what becomes of the stage value.

use crate::{failure::Failure, panic_guard};

/// The end of a call.
pub(super) enum CallEnd<O> {
    Returned(Result<O, Failure>),
    Panicked(Failure),
    /// The attempt's own timeout passed, and the call's future was dropped.
    TimedOut,
    /// The task was stopped, and the call's future was dropped.
    Aborted,
    /// The pipeline was suspended.
    Suspended,
}

/// The stage value may be used again, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StageValue {
    Keep,
    Rebuild,
}

/// The worker goes on, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Flow {
    Continue,
    Suspended,
}

impl<O> CallEnd<O> {
    /// The same once the call's future has panicked when it was dropped.
    pub(super) fn after_drop_panic(self, failure: Failure) -> Self {
        match self {
            CallEnd::Returned(result) => {
                panic_guard::drop_quietly(result);
                CallEnd::Panicked(failure)
            }
            other => other,
        }
    }

    /// Says what becomes of the stage value. `keep_on_abort` says whether it survives a future that
    /// was dropped in the middle.
    pub(super) fn stage_value(&self, keep_on_abort: bool) -> StageValue {
        match self {
            CallEnd::Returned(_) => StageValue::Keep,
            CallEnd::TimedOut | CallEnd::Aborted if keep_on_abort => StageValue::Keep,
            _ => StageValue::Rebuild,
        }
    }
}
