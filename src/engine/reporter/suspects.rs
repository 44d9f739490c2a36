//! Tasks that were at work at several kills of the process: each of them may be the cause. They go on one
//! at a time, so that the next kill shows which one it is, and the others are done meanwhile.
//!
//! A suspect that waits for its turn has its clean-up or its rollback here, before the first step. One that is
//! stopped meanwhile is rolled back at once, unless it is an undo of its own that is under suspicion.

use std::collections::BTreeMap;

use actix::Context;

use super::{Reporter, rollback_driver::WaitingFor};
use crate::{
    logging,
    task::{TaskId, TaskRef},
};

/// The suspects that have no outcome yet.
#[derive(Default)]
pub(super) struct Suspects {
    /// The one whose turn it is.
    current: Option<TaskId>,
    /// In the order of acceptance, so that the earlier deadlines tend to come first.
    waiting: BTreeMap<TaskId, Waiting>,
}

struct Waiting {
    /// Of its record.
    slot: u32,
    /// An undo was at work at the kills, so a rollback waits as well.
    undo: bool,
}

impl Suspects {
    /// A task that is stopped runs no stage any more, only undos.
    pub(super) fn stop(&mut self, task: TaskId) {
        if self.waiting.get(&task).is_some_and(|waiting| !waiting.undo) {
            self.waiting.remove(&task);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Suspects::default();
    }

    /// The one whose turn it is, if it is among these tasks.
    pub(super) fn current_of(&self, tasks: &[TaskRef]) -> Option<TaskId> {
        let current = self.current?;
        tasks
            .iter()
            .any(|task| task.id() == current)
            .then_some(current)
    }
}

impl Reporter {
    /// Puts a restored task into the line. Comes before its clean-up or its rollback.
    #[cfg(feature = "journal")]
    pub(super) fn suspect(&mut self, task: &TaskRef, undo: bool) {
        let (id, slot) = (task.id(), task.slot);
        if self.suspects.current.is_none() {
            self.suspects.current = Some(id);
        } else {
            self.suspects.waiting.insert(id, Waiting { slot, undo });
        }
    }

    /// Makes a clean-up or a rollback that is about to begin wait for its turn; `false` if it need not.
    pub(super) fn waits_for_turn(&mut self, slot: u32, ctx: &mut Context<Self>) -> bool {
        let Suspects { waiting, .. } = &self.suspects;
        // As good as always, and no look for the rollback then.
        if waiting.is_empty() {
            return false;
        }
        let Some(active) = self.rollbacks.get_mut(&slot) else {
            return false;
        };
        if !waiting.contains_key(&active.task.id()) {
            return false;
        }
        active.waiting_for = WaitingFor::Turn;
        // It may have been stopped before it came here.
        self.interrupt_clean_up(slot, None, ctx);
        true
    }

    /// A task has its outcome. If it was the suspect whose turn it was, the next one goes on.
    pub(super) fn suspect_ended(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let Suspects { current, waiting } = &mut self.suspects;
        waiting.remove(&task);
        if *current != Some(task) {
            return;
        }
        *current = None;
        let Some((id, Waiting { slot, .. })) = waiting.pop_first() else {
            return;
        };
        *current = Some(id);
        let left = waiting.len();
        logging::info!("task {id}, which may be what kills the process, goes on; {left} more wait");
        // One that isn't here yet goes on when it comes.
        if let Some(active) = self.rollbacks.get_mut(&slot)
            && active.waiting_for == WaitingFor::Turn
        {
            let next = active.plan.next();
            self.step(slot, next, ctx);
        }
    }
}
