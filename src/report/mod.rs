//! A pipeline's account of itself: live as a snapshot and a stream of outcomes, at the end as a report.
//!
//! | to see | use |
//! |---|---|
//! | if it can work now | [`PipelineHandle::health`](crate::PipelineHandle::health): a [`Health`] |
//! | counts and queues now | [`PipelineHandle::snapshot`](crate::PipelineHandle::snapshot): a [`Snapshot`] |
//! | each outcome as it comes | [`PipelineHandle::outcomes`](crate::PipelineHandle::outcomes) |
//! | everything at the end | the [`Report`] of `run`, `join` and `shutdown` |
//!
//! All of them are `Serialize`. The [guide](crate::guide::operations) says what to watch.

pub(crate) mod snapshot;
pub(crate) mod stage_stats;
pub(crate) mod counts;
pub(crate) mod health;
pub(crate) mod outcomes;
pub(crate) mod final_report;

pub use crate::task::Counts;
pub use counts::{StageCounts, Times};
pub use final_report::{ProducerError, Report, StageReport};
pub use health::Health;
pub use outcomes::Lagged;
pub use snapshot::{Snapshot, StageHealth, StageSnapshot, TaskProgress};

pub(crate) use final_report::LAST_FAILURES;
pub(crate) use outcomes::OutcomeFeed;
pub(crate) use snapshot::MOST_PROGRESS;
pub(crate) use stage_stats::StageStats;
