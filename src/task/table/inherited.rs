//! What a table takes over from the process before.

use super::Table;
use crate::{
    guard,
    task::{Admission, Blank, Restored, Stuck, TaskId, TaskRef},
};

impl Table {
    /// Gives a task of a process before its record again. Nobody holds one of the `places` for it.
    pub(crate) fn restore(&self, id: TaskId, with: &Admission, past: Restored) -> TaskRef {
        let mut inner = guard::lock(&self.inner);
        let Blank { task, ticket } = inner.blank(&self.core);
        task.renew(id, with);
        task.restore(past);
        inner.tickets[task.slot as usize] = Some(ticket);
        inner.last_id = inner.last_id.max(id.0);
        inner.ids[task.slot as usize] = id.0;
        inner.counts.accepted += 1;
        self.watch(&mut inner, task.slot, with.deadline);
        task
    }

    /// Takes over what a process before has left: its last task's number, and who is stuck. Some of
    /// these have their outcome only now.
    pub(crate) fn take_over(&self, last: TaskId, stuck: Vec<Stuck>, failed: u64) {
        let mut inner = guard::lock(&self.inner);
        inner.last_id = inner.last_id.max(last.0);
        inner.stuck = stuck;
        inner.counts.accepted += failed;
        inner.counts.failed += failed;
    }
}
