//! The work on a task, the same in every system that is written by hand.
//!
//! They move [`Envelope`]s from stage to stage, call [`Job::stage`] (async) or
//! [`Job::stage_blocking`] (threads) in each, and give the result to a [`Tally`]. Both look at the
//! deadline before the work starts; the tally looks again when it takes the result.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::work::{Item, Log, Measure, Params, Workload, fails, hangs, hash, timeout};

/// The time for which a hanging stage waits.
pub const HANG: Duration = Duration::from_secs(10);

/// The effect of a stage, to be taken back: an entry of the list that a program without batrun
/// keeps by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Undo {
    pub task: u64,
    pub stage: u8,
}

/// A task on its way through a system that is written by hand.
pub struct Envelope {
    pub item: Item,
    pub deadline: Instant,
    /// Allocates nothing as long as no stage registers an undo.
    pub undos: Vec<Undo>,
}

impl Envelope {
    /// Runs the undos of the stages, in the order in which they were registered.
    pub fn roll_back(&mut self, log: &Log) {
        for undo in self.undos.drain(..) {
            log.cancel(undo.task, usize::from(undo.stage));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    Failed,
    TimedOut,
}

/// The work of the stages in a run. Shared by all its workers.
pub struct Job {
    pub workload: Workload,
    pub timeout: Duration,
    pub last: usize,
    pub log: Log,
}

impl Job {
    pub fn new(params: &Params) -> Arc<Self> {
        Arc::new(Job {
            workload: params.workload,
            timeout: params.timeout,
            last: params.stages - 1,
            log: Log::new(params),
        })
    }

    /// A new task, whose time runs from now.
    pub fn envelope(&self, id: u64) -> Envelope {
        self.envelope_at(Instant::now(), id)
    }

    /// The same for a caller who has just read the clock.
    pub fn envelope_at(&self, now: Instant, id: u64) -> Envelope {
        Envelope {
            item: Item::new(id),
            deadline: now + timeout(self.workload, self.timeout, id),
            undos: Vec::new(),
        }
    }

    /// A stage (0 is the first) as a thread runs it: it can't be stopped in between.
    ///
    /// # Errors
    /// The reason for which the task goes no further; its undos have run by then.
    pub fn stage_blocking(&self, stage: usize, task: &mut Envelope) -> Result<(), End> {
        self.stage_at(Instant::now(), stage, task)
    }

    /// The same for a caller who has just read the clock.
    ///
    /// # Errors
    /// As [`stage_blocking`](Self::stage_blocking).
    pub fn stage_at(&self, now: Instant, stage: usize, task: &mut Envelope) -> Result<(), End> {
        let result = if now >= task.deadline {
            Err(End::TimedOut)
        } else {
            match self.workload {
                Workload::Io => {
                    std::thread::sleep(Duration::from_millis(1));
                    task.item.age += 1;
                    Ok(())
                }
                _ => self.at_once(stage, task),
            }
        };
        if result.is_err() {
            task.roll_back(&self.log);
        }
        result
    }

    /// A stage (0 is the first) as a future, which is dropped when the task is late.
    ///
    /// # Errors
    /// The reason for which the task goes no further; its undos have run by then.
    pub async fn stage(&self, stage: usize, task: &mut Envelope) -> Result<(), End> {
        let result = within(task.deadline, self.effect(stage, task)).await;
        let result = result.unwrap_or(Err(End::TimedOut));
        if result.is_err() {
            task.roll_back(&self.log);
        }
        result
    }

    async fn effect(&self, stage: usize, task: &mut Envelope) -> Result<(), End> {
        match self.workload {
            Workload::Io => {
                Box::pin(tokio::time::sleep(Duration::from_millis(1))).await;
                task.item.age += 1;
                Ok(())
            }
            Workload::Late | Workload::LateFull | Workload::LateMixed
                if stage == 1 && hangs(self.workload, task.item.id) =>
            {
                Box::pin(tokio::time::sleep(HANG)).await;
                task.item.age += 1;
                Ok(())
            }
            _ => self.at_once(stage, task),
        }
    }

    /// The stages that never wait.
    #[inline]
    fn at_once(&self, stage: usize, task: &mut Envelope) -> Result<(), End> {
        match self.workload {
            Workload::Cpu => hash(&mut task.item),
            Workload::Fail => {
                // Intent first, then the effect.
                task.undos.push(Undo {
                    task: task.item.id,
                    stage: stage as u8,
                });
                if stage == self.last && fails(task.item.id) {
                    return Err(End::Failed);
                }
                task.item.age += 1;
            }
            _ => task.item.age += 1,
        }
        Ok(())
    }
}

/// Polls once before it makes a timer, so that work which is ready at once needs none. `None` if it
/// is late.
///
/// The timer is boxed: the future of a stage that never waits then has a few words, and isn't
/// slowed down by the room that a timer takes.
pub async fn within<F: Future>(deadline: Instant, work: F) -> Option<F::Output> {
    if Instant::now() >= deadline {
        return None;
    }
    let mut work = pin!(work);
    match futures::poll!(work.as_mut()) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => {
            let timed = Box::pin(tokio::time::timeout_at(deadline.into(), work));
            timed.await.ok()
        }
    }
}

/// Counts outcomes as they come in: a collector owns one.
pub struct Tally {
    job: Arc<Job>,
    ages: u32,
    measure: Measure,
}

impl Tally {
    pub fn new(job: Arc<Job>) -> Self {
        Tally {
            ages: job.last as u32 + 1,
            job,
            measure: Measure::default(),
        }
    }

    /// Takes a result. One that comes too late counts as timed out.
    pub fn add(&mut self, mut task: Envelope, end: End) {
        let mut end = end;
        if end != End::Failed {
            let now = Instant::now();
            if now >= task.deadline {
                if end == End::Done {
                    task.roll_back(&self.job.log);
                    end = End::TimedOut;
                }
                if matches!(
                    self.job.workload,
                    Workload::Late | Workload::LateFull | Workload::LateMixed
                ) {
                    let late = now - task.deadline;
                    self.measure.latencies_ns.push(late.as_nanos() as u64);
                }
            }
        }
        match end {
            // A task that missed a stage is not done, so the counts won't be exact.
            End::Done => self.measure.done += u64::from(task.item.age == self.ages),
            End::Failed => self.measure.failed += 1,
            End::TimedOut => self.measure.timed_out += 1,
        }
    }

    /// Adds what somebody else counted in the same run.
    pub fn merge(&mut self, other: Tally) {
        let (mine, theirs) = (&mut self.measure, other.measure);
        mine.done += theirs.done;
        mine.failed += theirs.failed;
        mine.timed_out += theirs.timed_out;
        mine.latencies_ns.extend(theirs.latencies_ns);
    }

    /// Number of known outcomes.
    pub fn seen(&self) -> u64 {
        self.measure.done + self.measure.failed + self.measure.timed_out
    }

    /// Records the time that a task alone took.
    pub fn latency(&mut self, took: Duration) {
        self.measure.latencies_ns.push(took.as_nanos() as u64);
    }

    /// The run is over: every outcome is known.
    pub fn finish(self, began: Instant) -> Measure {
        let seconds = began.elapsed().as_secs_f64();
        let (cancels, wrong_order) = self.job.log.counts();
        Measure {
            seconds,
            cancels,
            wrong_order,
            ..self.measure
        }
    }
}
