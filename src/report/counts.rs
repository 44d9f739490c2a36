//! The counts and times of a stage's attempts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The attempts and undos of a stage, counted from the start of the pipeline. Attempts, not tasks: a
/// task that is retried counts once for each.
///
/// Once nothing is at work, `started` is `finished + failed + stopped`, unless the pipeline was suspended
/// in the middle of attempts, or gave calls up that never returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageCounts {
    /// Attempts started: calls of the stage, and those whose worker died before one, or whose copy of the
    /// input panicked.
    pub started: u64,
    /// Attempts whose result went on to the next stage or the ticket.
    pub finished: u64,
    /// Attempts that failed before their task was stopped, panics and attempt timeouts included.
    pub failed: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
    /// Attempts that panicked, those of stopped tasks included.
    pub panicked: u64,
    /// Attempts that were stopped by a deadline or a cancel, or came back after it.
    pub stopped: u64,
    /// Undos that ran to their end, those between two attempts included.
    pub cancelled: u64,
    /// Tries of an undo that failed.
    pub cancel_failures: u64,
}

impl std::ops::AddAssign for StageCounts {
    fn add_assign(&mut self, more: Self) {
        self.started += more.started;
        self.finished += more.finished;
        self.failed += more.failed;
        self.retried += more.retried;
        self.panicked += more.panicked;
        self.stopped += more.stopped;
        self.cancelled += more.cancelled;
        self.cancel_failures += more.cancel_failures;
    }
}

/// Times, with two significant digits; longer ones than a day count as a day. Quick calls of one
/// batch are entered with their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Times {
    /// The number of times that were taken.
    pub count: u64,
    /// Half took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
