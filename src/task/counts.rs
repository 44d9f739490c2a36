//! Numbers of tasks, by what became of them.

use serde::{Deserialize, Serialize};

/// The number of accepted tasks, and of those among them that have ended, by outcome.
///
/// A task that is [retried](crate::PipelineHandle::retry) or
/// [taken back](crate::PipelineHandle::take_back) counts once more, as accepted and by its new outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks whose `submit` returned.
    pub accepted: u64,
    /// Tasks that every stage returned in time for.
    pub done: u64,
    /// Tasks that a stage failed.
    pub failed: u64,
    /// Tasks whose deadline passed.
    pub timed_out: u64,
    /// Tasks that were cancelled, by a user or by the shutdown.
    pub cancelled: u64,
    /// Tasks that were done, and then [taken back](crate::PipelineHandle::take_back).
    pub taken_back: u64,
    /// Tasks that a failed ledger left where they were.
    pub suspended: u64,
    /// Tasks that waited here and were left to another process, which had nothing to do. They are that one's.
    pub released: u64,
}

impl Counts {
    /// Tasks accepted that have no outcome yet, their rollbacks included.
    pub fn in_flight(&self) -> u64 {
        self.accepted
            - self.done
            - self.failed
            - self.timed_out
            - self.cancelled
            - self.taken_back
            - self.suspended
            - self.released
    }
}
