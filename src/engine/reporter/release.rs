//! A task that has not begun is left to another process, which has nothing to do.

use actix::Context;

use super::{
    Reporter, after_record::AfterRecord, rollback_driver::ActiveRollback,
    rollback_plan::RollbackPlan,
};
use crate::{
    ledger::Change,
    policy::OnStuck,
    submit::answer,
    task::{Event, TaskRef, TicketAnswer},
};

impl Reporter {
    /// Nothing works on this task any more: it is another process's once that is recorded.
    pub(super) fn release(&mut self, task: TaskRef, ctx: &mut Context<Self>) {
        let (slot, id) = (task.slot, task.id());
        // Nothing is rolled back here.
        let nothing = RollbackPlan::last(&[], self.order, |_| OnStuck::Continue);
        let active = ActiveRollback::new(
            task,
            self.next_number(),
            nothing,
            self.shared.clock.cycles(),
        );
        self.rollbacks.insert(slot, active);
        let recorded = self.shared.record(id, Change::Released);
        self.after(slot, recorded, AfterRecord::Release, ctx);
    }

    /// Forgets a task that is another process's by now.
    pub(super) fn released(&mut self, task: &TaskRef, ctx: &mut Context<Self>) {
        task.apply(Event::RolledBack).ok();
        let id = task.id();
        self.shared.keyed.remove(task);
        self.clear_undos(task);
        // Without a key it had no ticket.
        if let Some(key) = task.names().key {
            answer(task, TicketAnswer::Released { task: id, key });
        }
        let in_flight = self.shared.table.file_released(task.clone());
        self.suspect_ended(id, ctx);
        self.end_if_empty(in_flight, ctx);
    }
}
