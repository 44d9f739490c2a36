//! A disk in memory as a [`Store`].

use std::{
    mem,
    sync::{Arc, MutexGuard, PoisonError},
};

use super::{
    state::{DiskFault, DiskState, Shared},
    tables::Tables,
};
use crate::{
    journal::{
        corrupt::Corrupt,
        durability::Durability,
        rows::{
            blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow,
            undo::UndoRow,
        },
        store::{Lost, RowOp, Store, StoreError, Summary, TaskRows, Writes},
    },
    panic_guard,
};

/// The store of one journal on a disk.
pub(super) struct MemoryStore {
    disk: Arc<Shared>,
    /// The number of the journal. It has the disk as long as that is the disk's holder.
    holder: u64,
    durability: Durability,
}

impl MemoryStore {
    pub(super) fn new(disk: Arc<Shared>, holder: u64, durability: Durability) -> Self {
        MemoryStore {
            disk,
            holder,
            durability,
        }
    }

    fn tables(&self) -> Tables {
        panic_guard::lock(&self.disk.state).visible()
    }

    /// Waits as long as the test has stopped writes.
    fn wait_for_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, DiskState>,
    ) -> MutexGuard<'a, DiskState> {
        state.waiting += 1;
        self.disk.changed.notify_all();
        while state.stopped && state.let_through == 0 && state.holder == self.holder {
            state = self
                .disk
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.let_through = state.let_through.saturating_sub(1);
        state
    }

    /// Fails as the test has planned it.
    fn fail_as_planned(&self, state: &mut DiskState, ops: &[RowOp]) -> Result<(), StoreError> {
        if let Some(left) = state.cut_after {
            if left == 0 {
                state.unsynced.clear();
                state.detach();
                self.disk.changed.notify_all();
                return failed("the power has failed");
            }
            state.cut_after = Some(left - 1);
        }
        if let Some(planned) = &mut state.fault {
            if planned.after == 0 {
                let fault = planned.fault;
                state.fault = None;
                state.failed = true;
                return match fault {
                    DiskFault::Write => failed("input/output error"),
                    DiskFault::Full => failed("database or disk is full"),
                    DiskFault::Sync => {
                        state.unsynced.push(ops.to_vec());
                        failed("disk I/O error: it could not be synced")
                    }
                };
            }
            planned.after -= 1;
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn summary(&mut self) -> Result<Summary, StoreError> {
        let tables = self.tables();
        let mut last_task = 0;
        for row in tables.outcomes.values() {
            last_task = last_task.max(row.block()?.last_task());
        }
        Ok(Summary {
            last_task,
            outcomes: tables.outcomes.values().map(|row| row.count).sum(),
            last_block: tables.outcomes.keys().last().copied().unwrap_or(0),
            meta: tables.meta.into_iter().collect(),
            stages: tables.stages,
        })
    }

    fn tasks(&mut self, each: &mut dyn FnMut(TaskRows)) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for (id, (task, context)) in tables.tasks {
            let later = tables.undos.split_off(&(id + 1, 0));
            let own = mem::replace(&mut tables.undos, later);
            if let Some(((of, undo), _)) = own.first_key_value()
                && *of != id
            {
                return Err(orphan(*of, *undo));
            }
            each((task, context, own.into_values().collect()));
        }
        match tables.undos.keys().next() {
            Some((task, undo)) => Err(orphan(*task, *undo)),
            None => Ok(()),
        }
    }

    fn commit(&mut self, ops: &[RowOp]) -> Result<Vec<Lost>, StoreError> {
        let disk = self.disk.clone();
        let mut state = panic_guard::lock(&disk.state);
        let after_failure = state.failed && state.holder == self.holder;
        state.writes_after_failure += u64::from(after_failure);
        state = self.wait_for_turn(state);
        if state.holder != self.holder {
            return failed("the disk is gone");
        }
        if state.failed {
            return failed("the disk has failed");
        }
        self.fail_as_planned(&mut state, ops)?;
        match self.durability {
            Durability::Power => {
                state.sync();
                state.synced.apply_all(ops);
                state.syncs += 1;
            }
            Durability::Process => state.unsynced.push(ops.to_vec()),
        }
        Ok(Vec::new())
    }

    fn keyed_outcomes(&mut self, each: &mut dyn FnMut(KeyedOutcomeRow)) -> Result<(), StoreError> {
        self.tables().keyed_outcomes.into_values().for_each(each);
        Ok(())
    }

    fn kept_undos(&mut self, task: u64) -> Result<Vec<(UndoRow, Blob)>, StoreError> {
        let tables = self.tables();
        let undos = tables.kept_undos.range((task, 0)..=(task, u32::MAX));
        Ok(undos.map(|(_, undo)| undo.clone()).collect())
    }

    fn all_kept_undos(&mut self, each: &mut dyn FnMut(UndoRow)) -> Result<(), StoreError> {
        let undos = self.tables().kept_undos.into_values();
        undos.for_each(|(row, _)| each(row));
        Ok(())
    }

    fn keyed_outcome(&mut self, key: &str) -> Result<Option<KeyedOutcomeRow>, StoreError> {
        Ok(self.tables().keyed_outcomes.get(key).cloned())
    }

    fn outcome_blocks(
        &mut self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        let tables = self.tables();
        let later = tables.outcomes.range(after + 1..);
        Ok(later.take(limit).map(|(_, row)| row.clone()).collect())
    }

    fn close(&mut self, writes: Writes) {
        let mut state = panic_guard::lock(&self.disk.state);
        if state.holder != self.holder {
            return;
        }
        if writes == Writes::Succeeded {
            state.writes_after_failure += u64::from(state.failed);
            state.sync();
        }
        state.held = false;
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let mut state = panic_guard::lock(&self.disk.state);
        if state.holder == self.holder {
            state.held = false;
        }
    }
}

fn failed<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Failed(why.to_owned()))
}

fn orphan(task: u64, undo: u32) -> StoreError {
    let what = format_args!("undo {undo} of task {task}");
    Corrupt::new(what, "its task is missing").into()
}
