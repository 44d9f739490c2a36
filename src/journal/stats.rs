//! The numbers that a writer has of its journal, for those who look on.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::panic_guard;

/// A distribution in nanoseconds, with its sum.
pub(super) type Times = (Histogram<u64>, u64);

/// The times that commits took, and the number of outcomes that are kept. The threads that commit add to it, once a
/// commit.
#[derive(Default)]
pub(crate) struct JournalStats {
    /// `None` if nobody can ask for it.
    commits: Option<Mutex<Times>>,
    outcomes: AtomicU64,
}

impl JournalStats {
    /// Takes times, in this histogram.
    pub(crate) fn timed(histogram: Histogram<u64>) -> Self {
        JournalStats {
            commits: Some(Mutex::new((histogram, 0))),
            outcomes: AtomicU64::new(0),
        }
    }

    /// Runs a commit, and takes its time if it succeeds.
    pub(super) fn timed_commit<T, E>(&self, commit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let begin = Instant::now();
        let done = commit()?;
        self.add(begin.elapsed());
        Ok(done)
    }

    fn add(&self, took: Duration) {
        if let Some(commits) = &self.commits {
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let mut commits = panic_guard::lock(commits);
            commits.0.saturating_record(took);
            commits.1 = commits.1.wrapping_add(took);
        }
    }

    /// A copy of the times.
    pub(super) fn commits(&self) -> Option<Times> {
        Some(panic_guard::lock(self.commits.as_ref()?).clone())
    }

    pub(super) fn set_outcomes(&self, outcomes: u64) {
        self.outcomes.store(outcomes, Ordering::Relaxed);
    }

    /// The number of outcomes that are kept, as far as this process knows.
    pub(super) fn outcomes(&self) -> u64 {
        self.outcomes.load(Ordering::Relaxed)
    }
}
