//! Records that are taken from the table many at a time, so that accepting a task needs no lock.

use super::{Admission, TaskId, TaskRef};

/// Records for tasks that one thread is about to accept, so that it needs the table's lock but once
/// for all of them.
pub(crate) struct Lease {
    pub(super) blanks: Vec<Blank>,
    /// The next task's number, and the one after the last.
    pub(super) next: u64,
    pub(super) end: u64,
}

/// A record without a task: the hold that goes along with the task, and the ticket's.
pub(crate) struct Blank {
    pub(super) task: TaskRef,
    pub(super) ticket: TaskRef,
}

impl Lease {
    /// For `n` tasks more.
    pub(crate) fn left(&self) -> usize {
        self.blanks.len()
    }

    /// Gives the next task its record: the task's hold and its ticket's.
    #[inline(always)]
    pub(crate) fn admit(&mut self, with: &Admission) -> Option<(TaskRef, TaskRef)> {
        let Blank { task, ticket } = self.blanks.pop()?;
        task.renew(TaskId(self.next), with);
        self.next += 1;
        Some((task, ticket))
    }
}
