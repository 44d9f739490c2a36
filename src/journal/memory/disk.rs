//! The disk in memory, as tests use it.

use std::{sync::Arc, time::Duration};

use super::{
    state::{DiskFault, PlannedFault, Shared},
    store::MemoryStore,
};
use crate::{
    journal::{durability::Durability, error::JournalError, options::Journal},
    panic_guard,
};

/// A disk in memory, for tests of pipelines with a journal. It outlives its
/// [`Journal`](crate::journal::Journal), and fails on demand.
///
/// ```
/// use batrun::{journal::Durability, prelude::*, testing::Disk};
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let disk = Disk::new();
///     let double = || stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(n * 2));
///     let pipeline = Pipeline::new("numbers").journal(disk.journal(Durability::Power)?);
///     let handle = pipeline.stage(double()).start().await?;
///     let ticket = handle.submit(7).key("seven").await?;
///     assert_eq!(ticket.outcome().await?.output, Some(14));
///     handle.shutdown(Shutdown::Abort).await?;
///
///     let pipeline = Pipeline::new("numbers").journal(disk.journal(Durability::Power)?);
///     let handle = pipeline.stage(double()).start().await?;
///     let kept = handle.outcome_of("seven").await?;
///     assert_eq!(kept.and_then(|outcome| outcome.output), Some(14));
///     Ok(())
/// }
/// ```
///
/// Clones share one disk. A commit counts as one write; "after 3 commits" is after the third one
/// from the call.
#[derive(Clone, Default)]
pub struct Disk(Arc<Shared>);

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the journal on this disk. An earlier failure of the disk is over then.
    ///
    /// # Errors
    /// [`JournalError::Held`](crate::journal::JournalError::Held) while another journal has the disk.
    pub fn journal(&self, durability: Durability) -> Result<Journal, JournalError> {
        let path = "(a disk in memory)";
        let mut state = panic_guard::lock(&self.0.state);
        if state.held {
            return Err(JournalError::Held {
                path: path.into(),
                waited: Duration::ZERO,
            });
        }
        state.held = true;
        state.failed = false;
        state.holder += 1;
        let store = MemoryStore::new(self.0.clone(), state.holder, durability);
        drop(state);
        Ok(Journal::on(Box::new(store), path))
    }

    /// Plans a fault: the commit after this many successful ones fails.
    pub fn fail(&self, what: DiskFault, after: u64) {
        let fault = PlannedFault { fault: what, after };
        panic_guard::lock(&self.0.state).fault = Some(fault);
    }

    /// Cuts the power: everything that was not synced is gone, and the journal that has the disk
    /// can't write any more. The disk can be opened again.
    pub fn cut(&self) {
        let mut state = panic_guard::lock(&self.0.state);
        state.unsynced.clear();
        state.detach();
        self.0.changed.notify_all();
    }

    /// Kills the process: every commit stays, and the journal that has the disk can't write any
    /// more. The disk can be opened again.
    pub fn kill(&self) {
        let mut state = panic_guard::lock(&self.0.state);
        state.sync();
        state.detach();
        self.0.changed.notify_all();
    }

    /// Makes writes wait, before they are synced, until [`go_on`](Self::go_on).
    pub fn stop(&self) {
        panic_guard::lock(&self.0.state).stopped = true;
    }

    /// Lets one waiting write through, or the next one if none waits.
    pub fn step(&self) {
        panic_guard::lock(&self.0.state).let_through += 1;
        self.0.changed.notify_all();
    }

    /// Ends a [`stop`](Self::stop).
    pub fn go_on(&self) {
        panic_guard::lock(&self.0.state).stopped = false;
        self.0.changed.notify_all();
    }

    /// Plans a power cut, as [`cut`](Self::cut), after this many more commits.
    pub fn cut_after(&self, commits: u64) {
        panic_guard::lock(&self.0.state).cut_after = Some(commits);
    }

    /// Returns true while a write waits, as [`stop`](Self::stop) has asked for.
    pub fn is_waiting(&self) -> bool {
        panic_guard::lock(&self.0.state).waiting > 0
    }

    /// The number of commits that were synced.
    pub fn syncs(&self) -> u64 {
        panic_guard::lock(&self.0.state).syncs
    }

    /// The number of writes that followed a failed one. None should.
    pub fn writes_after_failure(&self) -> u64 {
        panic_guard::lock(&self.0.state).writes_after_failure
    }
}
