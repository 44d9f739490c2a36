//! Questions to the table from beside the tasks' way: who is in flight, and how many.

use std::sync::atomic::Ordering;

use super::{
    super::{
        counts::Counts,
        id::TaskId,
        record::{Task, TaskRef},
    },
    Inner, Table,
};
use crate::panic_guard;

impl Table {
    /// The stage of this task has told of its progress, for the first time in its attempt.
    pub(crate) fn reports(&self, task: &Task) {
        panic_guard::lock(&self.reporting).insert(task.slot, task.id());
    }

    /// The tasks at work whose stages have told of their progress, in the order of their ids.
    pub(crate) fn reporting(&self) -> Vec<TaskRef> {
        let mut reporting = panic_guard::lock(&self.reporting);
        let inner = panic_guard::lock(&self.inner);
        let mut tasks = Vec::new();
        // One that is not at work now reports anew in its next attempt.
        reporting.retain(|slot, id| {
            let slot = *slot as usize;
            let task = &inner.records[slot];
            let stays = inner.ids[slot] == id.0 && task.is_at_work();
            tasks.extend(stays.then(|| task.clone()));
            stays
        });
        drop(inner);
        tasks.sort_unstable_by_key(|task| task.id());
        tasks
    }

    pub(crate) fn counts(&self) -> Counts {
        panic_guard::lock(&self.inner).counts()
    }

    pub(crate) fn find(&self, id: TaskId) -> Option<TaskRef> {
        let inner = panic_guard::lock(&self.inner);
        let entered = inner.ids.iter().position(|live| *live == id.0);
        // One that was accepted through a lease may not have been entered yet.
        let found = entered
            .map(|slot| &inner.records[slot])
            .or_else(|| inner.leased_task(id));
        // A lease may just be giving the record to another task: its number is looked at last.
        found
            .filter(|task| id.0 != 0 && task.is_live() && task.id() == id)
            .cloned()
    }

    /// An accepted task is in flight no more, and counted among those that ended.
    pub(crate) fn is_filed(&self, id: TaskId) -> bool {
        !panic_guard::lock(&self.inner).ids.contains(&id.0)
    }

    /// Every task in flight, in the order of their ids.
    pub(crate) fn live(&self) -> Vec<TaskRef> {
        let inner = panic_guard::lock(&self.inner);
        let entered = inner.ids.iter().zip(&inner.records);
        let mut live: Vec<TaskRef> = entered
            .filter(|(id, _)| **id != 0)
            .map(|(_, task)| task.clone())
            .collect();
        live.sort_unstable_by_key(|task| task.id());
        live
    }
}

/// The number of records that are looked at under one lock: some microseconds.
const CHUNK: usize = 1_024;

impl Table {
    /// Shows every task in flight, in no order, a chunk at a time. `look` runs under the lock of all tasks, so it
    /// may only read what needs no other; it keeps the tasks that it is to go on with, and they are handed to
    /// `then` once the lock is open. A task that is in flight all the while is seen once.
    pub(crate) fn visit(
        &self,
        mut look: impl FnMut(&TaskRef) -> bool,
        mut then: impl FnMut(TaskRef),
    ) {
        let mut chosen = Vec::new();
        let mut at = 0;
        loop {
            let inner = panic_guard::lock(&self.inner);
            let end = inner.records.len().min(at + CHUNK);
            for slot in at..end {
                if inner.ids[slot] != 0 && look(&inner.records[slot]) {
                    chosen.push(inner.records[slot].clone());
                }
            }
            drop(inner);
            chosen.drain(..).for_each(&mut then);
            if end < at + CHUNK {
                return;
            }
            at = end;
        }
    }
}

impl Inner {
    /// A task that was accepted through a lease and is not entered yet.
    fn leased_task(&self, id: TaskId) -> Option<&TaskRef> {
        let any = self
            .leased
            .iter()
            .any(|count| count.load(Ordering::Acquire) > 0);
        self.records.iter().find(|task| any && task.id() == id)
    }
}
