//! The engine's parts, each by itself, for this crate's own benches: thin wrappers that add nothing
//! of their own to what is measured. No promise holds for anything in here.

use std::sync::{Arc, Weak};

use crate::{
    clock::{Cycles, NEVER},
    engine::{
        pool::queue::{self, Evicted},
        reporter::rollback_plan::{NextStep, RollbackPlan},
    },
    policy::{OnStuck, Order},
    report::{PoolSettings, StageStats},
    shared::hop,
    task::{Limits, Table, TaskOwner, TaskRef, Undo, UndoStatus, timer_wheel::TimerWheel},
};

/// No pipeline.
struct Nobody;

impl TaskOwner for Nobody {
    fn task_lost(&self, _: TaskRef) {}
}

/// Tasks in flight, apart from any pipeline.
pub struct InFlight {
    table: Table,
    tasks: Vec<TaskRef>,
}

impl InFlight {
    /// With memory for so many holds on tasks, so that it isn't counted with the tasks.
    pub fn new(tasks: usize) -> Self {
        InFlight {
            table: Table::new(Weak::<Nobody>::new(), 0, 0, usize::MAX),
            tasks: Vec::with_capacity(tasks),
        }
    }

    /// Accepts a task, with a deadline in nanoseconds, and leaves its ticket.
    pub fn admit(&mut self, deadline: Option<u64>) {
        let limits = Limits {
            deadline: deadline.unwrap_or(NEVER),
            ..Limits::none(false)
        };
        if let Ok((task, ticket)) = self.table.admit(&limits, 0, Cycles(0)) {
            ticket.leave_ticket();
            self.tasks.push(task);
        }
    }

    /// Hands out late tasks as to the deadline driver, `most` or a few more at a time; how many.
    pub fn expire(&self, now: u64, most: usize) -> usize {
        self.table.expire(now, most).len()
    }

    /// Frees the records of all tasks, so many at a time.
    pub fn file_done(&mut self, at_once: usize) {
        while !self.tasks.is_empty() {
            let rest = self.tasks.len().saturating_sub(at_once);
            self.table.file_done(self.tasks.drain(rest..));
        }
    }

    /// All tasks, in a message's batch.
    pub fn batch(&mut self) -> Batch {
        let mut batch = hop::Batch::new();
        for task in self.tasks.drain(..) {
            batch.push(task, 0);
        }
        Batch(batch)
    }
}

/// Tasks on their way from one pool to the next.
pub struct Batch(hop::Batch<u64>);

/// A pool's queue.
pub struct Queue {
    queue: queue::Queue<u64>,
    evicted: Evicted,
}

impl Queue {
    /// Of the first stage.
    pub fn empty() -> Self {
        Queue {
            queue: queue::Queue::new(0, Arc::new(StageStats::new(PoolSettings::default()))),
            evicted: Evicted::default(),
        }
    }

    /// Takes in what comes from elsewhere.
    pub fn push(&mut self, batch: Batch) {
        self.queue.push(batch.0, &mut self.evicted);
    }

    /// Takes out the first ones.
    pub fn take(&mut self, most: usize) -> Batch {
        Batch(self.queue.take(most))
    }
}

/// The deadlines of tasks in flight, by the number of the task's record.
pub struct Deadlines(TimerWheel);

impl Deadlines {
    /// None.
    pub fn empty() -> Self {
        Deadlines(TimerWheel::new())
    }

    /// Sets a deadline, in nanoseconds.
    pub fn insert(&mut self, slot: u32, deadline: u64) {
        self.0.insert(slot, TimerWheel::tick_of(deadline));
    }

    /// Its task has ended.
    pub fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    /// Takes out what is late, `most` or a few more.
    pub fn expire(&mut self, now: u64, most: usize, due: &mut Vec<u32>) {
        self.0.expire(TimerWheel::tick_at(now), most, due);
    }
}

/// The undos that a task has registered.
pub struct Undos(Vec<Undo>);

impl Undos {
    /// So many, one a stage.
    pub fn new(undos: u16) -> Self {
        let undo = |stage| Undo {
            stage,
            attempt: 1,
            generation: 0,
            value: None,
            status: UndoStatus::Registered,
            tries: 0,
        };
        Undos((0..undos).map(undo).collect())
    }

    /// The course of a rollback in which every cancel succeeds, without the cancels; how many.
    pub fn roll_back(&self, order: Order) -> usize {
        let mut rollback = RollbackPlan::last(&self.0, order, |_| OnStuck::Continue);
        let mut cancels = 0;
        let mut next = rollback.next();
        while let NextStep::Run(_) = next {
            cancels += 1;
            next = rollback.settle(None);
        }
        cancels
    }
}

/// The statistics of a stage.
pub struct Stats(StageStats);

impl Stats {
    /// Nothing yet.
    pub fn empty() -> Self {
        Stats(StageStats::new(Default::default()))
    }

    /// Adds the counts of a batch whose calls were all quick.
    pub fn record(&self, tasks: u64, wait_ns: u64, work_ns: u64) {
        self.0.update(|totals| {
            totals.counts.started += tasks;
            totals.counts.finished += tasks;
            totals.wait.saturating_record_n(wait_ns, tasks);
            totals.work.saturating_record_n(work_ns, tasks);
        });
    }
}

/// Reads bytes as whatever a column of a journal may hold; for fuzzing.
#[cfg(feature = "journal")]
pub fn read_rows(bytes: &[u8]) {
    crate::journal::read_rows(bytes);
}
