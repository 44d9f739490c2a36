//! Records that are taken from the table many at a time, so that accepting a task needs no lock.

use super::{id::TaskId, limits::Limits, record::TaskRef};
use crate::clock::Reading;

/// Records for tasks that one thread is about to accept: one lock of the table for all of them.
pub(crate) struct RecordLease {
    pub(super) records: Vec<BlankRecord>,
    /// The next task's number, and the one after the last.
    pub(super) next: u64,
    pub(super) end: u64,
}

/// A record without a task: the hold that goes along with the task, and the ticket's.
pub(crate) struct BlankRecord {
    pub(super) task: TaskRef,
    pub(super) ticket: TaskRef,
}

impl RecordLease {
    /// For how many tasks more.
    pub(crate) fn left(&self) -> usize {
        self.records.len()
    }

    /// Its memory, for the next lease.
    pub(crate) fn into_memory(mut self) -> Vec<BlankRecord> {
        self.records.clear();
        self.records
    }

    /// Gives the next task its record: the task's hold and its ticket's.
    #[inline(always)]
    pub(crate) fn admit(
        &mut self,
        limits: &Limits,
        reading: &Reading,
    ) -> Option<(TaskRef, TaskRef)> {
        let BlankRecord { task, ticket } = self.records.pop()?;
        task.renew(TaskId(self.next), limits, reading.now, reading.cycles);
        self.next += 1;
        Some((task, ticket))
    }
}
