//! A pipeline at one instant.

use std::sync::Arc;

use serde::Serialize;

use super::counts::StageCounts;
use crate::task::{Counts, StageName};

/// A pipeline at one instant; made by [`PipelineHandle::snapshot`](crate::PipelineHandle::snapshot).
///
/// The counts of tasks are one consistent cut: accepted = done + failed + timed out + cancelled +
/// suspended + in flight. Those of stages are read one after the other.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Tasks, by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// Tasks accepted that have no outcome yet.
    pub in_flight: u64,
    /// Stuck tasks that nobody has resolved.
    pub stuck: usize,
    /// `true` if no stage starts work on a task; see [`pause`](crate::PipelineHandle::pause).
    pub paused: bool,
    /// Each stage, in order.
    pub stages: Vec<StageSnapshot>,
}

/// A stage at one instant.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StageSnapshot {
    /// The stage's name.
    pub name: StageName,
    /// Tasks in its queue, of those that have reached it.
    pub queued: usize,
    /// Its workers that have a stage value.
    pub workers: usize,
    /// Says whether its values can be built.
    pub health: StageHealth,
    /// Its attempts and undos.
    #[serde(flatten)]
    pub counts: StageCounts,
}

/// A pool's success in building its stage values. One that fails is [tried
/// again](crate::policy::Restart) for as long as the pipeline runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum StageHealth {
    /// Every value that was to be built was built.
    Up,
    /// The last attempts to build one failed; they go on.
    Failing {
        /// The number of failures in a row.
        failures: u32,
        /// The last failure.
        error: String,
    },
    /// As `Failing`, ten times in a row or more, and no worker is left: tasks that wait for this stage
    /// fail, and so do its undos. The attempts to build go on.
    Down {
        /// The number of failures in a row.
        failures: u32,
        /// The last failure.
        error: String,
    },
}
