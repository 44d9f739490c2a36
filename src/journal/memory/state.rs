//! The state of a disk in memory, shared by the test that holds it and the journal that writes.

use std::{
    mem,
    sync::{Condvar, Mutex},
};

use super::tables::Tables;
use crate::journal::store::RowOp;

/// The way in which a [`Disk`](crate::testing::Disk) fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// The write fails, and nothing of it is on the disk.
    Write,
    /// The disk is full: a part of the write fits, which is no whole commit.
    Full,
    /// The write succeeds and the sync fails: nobody knows whether it is safe.
    Sync,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<DiskState>,
    /// Notified when a write begins to wait, and when waiting writes may have to go on.
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct DiskState {
    /// The tables after a power cut.
    pub(super) synced: Tables,
    /// Commits that a kill leaves besides, and a power cut does not.
    pub(super) unsynced: Vec<Vec<RowOp>>,
    /// The number of the journal that has the disk. An earlier one may not write any more.
    pub(super) holder: u64,
    pub(super) held: bool,
    pub(super) fault: Option<PlannedFault>,
    /// A write has failed. None may follow before the journal is opened again.
    pub(super) failed: bool,
    pub(super) writes_after_failure: u64,
    pub(super) syncs: u64,
    /// Writes wait, except this many.
    pub(super) stopped: bool,
    pub(super) let_through: u64,
    pub(super) waiting: usize,
    /// The power fails after this many more commits.
    pub(super) cut_after: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct PlannedFault {
    pub(super) fault: DiskFault,
    /// The number of commits that still succeed.
    pub(super) after: u64,
}

impl DiskState {
    pub(super) fn sync(&mut self) {
        for ops in mem::take(&mut self.unsynced) {
            self.synced.apply_all(&ops);
        }
    }

    /// The tables as a program reads them.
    pub(super) fn visible(&self) -> Tables {
        let mut tables = self.synced.clone();
        for ops in &self.unsynced {
            tables.apply_all(ops);
        }
        tables
    }

    /// Takes the disk away from the journal that has it. Follow it with a notification.
    pub(super) fn detach(&mut self) {
        self.held = false;
        self.holder += 1;
        self.fault = None;
        self.cut_after = None;
        self.stopped = false;
        self.let_through = 0;
    }
}
