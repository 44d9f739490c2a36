//! The engine's parts, each by itself, for this crate's own benches: thin wrappers that add nothing
//! of their own to what is measured. No promise holds for anything in here.

use std::sync::Weak;

use crate::{
    OnStuck, Order,
    clock::NEVER,
    message, report, run,
    task::{Admission, Table, TaskRef, Undo, UndoStatus, Wheel},
};

/// Tasks in flight, apart from any pipeline.
pub struct InFlight {
    table: Table,
    tasks: Vec<TaskRef>,
}

impl InFlight {
    /// With memory for so many holds on tasks, so that it isn't counted with the tasks.
    pub fn new(tasks: usize) -> Self {
        InFlight {
            table: Table::new(Weak::new(), 0, 0, usize::MAX),
            tasks: Vec::with_capacity(tasks),
        }
    }

    /// Accepts a task, with a deadline in nanoseconds, and leaves its ticket.
    pub fn admit(&mut self, deadline: Option<u64>) {
        let with = Admission {
            deadline: deadline.unwrap_or(NEVER),
            work_timeout: NEVER,
            wants_output: false,
            count: 0,
        };
        if let Ok((task, ticket)) = self.table.admit(&with) {
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
        let mut batch = message::Batch::new();
        for task in self.tasks.drain(..) {
            batch.push(task, 0);
        }
        Batch(batch)
    }
}

/// Tasks on their way from one pool to the next.
pub struct Batch(message::Batch<u64>);

/// A pool's queue.
pub struct Queue {
    queue: run::Queue<u64>,
    decided: run::Decided,
}

impl Queue {
    /// Of the first stage.
    pub fn empty() -> Self {
        Queue {
            queue: run::Queue::new(0),
            decided: run::Decided::default(),
        }
    }

    /// Takes in what comes from elsewhere.
    pub fn push(&mut self, batch: Batch) {
        self.queue.push(batch.0, &mut self.decided);
    }

    /// Takes out the first ones.
    pub fn take(&mut self, most: usize) -> Batch {
        Batch(self.queue.take(most))
    }
}

/// The deadlines of tasks in flight, by the number of the task's record.
pub struct Deadlines(Wheel);

impl Deadlines {
    /// None.
    pub fn empty() -> Self {
        Deadlines(Wheel::new())
    }

    /// Sets a deadline, in nanoseconds.
    pub fn insert(&mut self, slot: u32, deadline: u64) {
        self.0.insert(slot, Wheel::tick_of(deadline));
    }

    /// Its task has ended.
    pub fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    /// Takes out what is late, `most` or a few more.
    pub fn expire(&mut self, now: u64, most: usize, due: &mut Vec<u32>) {
        self.0.expire(Wheel::tick_at(now), most, due);
    }
}

/// What a task registered.
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
        let mut rollback = run::Rollback::last(&self.0, order, |_| OnStuck::Continue);
        let mut cancels = 0;
        let mut next = rollback.next();
        while let run::Next::Cancel(_) = next {
            cancels += 1;
            next = rollback.settle(None);
        }
        cancels
    }
}

/// Where a pool's workers write down what they did.
pub struct Board(report::Board);

impl Board {
    /// Nothing yet.
    pub fn empty() -> Self {
        Board(report::Board::new())
    }

    /// What a worker writes down of a batch whose calls were all quick.
    pub fn record(&self, tasks: u64, wait_ns: u64, work_ns: u64) {
        self.0.stats(|stats| {
            stats.counts.started += tasks;
            stats.counts.finished += tasks;
            stats.wait.saturating_record_n(wait_ns, tasks);
            stats.work.saturating_record_n(work_ns, tasks);
        });
    }
}

/// Reads bytes as whatever a column of a journal may hold; for fuzzing.
#[cfg(feature = "journal")]
pub fn read_rows(bytes: &[u8]) {
    crate::journal::read_rows(bytes);
}
