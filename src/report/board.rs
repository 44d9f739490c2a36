//! The part of a running pipeline that may be looked at when it is gone: plain numbers and texts, and
//! nothing that keeps it open.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use super::{
    ended::EndedTasks,
    refusals::Refusals,
    snapshot::{Snapshot, StageSnapshot},
    stage_stats::StageStats,
    times::{TimeHistogram, histogram},
};
use crate::{
    clock::Nanos,
    panic_guard,
    task::{Counts, StageName, Stuck},
};

/// What is told of a pipeline, and what stays of it.
pub(crate) struct Board {
    pub(crate) name: Arc<str>,
    pub(crate) started_at: SystemTime,
    pub(crate) stages: Vec<StageName>,
    pub(crate) stats: Vec<Arc<StageStats>>,
    pub(crate) in_flight_limit: usize,
    pub(crate) stuck_limit: usize,
    pub(crate) refusals: Refusals,
    pub(crate) ended: EndedTasks,
    rollbacks: Mutex<(Histogram<u64>, Nanos)>,
    /// It is to end.
    draining: AtomicBool,
    /// The time that it has taken from start to end.
    elapsed: OnceLock<Nanos>,
    last: Mutex<LastState>,
}

/// What was true when the last part of the pipeline was dropped.
#[derive(Clone, Default)]
pub(crate) struct LastState {
    pub(crate) counts: Counts,
    pub(crate) stuck: Vec<Stuck>,
    pub(crate) suspended: Option<Arc<str>>,
    pub(crate) uptime: Nanos,
}

/// The part of a snapshot that changes from one to the next.
pub(crate) struct Now {
    pub(crate) counts: Counts,
    pub(crate) stuck: usize,
    pub(crate) paused: bool,
    pub(crate) suspended: Option<Arc<str>>,
    pub(crate) uptime: Nanos,
}

impl Board {
    pub(crate) fn new(
        name: Arc<str>,
        stages: Vec<StageName>,
        stats: Vec<Arc<StageStats>>,
        in_flight_limit: usize,
        stuck_limit: usize,
    ) -> Self {
        Board {
            name,
            started_at: SystemTime::now(),
            stages,
            stats,
            in_flight_limit,
            stuck_limit,
            refusals: Refusals::default(),
            ended: EndedTasks::default(),
            rollbacks: Mutex::new((histogram(), 0)),
            draining: AtomicBool::new(false),
            elapsed: OnceLock::new(),
            last: Mutex::default(),
        }
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The pipeline has ended, so much time after its start.
    pub(crate) fn set_ended(&self, elapsed: Nanos) {
        self.elapsed.set(elapsed).ok();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.elapsed.get().is_some()
    }

    pub(crate) fn rolled_back(&self, took: Nanos) {
        let mut rollbacks = panic_guard::lock(&self.rollbacks);
        rollbacks.0.saturating_record(took);
        rollbacks.1 = rollbacks.1.wrapping_add(took);
    }

    pub(crate) fn rollback_times(&self) -> TimeHistogram {
        let rollbacks = panic_guard::lock(&self.rollbacks);
        TimeHistogram::new(rollbacks.0.clone(), rollbacks.1)
    }

    /// Nothing of the pipeline is left but this.
    pub(crate) fn leave(&self, last: LastState) {
        *panic_guard::lock(&self.last) = last;
    }

    pub(crate) fn last(&self) -> LastState {
        panic_guard::lock(&self.last).clone()
    }

    /// A snapshot of a pipeline that is gone.
    pub(crate) fn last_snapshot(&self) -> Snapshot {
        let LastState {
            counts,
            stuck,
            suspended,
            uptime,
        } = self.last();
        let now = Now {
            counts,
            stuck: stuck.len(),
            paused: false,
            suspended,
            uptime,
        };
        let stages = self.stages.iter().zip(&self.stats);
        let stages = stages.map(|(name, stats)| stats.snapshot(name, 0, None));
        self.snapshot(now, stages.collect())
    }

    pub(crate) fn snapshot(&self, now: Now, stages: Vec<StageSnapshot>) -> Snapshot {
        let uptime = self.elapsed.get().copied().unwrap_or(now.uptime);
        Snapshot {
            pipeline: self.name.clone(),
            counts: now.counts,
            in_flight: now.counts.in_flight(),
            in_flight_limit: self.in_flight_limit,
            stuck: now.stuck,
            stuck_limit: self.stuck_limit,
            refused: self.refusals.counts(),
            paused: now.paused,
            draining: self.draining.load(Ordering::Relaxed),
            suspended: now.suspended,
            ended: self.is_ended(),
            started_at: self.started_at,
            uptime: Duration::from_nanos(uptime),
            stages,
            progress: Vec::new(),
        }
    }
}
