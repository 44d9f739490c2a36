//! The record of a task that has a past: one of the previous process, or a stuck one that goes on.

use std::sync::atomic::Ordering;

use super::Inner;
use crate::{
    clock::{Cycles, Nanos},
    task::{
        details::EndReason,
        id::TaskId,
        limits::Limits,
        names::Names,
        prealloc::BlankRecord,
        record::{Task, TaskRef},
        state::{StageIx, State},
        undo::Undo,
    },
};

/// A task that was somewhere before.
pub(crate) struct Restored {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) generation: u32,
    pub(crate) spared: (StageIx, u32),
    /// The number of processes that it was of before.
    pub(crate) owners: u32,
    pub(crate) undos: Vec<Undo>,
    pub(crate) end: Option<EndReason>,
    pub(crate) names: Option<Box<Names>>,
}

impl Inner {
    /// Makes a blank record that of a task with a past, which is in flight from now on.
    pub(super) fn enter_with_past(
        &mut self,
        BlankRecord { task, ticket }: BlankRecord,
        id: TaskId,
        limits: &Limits,
        now: Nanos,
        cycles: Cycles,
        past: Restored,
    ) -> TaskRef {
        task.renew(id, limits, now, cycles);
        task.restore(past);
        self.tickets[task.slot as usize] = Some(ticket);
        // Another process's numbers say nothing about this one's.
        if id.series() == TaskId(self.last_id).series() {
            self.last_id = self.last_id.max(id.0);
        }
        self.ids[task.slot as usize] = id.0;
        self.counts.accepted += 1;
        task
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
        details.undos = past.undos.into();
        details.end = past.end.map(Box::new);
        details.spared = past.spared;
        details.owners = past.owners;
        details.names = past.names;
        drop(details);
        self.state.restore(past.state);
    }
}
