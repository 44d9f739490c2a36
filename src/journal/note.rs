//! A change as the journal's writer gets it: values encoded, nothing borrowed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    Failure,
    task::{End, Outcome, StageIx},
};

pub(super) enum Note {
    Accepted {
        key: Option<Box<str>>,
        context: Vec<u8>,
        left: Option<u64>,
        work_timeout: Option<u64>,
    },
    Started {
        stage: StageIx,
        attempt: u32,
        left: Option<u64>,
    },
    UndoRegistered {
        stage: StageIx,
        attempt: u32,
        undo: usize,
        value: Vec<u8>,
    },
    UndoWithdrawn {
        undo: usize,
    },
    Finished {
        stage: StageIx,
        output: Vec<u8>,
    },
    AttemptFailed {
        stage: StageIx,
    },
    /// Failed, timed out or cancelled: the rollback begins.
    Stopped {
        end: Box<End>,
    },
    CancelStarted {
        undo: usize,
        attempt: u32,
    },
    CancelEnded {
        undo: usize,
        failure: Option<Box<Failure>>,
    },
    Done,
    Ended(Box<Outcome>),
    Resolved,
}

/// As it is kept: nanoseconds that are left.
pub(super) fn nanos_left(left: Option<Duration>) -> Option<u64> {
    left.map(|left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970, by the wall clock.
pub(super) fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
