//! Tasks that are left to a person: one that is given up, and what a list of what is left says.

use std::sync::Arc;

use actix::Context;

use super::{Course, Then, Waiting};
use crate::{
    core::Core,
    guard,
    ledger::Change,
    policy::{OnStuck, Order},
    run::{reporter::Reporter, rollback::Rollback},
    task::{Rollback as Went, StageIx, State, Stuck, StuckUndo, TaskRef, UndoStatus, end_of},
};

impl Reporter {
    /// Gives up a task whose call has not returned: it ends stuck, its undos listed, not run.
    pub(in crate::run) fn give_up(&mut self, task: &TaskRef, ctx: &mut Context<Self>) {
        // Nor where its end is on its way to the ledger: that is its outcome.
        let ends =
            |course: &Course| Arc::ptr_eq(&course.task, task) && course.waiting == Waiting::End;
        if !task.is_live() || self.courses.get(&task.slot).is_some_and(ends) {
            return;
        }
        let Some(end) = end_of(task, &self.core.stages) else {
            return;
        };
        let running = match task.state() {
            State::Stopping(stage) => Some(stage),
            _ => None,
        };
        let life = task.life();
        let mut left: Vec<usize> = (0..life.undos.len())
            .filter(|n| {
                matches!(
                    life.undos[*n].status,
                    UndoStatus::Registered | UndoStatus::Failed(_)
                )
            })
            .collect();
        let id = task.id();
        drop(life);
        if self.order == Order::Lifo {
            left.reverse();
        }
        let went = Went::Stuck(stuck(&self.core, task, &left, running));
        log::warn!("task {id} is given up: {went}");
        // Its holder may just be going on to another stage.
        while let State::Stopping(stage) = task.state() {
            task.let_go(stage);
        }
        // In place of the course it may have been on.
        let over = Rollback::last(&[], self.order, |_| OnStuck::Continue);
        let course = Course::new(task.clone(), self.next_course(), over);
        self.courses.insert(task.slot, course);
        let recorded = self.core.record(
            id,
            Change::Ended {
                end: &end,
                rollback: &went,
            },
        );
        self.after(task.slot, recorded, Then::File(Box::new((end, went))), ctx);
    }
}

/// What is left of a task, for a person.
pub(super) fn stuck(
    core: &Core,
    task: &TaskRef,
    left: &[usize],
    running: Option<StageIx>,
) -> Stuck {
    let undos = left
        .iter()
        .filter_map(|number| {
            let mut life = task.life();
            let undo = life.undos.get_mut(*number)?;
            let stage = core.stage_name(undo.stage).clone();
            let error = match &undo.status {
                UndoStatus::Failed(failure) => Some(failure.clone()),
                _ => None,
            };
            let value = undo.value.take();
            drop(life);
            // Printing an undo is the user's code, as is printing an error.
            let shown = match &value {
                Some(value) => guard::run(|| value.debug())
                    .unwrap_or_else(|_| "(printing it panicked)".to_owned()),
                None => "(its cancel is still running)".to_owned(),
            };
            if let Some(undo) = task.life().undos.get_mut(*number) {
                undo.value = value;
            }
            let error = error.map_or("not tried".to_owned(), |failure| guard::shown(&failure));
            Some(StuckUndo {
                stage,
                undo: shown,
                error,
            })
        })
        .collect();
    let still_running = running.map(|stage| core.stage_name(stage).clone());
    Stuck {
        task: task.id(),
        still_running,
        undos,
    }
}
