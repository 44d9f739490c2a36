//! The place of the store on the writer's thread. It is empty while the second thread commits.

use std::{
    mem,
    sync::{Arc, mpsc},
};

use super::requests::{FinishedCommit, RequestQueue};
use crate::journal::{
    stats::JournalStats,
    store::{Lost, RowOp, Store, Writes},
};

/// A commit for the second thread: the store, and the changes to commit.
pub(super) type CommitJob = (Box<dyn Store>, Vec<RowOp>);

pub(super) struct StoreSlot {
    /// `None` during a commit on the second thread.
    store: Option<Box<dyn Store>>,
    jobs: mpsc::Sender<CommitJob>,
    requests: Arc<RequestQueue>,
    /// The list of the last commit on the second thread, empty again.
    spare_ops: Option<Vec<RowOp>>,
    /// The tasks that were left out of commits, until somebody takes them from here.
    pub(super) lost: Vec<Lost>,
    /// Other processes use it, too.
    pub(super) is_shared: bool,
    stats: Arc<JournalStats>,
}

impl StoreSlot {
    pub(super) fn new(
        store: Box<dyn Store>,
        jobs: mpsc::Sender<CommitJob>,
        requests: Arc<RequestQueue>,
        stats: Arc<JournalStats>,
    ) -> Self {
        StoreSlot {
            is_shared: store.lease().is_some(),
            store: Some(store),
            jobs,
            requests,
            spare_ops: None,
            lost: Vec::new(),
            stats,
        }
    }

    /// Returns true while the second thread has the store.
    pub(super) fn is_empty(&self) -> bool {
        self.store.is_none()
    }

    /// The store. Waits for the commit on the second thread, and fails if that did.
    pub(super) fn get(&mut self) -> Result<&mut Box<dyn Store>, String> {
        if self.store.is_none() {
            let finished = self.requests.wait_for_commit();
            self.put_back(finished)?;
        }
        self.store
            .as_mut()
            .ok_or_else(|| "the journal's store is missing".to_owned())
    }

    /// Takes the store back, and fails if the commit did.
    pub(super) fn put_back(&mut self, finished: FinishedCommit) -> Result<(), String> {
        let FinishedCommit {
            store,
            mut ops,
            result,
        } = finished;
        self.store = Some(store);
        ops.clear();
        self.spare_ops = Some(ops);
        self.lost.extend(result.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Commits on this thread, and empties the list.
    pub(super) fn commit(&mut self, ops: &mut Vec<RowOp>) -> Result<(), String> {
        if ops.is_empty() {
            return Ok(());
        }
        let stats = self.stats.clone();
        let store = self.get()?;
        let result = stats.timed_commit(|| store.commit(ops));
        ops.clear();
        self.lost.extend(result.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Replaces an empty list by the one of the last commit on the second thread, for its memory.
    pub(super) fn reuse_ops(&mut self, ops: &mut Vec<RowOp>) {
        // It may have changes by now: those of requests that were taken in during the commit.
        if ops.is_empty()
            && let Some(spare) = self.spare_ops.take()
        {
            *ops = spare;
        }
    }

    /// Begins a commit on the second thread, and empties the list.
    pub(super) fn start_commit(&mut self, ops: &mut Vec<RowOp>) -> Result<(), String> {
        let Some(store) = self.store.take() else {
            return Ok(());
        };
        self.jobs.send((store, mem::take(ops))).map_err(|refused| {
            self.store = Some(refused.0.0);
            "the journal's second thread has ended".to_owned()
        })
    }

    /// Commits these last changes, unless a write has failed, and closes the store.
    pub(super) fn close_store(&mut self, last_commit: &[RowOp], result: &Result<(), String>) {
        // A commit that still runs is not to be cut off.
        if self.store.is_none() {
            self.store = Some(self.requests.wait_for_commit().store);
        }
        if let Some(store) = &mut self.store {
            let succeeded = result.is_ok() && store.commit(last_commit).is_ok();
            store.close(match succeeded {
                true => Writes::Succeeded,
                false => Writes::Failed,
            });
        }
    }
}

#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::journal::{durability::Durability, memory::disk::Disk};

    #[test]
    fn j1_changes_that_came_during_a_commit_are_not_lost_to_its_list() {
        let store = Disk::new().journal(Durability::Power).unwrap().store;
        let (jobs, _given) = mpsc::channel();
        let mut slot = StoreSlot::new(store, jobs, Arc::new(RequestQueue::new()), Arc::default());
        slot.spare_ops = Some(Vec::with_capacity(8));
        let mut ops = vec![RowOp::KeepUndos { task: 1 }];
        slot.reuse_ops(&mut ops);
        assert_eq!(ops.len(), 1);
        ops.clear();
        slot.reuse_ops(&mut ops);
        assert!(ops.capacity() >= 8);
    }
}
