//! The timelines of tasks that end other than done: the times of their rollbacks always, and all else if a
//! recorder has it.

use super::{Reporter, rollback_driver::ActiveRollback};
use crate::{
    clock::{Cycles, Nanos},
    report::{Event, EventKind, Events},
    task::{EndReason, StageIx, TaskRef},
};

/// The number of lists of steps that are kept for rollbacks to come.
const SPARE: usize = 64;

impl Reporter {
    /// A step of a rollback or of a clean-up.
    pub(super) fn note_step(&mut self, slot: u32, stage: StageIx, kind: EventKind, undo: usize) {
        let now = self.shared.clock.cycles();
        if let Some(active) = self.rollbacks.get_mut(&slot) {
            if active.steps.capacity() == 0
                && let Some(spare) = self.spare_steps.pop()
            {
                active.steps = spare;
            }
            let event = Event::new(now, stage, kind, undo as u32);
            active.steps.push(event);
        }
    }

    /// A clean-up is over. Only a recorder keeps what it did.
    pub(super) fn note_clean_up(&mut self, active: &ActiveRollback) {
        if let Some(recorder) = &self.shared.board.recorder {
            for event in active.steps.in_order() {
                recorder.add_one(&active.task, event);
            }
        }
    }

    /// Keeps the timeline of a task that has its outcome. Returns the time that its rollback took.
    pub(super) fn keep_timeline(&mut self, active: &ActiveRollback) -> Nanos {
        let clock = &self.shared.clock;
        let (now, task, board) = (clock.cycles(), &active.task, &self.shared.board);
        let mut events = self.spare_steps.pop().unwrap_or_default();
        let mut recorded = false;
        if let Some(recorder) = &board.recorder {
            recorder.take(task, |seen| {
                events.append(seen);
                recorded = true;
            });
        }
        let stage = end_stage(task);
        if !recorded {
            list_undos(task, &mut events);
        }
        events.push(Event::new(active.began, stage, EventKind::RollbackBegan, 0));
        events.append(&active.steps);
        events.push(Event::new(now, stage, EventKind::Ended, 0));
        board.timelines.keep(task.id(), &events, recorded);
        self.spare(events);
        self.shared.clock.to_nanos(now.since(active.began))
    }

    /// Keeps the memory of a list, if it isn't much.
    pub(super) fn spare(&mut self, mut events: Events) {
        if self.spare_steps.len() < SPARE && events.capacity() > 0 {
            events.clear();
            self.spare_steps.push(events);
        }
    }
}

/// The undos that a task has registered, in that order. The times are not known.
fn list_undos(task: &TaskRef, events: &mut Events) {
    if !task.has_details() {
        return;
    }
    let details = task.details();
    for (number, undo) in details.undos.iter().enumerate() {
        let event = Event::new(Cycles(0), undo.stage, EventKind::Registered, number as u32);
        events.push(event);
    }
}

/// The stage in which its end was decided.
fn end_stage(task: &TaskRef) -> StageIx {
    match task.details().end.as_deref() {
        Some(EndReason::Failed(stage, _) | EndReason::TimedOut(stage)) => *stage,
        Some(EndReason::Cancelled(stage, _)) => *stage,
        #[cfg(feature = "journal")]
        Some(EndReason::TakenBack | EndReason::Released) => 0,
        None => 0,
    }
}
