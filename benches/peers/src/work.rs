//! The workloads: the tasks, the stages' work on them, and the result of a run.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use crate::job::{End, Envelope, Job, Tally};

/// Number of rounds of [`hash`] that take about 10 µs on the machine of the published figures.
const HASH_ROUNDS: u64 = 6_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// late, where the second stage hangs on every task: its workers are all busy, the queues full
    LateFull,
    /// late-full, where the timeouts go from 25 to 75 ms: the deadlines don't come all at once
    LateMixed,
    /// one task at a time through three idle stages, 20,000 times
    Alone,
    /// 3 stages that hand a task on, each step of it synced to the disk first; one task in flight
    #[value(name = "durable-1")]
    #[serde(rename = "durable-1")]
    Durable1,
    /// the same with 64 tasks in flight
    #[value(name = "durable-64")]
    #[serde(rename = "durable-64")]
    Durable64,
    /// the same with 4,096 tasks in flight
    #[value(name = "durable-4096")]
    #[serde(rename = "durable-4096")]
    Durable4096,
    /// 3 stages that hand a task on, each step of it committed to a PostgreSQL server first; one task
    /// in flight
    #[value(name = "cluster-1")]
    #[serde(rename = "cluster-1")]
    Cluster1,
    /// the same with 64 tasks in flight
    #[value(name = "cluster-64")]
    #[serde(rename = "cluster-64")]
    Cluster64,
    /// the same with 4,096 tasks in flight
    #[value(name = "cluster-4096")]
    #[serde(rename = "cluster-4096")]
    Cluster4096,
    /// the same with 1,000,000 tasks: whether it slows down, and how large its tables get
    ClusterMillion,
}

impl Workload {
    /// Not among `all`.
    pub fn only_by_name(self) -> bool {
        matches!(self, Workload::LateFull | Workload::LateMixed) || self.in_flight().is_some()
    }

    /// Its tasks are on disk before anything follows from them.
    pub fn is_durable(self) -> bool {
        self.in_flight().is_some() && !self.is_cluster()
    }

    /// Its tasks are in a database before anything follows from them.
    pub fn is_cluster(self) -> bool {
        matches!(
            self,
            Workload::Cluster1
                | Workload::Cluster64
                | Workload::Cluster4096
                | Workload::ClusterMillion
        )
    }

    /// Maximum number of tasks in flight, in workloads that differ in it.
    pub fn in_flight(self) -> Option<usize> {
        match self {
            Workload::Durable1 | Workload::Cluster1 => Some(1),
            Workload::Durable64 | Workload::Cluster64 => Some(64),
            Workload::Durable4096 | Workload::Cluster4096 | Workload::ClusterMillion => Some(4_096),
            _ => None,
        }
    }
}

pub struct Params {
    pub workload: Workload,
    pub tasks: u64,
    pub stages: usize,
    /// In each stage.
    pub workers: usize,
    /// Each task's deadline, counted from its submit.
    pub timeout: Duration,
}

impl Params {
    /// `scale` shrinks the number of tasks; no run has fewer than a hundred.
    pub fn new(workload: Workload, scale: f64) -> Self {
        let (tasks, workers) = match workload {
            Workload::Hop | Workload::Fail | Workload::ClusterMillion => (1_000_000, 4),
            Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed => {
                (100_000, 256)
            }
            Workload::Cpu => (200_000, 4),
            Workload::Alone => (20_000, 4),
            Workload::Durable1 | Workload::Cluster1 => (2_000, 4),
            Workload::Durable64 | Workload::Cluster64 => (40_000, 4),
            Workload::Durable4096 | Workload::Cluster4096 => (100_000, 4),
        };
        let timeout = match workload {
            Workload::Late | Workload::LateFull | Workload::LateMixed => Duration::from_millis(50),
            // A long one: a disk may be busy with something else.
            workload if workload.in_flight().is_some() => Duration::from_secs(60),
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

/// The result of a run.
#[derive(Default)]
pub struct Measure {
    /// From before the first submit until every outcome is known.
    pub seconds: f64,
    pub done: u64,
    pub failed: u64,
    pub timed_out: u64,
    /// Number of undos that ran in the right order.
    pub cancels: u64,
    /// Number of undos that ran in another order, twice or for a task that didn't fail, or never
    /// ran.
    pub wrong_order: u64,
    /// alone: the time that each task took. late: the time from each late task's deadline to its
    /// report.
    pub latencies_ns: Vec<u64>,
    /// cluster: the processor time of this process, from the first submit.
    pub cpu: Option<Duration>,
    /// cluster: that of the server.
    pub server_cpu: Option<Duration>,
    /// cluster-million: the tasks a second of the last tenth of the tasks, by those of the second one.
    pub last_tenth: Option<f64>,
    /// cluster-million: the size of all tables and indexes of the database, at most.
    pub tables_mb: Option<f64>,
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

    /// The encoding that batrun's journal uses, and a queue that is written by hand would.
    ///
    /// # Errors
    /// None, with these fields.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(self)?)
    }
}

/// `true` for the tasks that fail in the last stage of [`Workload::Fail`].
pub fn fails(id: u64) -> bool {
    id % 100 == 99
}

/// A task's own timeout, in a workload whose tasks have `timeout`.
pub fn timeout(workload: Workload, timeout: Duration, id: u64) -> Duration {
    match workload {
        // From half of it to one and a half, in no order.
        Workload::LateMixed => timeout / 2 + timeout * (id as u32 * 37 % 64) / 64,
        _ => timeout,
    }
}

/// `true` for the tasks on which the second stage of [`Workload::Late`] and its kin hangs.
pub fn hangs(workload: Workload, id: u64) -> bool {
    workload != Workload::Late || id % 10 == 9
}

/// About 10 µs of work that can't be optimised away. Not inlined: its loop is compiled once, and not well for one system
/// and less so for another.
#[inline(never)]
pub fn hash(item: &mut Item) {
    let mut state = black_box(item.id);
    for round in 0..HASH_ROUNDS {
        state = (state ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 32;
    }
    black_box(state);
    item.age += 1;
}

/// The undos that ran, in order or not. One log for each run.
pub struct Log {
    /// For each task that fails: the stage whose undo has to run next.
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

    /// The undo of a stage (0 is the first).
    pub fn cancel(&self, id: u64, stage: usize) {
        let next = self.next.get((id / 100) as usize).filter(|_| fails(id));
        let in_order = next.is_some_and(|next| usize::from(next.fetch_add(1, Relaxed)) == stage);
        let counter = if in_order { &self.cancels } else { &self.wrong };
        counter.fetch_add(1, Relaxed);
    }

    /// Number of undos that ran in order, and of those that didn't or are missing.
    pub fn counts(&self) -> (u64, u64) {
        let unfinished = |next: &&AtomicU8| next.load(Relaxed) != self.stages;
        let missing = self.next.iter().filter(unfinished).count() as u64;
        (
            self.cancels.load(Relaxed),
            self.wrong.load(Relaxed) + missing,
        )
    }
}
