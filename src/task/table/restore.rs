//! Puts the tasks that the previous process has left back into the table.

use super::{Table, past::Restored};
use crate::{
    clock::{Cycles, Nanos},
    panic_guard,
    task::{id::TaskId, limits::Limits, record::TaskRef, stuck_task::StuckTask},
};

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
        let (mut inner, blank) = self.blank();
        let task = inner.enter_with_past(blank, id, limits, now, cycles, past);
        self.watch(&mut inner, task.slot, task.deadline());
        task
    }

    /// Takes over the books of the previous process: its last task's number, and the stuck tasks, some of
    /// which have their outcome only now.
    pub(crate) fn take_over(&self, last: TaskId, mut stuck: Vec<StuckTask>, failed: u64) {
        let mut inner = panic_guard::lock(&self.inner);
        inner.last_id = inner.last_id.max(last.0);
        inner.stuck.append(&mut stuck);
        inner.counts.accepted += failed;
        inner.counts.failed += failed;
    }
}
