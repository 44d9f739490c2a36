//! Tasks that are left to a person: one that is given up, and the list of undos that did not run.

use std::sync::Arc;

use actix::Context;

use super::{
    Reporter,
    rollback_driver::{ActiveRollback, WaitingFor},
    rollback_plan::RollbackPlan,
};
use crate::{
    logging, panic_guard,
    policy::{OnStuck, Order},
    shared::Shared,
    task::{Names, Rollback, StageIx, State, Stuck, StuckUndo, TaskRef, UndoStatus},
};

impl Reporter {
    /// Gives up a task whose call has not returned: it ends stuck, its undos listed, not run.
    pub(super) fn give_up(&mut self, task: &TaskRef, ctx: &mut Context<Self>) {
        // If its end is on its way to the ledger, that is its outcome.
        let ends = |active: &ActiveRollback| {
            Arc::ptr_eq(&active.task, task) && active.waiting_for == WaitingFor::EndRecord
        };
        if !task.is_live() || self.rollbacks.get(&task.slot).is_some_and(ends) {
            return;
        }
        let Some(end) = task.end(&self.shared.stages) else {
            return;
        };
        let running = match task.state() {
            State::Stopping(stage) => Some(stage),
            _ => None,
        };
        let details = task.details();
        let mut left: Vec<usize> = (0..details.undos.len())
            .filter(|n| {
                matches!(
                    details.undos[*n].status,
                    UndoStatus::Registered | UndoStatus::Failed(_)
                )
            })
            .collect();
        drop(details);
        if self.order == Order::Lifo {
            left.reverse();
        }
        let stuck = list_left(&self.shared, task, &left, running);
        logging::warning!("task {} is given up: stuck: {stuck}", stuck.named());
        let rollback = Rollback::Stuck(stuck);
        // Its holder may just be going on to another stage.
        while let State::Stopping(stage) = task.state() {
            task.let_go(stage);
        }
        // In place of the rollback that may be under way.
        let over = RollbackPlan::last(&[], self.order, |_| OnStuck::Continue);
        let now = self.shared.clock.cycles();
        let began = self
            .rollbacks
            .get(&task.slot)
            .map_or(now, |active| active.began);
        let active = ActiveRollback::new(task.clone(), self.next_number(), over, began);
        self.rollbacks.insert(task.slot, active);
        self.record_end(task, end, rollback, ctx);
    }
}

/// Lists the undos that are left of a task, for a person.
pub(super) fn list_left(
    shared: &Shared,
    task: &TaskRef,
    left: &[usize],
    running: Option<StageIx>,
) -> Stuck {
    let undos = left
        .iter()
        .filter_map(|number| list_undo(shared, task, *number))
        .collect();
    let still_running = running.map(|stage| shared.stage_name(stage).clone());
    let Names { key, label, .. } = task.names();
    Stuck {
        task: task.id(),
        key,
        label,
        still_running,
        undos,
    }
}

fn list_undo(shared: &Shared, task: &TaskRef, number: usize) -> Option<StuckUndo> {
    // Somebody may be looking at it.
    shared.table.lent.wait(task, number);
    // Out of its place while it is printed: that is the user's code, as is printing an error.
    let mut details = task.details();
    let undo = details.undos.get_mut(number)?;
    let stage = shared.stage_name(undo.stage).clone();
    let error = match &undo.status {
        UndoStatus::Failed(failure) => Some(failure.clone()),
        _ => None,
    };
    let value = undo.value.take();
    drop(details);
    let shown = match &value {
        Some(value) => panic_guard::printed(|| value.debug()),
        None => "(its cancel is still running)".to_owned(),
    };
    if let Some(undo) = task.details().undos.get_mut(number) {
        undo.value = value;
    }
    let error = error.map_or("not tried".to_owned(), |failure| {
        panic_guard::shown(&failure)
    });
    Some(StuckUndo {
        stage,
        undo: shown,
        error,
    })
}
