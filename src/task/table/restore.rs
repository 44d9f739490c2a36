//! Puts the tasks that the previous process has left back into the table.

use std::sync::atomic::Ordering;

use super::Table;
use crate::{
    clock::{Cycles, Nanos},
    panic_guard,
    task::{
        details::EndReason,
        id::TaskId,
        limits::Limits,
        names::Names,
        outcome::Stuck,
        prealloc::BlankRecord,
        record::{Task, TaskRef},
        state::{StageIx, State},
        undo::Undo,
    },
};

/// A task that was somewhere before, as a journal has it.
pub(crate) struct Restored {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) generation: u32,
    pub(crate) spared: (StageIx, u32),
    pub(crate) undos: Vec<Undo>,
    pub(crate) end: Option<EndReason>,
    pub(crate) names: Option<Box<Names>>,
}

impl Table {
    /// Gives a task of the previous process its record again. Nobody holds one of the `places` for it.
    pub(crate) fn restore(
        &self,
        id: TaskId,
        limits: &Limits,
        now: Nanos,
        cycles: Cycles,
        past: Restored,
    ) -> TaskRef {
        let mut inner = panic_guard::lock(&self.inner);
        let BlankRecord { task, ticket } = inner.blank_record(&self.owner);
        task.renew(id, limits, now, cycles);
        task.restore(past);
        inner.tickets[task.slot as usize] = Some(ticket);
        inner.last_id = inner.last_id.max(id.0);
        inner.ids[task.slot as usize] = id.0;
        inner.counts.accepted += 1;
        self.watch(&mut inner, task.slot, task.deadline());
        task
    }

    /// Takes over the books of the previous process: its last task's number, and the stuck tasks, some of
    /// which have their outcome only now.
    pub(crate) fn take_over(&self, last: TaskId, stuck: Vec<Stuck>, failed: u64) {
        let mut inner = panic_guard::lock(&self.inner);
        inner.last_id = inner.last_id.max(last.0);
        inner.stuck = stuck;
        inner.counts.accepted += failed;
        inner.counts.failed += failed;
    }
}

impl Task {
    /// Makes a renewed record, which nobody else looks at, that of a task with a past. Nobody has a
    /// ticket of it.
    fn restore(&self, past: Restored) {
        self.attempt.store(past.attempt, Ordering::Relaxed);
        self.generation.store(past.generation, Ordering::Relaxed);
        self.leave_ticket();
        let mut details = self.details();
        // As it is: a list that grows has room for four.
        *details.undos = past.undos;
        details.end = past.end.map(Box::new);
        details.spared = past.spared;
        details.names = past.names;
        drop(details);
        self.state.restore(past.state);
    }
}
