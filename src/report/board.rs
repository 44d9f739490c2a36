//! The part of a running pipeline that may be looked at when it is gone: plain numbers and texts, and
//! nothing that keeps it open.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use super::{
    ended::EndedTasks,
    recorder::{LiveEvents, Recorder},
    refusals::Refusals,
    snapshot::{Snapshot, StageSnapshot},
    stage_stats::StageStats,
    timeline::{Event, Timeline},
    timelines::{BYTES, Found, Timelines},
    times::{TimeHistogram, histogram},
};
use crate::{
    clock::{Clock, Cycles, NEVER, Nanos},
    panic_guard,
    task::{Counts, StageName, Stuck, Task, TaskId},
};

/// The state that a pipeline shows, and what stays of it.
pub(crate) struct Board {
    pub(crate) name: Arc<str>,
    pub(crate) started_at: SystemTime,
    pub(crate) stages: Vec<StageName>,
    pub(crate) stats: Vec<Arc<StageStats>>,
    pub(crate) in_flight_limit: usize,
    pub(crate) stuck_limit: usize,
    pub(crate) refusals: Refusals,
    pub(crate) ended: EndedTasks,
    pub(crate) timelines: Timelines,
    pub(crate) recorder: Option<LiveEvents>,
    /// The counter's value at the start, and the way to convert it.
    clock: Clock,
    began: Cycles,
    rollbacks: Mutex<(Histogram<u64>, Nanos)>,
    /// It is to end.
    draining: AtomicBool,
    /// The time at which what is in flight then is cancelled, in nanoseconds since the start.
    abort_at: AtomicU64,
    /// The time that it has taken from start to end.
    elapsed: OnceLock<Nanos>,
    last: Mutex<LastState>,
}

/// The state when the last part of the pipeline was dropped.
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
        recorder: Option<Recorder>,
        clock: &Clock,
    ) -> Self {
        Board {
            timelines: Timelines::new(recorder.map_or(BYTES, Recorder::ended_bytes)),
            recorder: recorder.map(LiveEvents::new),
            clock: clock.clone(),
            began: clock.cycles(),
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
            abort_at: AtomicU64::new(NEVER),
            elapsed: OnceLock::new(),
            last: Mutex::default(),
        }
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Tasks in flight at that time are cancelled.
    pub(crate) fn set_abort_at(&self, at: Nanos) {
        self.abort_at.fetch_min(at, Ordering::Relaxed);
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

    /// The events that the recorder has of a task in flight.
    pub(crate) fn live_timeline(&self, task: &Task) -> Option<Timeline> {
        let (events, left_out) = self.recorder.as_ref()?.look(task)?;
        Some(self.timeline(task.id(), events, left_out, true))
    }

    /// The last one that is kept of a task that has ended.
    pub(crate) fn ended_timeline(&self, task: TaskId) -> Option<Timeline> {
        let Found {
            events,
            left_out,
            recorded,
        } = self.timelines.find(task)?;
        Some(self.timeline(task, events, left_out, recorded))
    }

    fn timeline(
        &self,
        task: TaskId,
        events: Vec<Event>,
        left_out: usize,
        recorded: bool,
    ) -> Timeline {
        let time = |at: Cycles| Duration::from_nanos(self.clock.to_nanos(at.since(self.began)));
        let events = events.into_iter();
        Timeline::new(task, events, left_out, recorded, &self.stages, time)
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
        let abort_at = self.abort_at.load(Ordering::Relaxed);
        let drain_left = (abort_at != NEVER).then(|| abort_at.saturating_sub(uptime));
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
            drain_left: drain_left.map(Duration::from_nanos),
            suspended_why: now.suspended,
            ended: self.is_ended(),
            started_at: self.started_at,
            uptime: Duration::from_nanos(uptime),
            stages,
            progress: Vec::new(),
        }
    }
}
