//! The workloads, and what every system does with a task: the same for all of them.
//!
//! A system moves [`Envelope`]s through three stages. Those that are written by hand call
//! [`Job::stage`] (async) or [`Job::stage_blocking`] (threads) in each of them and hand what comes
//! out to a [`Tally`]. Both look at the deadline before the work starts; the tally looks again when
//! it takes the result.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How many rounds of [`hash`] take about 10 µs on the machine that these figures are from.
const HASH_ROUNDS: u64 = 6_600;

/// What a hanging stage waits for.
const HANG: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// 3 stages of 4 workers that add one, 1,000,000 tasks
    Hop,
    /// 3 stages of 256 workers that each wait for 1 ms, 100,000 tasks
    Io,
    /// 3 stages of 4 workers that each hash for about 10 µs, 200,000 tasks
    Cpu,
    /// hop, where 1 % fail in the last stage and what all three did is taken back
    Fail,
    /// 3 stages of 256 workers, the second of which hangs on 10 % of 100,000 tasks; 50 ms each
    Late,
    /// one task at a time through three idle stages, 20,000 times
    Alone,
}

pub struct Params {
    pub workload: Workload,
    pub tasks: u64,
    pub stages: usize,
    /// In each stage.
    pub workers: usize,
    /// From the submit of a task.
    pub timeout: Duration,
}

impl Params {
    /// `scale` shrinks the number of tasks; no run has fewer than a hundred.
    pub fn new(workload: Workload, scale: f64) -> Self {
        let (tasks, workers) = match workload {
            Workload::Hop | Workload::Fail => (1_000_000, 4),
            Workload::Io | Workload::Late => (100_000, 256),
            Workload::Cpu => (200_000, 4),
            Workload::Alone => (20_000, 4),
        };
        let timeout = match workload {
            Workload::Late => Duration::from_millis(50),
            _ => Duration::from_secs(4),
        };
        Params {
            workload,
            tasks: ((f64::from(tasks) * scale) as u64 / 100).max(1) * 100,
            stages: 3,
            workers,
            timeout,
        }
    }
}

/// What a run gave.
#[derive(Default)]
pub struct Measure {
    /// From before the first submit until every outcome is known.
    pub seconds: f64,
    pub done: u64,
    pub failed: u64,
    pub timed_out: u64,
    /// Undos that were cancelled, in the right order.
    pub cancels: u64,
    /// Undos that were cancelled in another order, twice, for a task that didn't fail, or never.
    pub wrong_order: u64,
    /// alone: how long each task took. late: how long after its deadline each late task was
    /// reported.
    pub latencies_ns: Vec<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    pub id: u64,
    pub age: u32,
    pub name: String,
}

impl Item {
    pub fn new(id: u64) -> Self {
        Item {
            id,
            age: 0,
            name: String::from("sixteen bytes..."),
        }
    }
}

/// Which tasks fail in the last stage of [`Workload::Fail`].
pub fn fails(id: u64) -> bool {
    id % 100 == 99
}

/// On which tasks the second stage of [`Workload::Late`] hangs.
pub fn hangs(id: u64) -> bool {
    id % 10 == 9
}

/// About 10 µs of work that can't be optimised away.
pub fn hash(item: &mut Item) {
    let mut state = black_box(item.id);
    for round in 0..HASH_ROUNDS {
        state = (state ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 32;
    }
    black_box(state);
    item.age += 1;
}

/// The undos that were cancelled, and whether in order. One for each run.
pub struct Log {
    /// For each task that fails: the stage whose undo has to come next.
    next: Vec<AtomicU8>,
    cancels: AtomicU64,
    wrong: AtomicU64,
    stages: u8,
}

impl Log {
    pub fn new(params: &Params) -> Self {
        let failing = match params.workload {
            Workload::Fail => params.tasks / 100,
            _ => 0,
        };
        Log {
            next: (0..failing).map(|_| AtomicU8::new(0)).collect(),
            cancels: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            stages: params.stages as u8,
        }
    }

    /// What the undo of a stage (0 is the first) does.
    pub fn cancel(&self, id: u64, stage: usize) {
        let next = self.next.get((id / 100) as usize).filter(|_| fails(id));
        let in_order = next.is_some_and(|next| usize::from(next.fetch_add(1, Relaxed)) == stage);
        let counter = if in_order { &self.cancels } else { &self.wrong };
        counter.fetch_add(1, Relaxed);
    }

    /// The undos cancelled in order, and those that weren't or are missing.
    pub fn counts(&self) -> (u64, u64) {
        let unfinished = |next: &&AtomicU8| next.load(Relaxed) != self.stages;
        let missing = self.next.iter().filter(unfinished).count() as u64;
        (
            self.cancels.load(Relaxed),
            self.wrong.load(Relaxed) + missing,
        )
    }
}

/// What a stage did and how to take it back: the list that somebody without batrun writes by hand.
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
    /// Takes back what the stages did, first registered, first cancelled.
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

/// Why a stage didn't hand the task on. What it did has been taken back.
pub type Stop = End;

/// What the stages of a run are to do. Shared by all its workers.
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
            deadline: now + self.timeout,
            undos: Vec::new(),
        }
    }

    /// A stage (0 is the first) as a thread runs it: what it starts can't be stopped.
    ///
    /// # Errors
    /// Why the task goes no further; its undos are cancelled by then.
    pub fn stage_blocking(&self, stage: usize, task: &mut Envelope) -> Result<(), Stop> {
        self.stage_at(Instant::now(), stage, task)
    }

    /// The same for a caller who has just read the clock.
    ///
    /// # Errors
    /// As [`stage_blocking`](Self::stage_blocking).
    pub fn stage_at(&self, now: Instant, stage: usize, task: &mut Envelope) -> Result<(), Stop> {
        let result = if now >= task.deadline {
            Err(Stop::TimedOut)
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
    /// Why the task goes no further; its undos are cancelled by then.
    pub async fn stage(&self, stage: usize, task: &mut Envelope) -> Result<(), Stop> {
        let result = within(task.deadline, self.effect(stage, task)).await;
        let result = result.unwrap_or(Err(Stop::TimedOut));
        if result.is_err() {
            task.roll_back(&self.log);
        }
        result
    }

    async fn effect(&self, stage: usize, task: &mut Envelope) -> Result<(), Stop> {
        match self.workload {
            Workload::Io => {
                Box::pin(tokio::time::sleep(Duration::from_millis(1))).await;
                task.item.age += 1;
                Ok(())
            }
            Workload::Late if stage == 1 && hangs(task.item.id) => {
                Box::pin(tokio::time::sleep(HANG)).await;
                task.item.age += 1;
                Ok(())
            }
            _ => self.at_once(stage, task),
        }
    }

    /// The stages that never wait.
    #[inline]
    fn at_once(&self, stage: usize, task: &mut Envelope) -> Result<(), Stop> {
        match self.workload {
            Workload::Cpu => hash(&mut task.item),
            Workload::Fail => {
                // Intent first, then the effect.
                task.undos.push(Undo {
                    task: task.item.id,
                    stage: stage as u8,
                });
                if stage == self.last && fails(task.item.id) {
                    return Err(Stop::Failed);
                }
                task.item.age += 1;
            }
            _ => task.item.age += 1,
        }
        Ok(())
    }
}

/// Polls once before it makes a timer, so that work which is ready at once needs none. `None` when
/// it is late.
///
/// The timer is boxed: what never waits then has a future of a few words, and is not the slower for
/// the room that a timer takes.
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

    /// Takes a result: one that comes too late is none.
    pub fn add(&mut self, mut task: Envelope, end: End) {
        let mut end = end;
        if end != End::Failed {
            let now = Instant::now();
            if now >= task.deadline {
                if end == End::Done {
                    task.roll_back(&self.job.log);
                    end = End::TimedOut;
                }
                if self.job.workload == Workload::Late {
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

    /// How many outcomes are known.
    pub fn seen(&self) -> u64 {
        self.measure.done + self.measure.failed + self.measure.timed_out
    }

    /// How long a task alone took.
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
