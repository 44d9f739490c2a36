//! Tasks that were not accepted, counted by the reason.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::task::Refusal;

/// Submits that were refused, by the reason. Counted where a submit is refused, so that an accepted one
/// pays nothing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedCounts {
    /// There was no room: [`now`](crate::submit::Submit::now), [`if_room`](crate::submit::Submit::if_room)
    /// and `try_submit` don't wait for any.
    pub full: u64,
    /// The pipeline was shutting down, or had ended.
    pub closed: u64,
    /// As many tasks were stuck as [`max_stuck`](crate::Pipeline::max_stuck) allows.
    pub stuck: u64,
    /// The pipeline was suspended.
    pub suspended: u64,
}

/// The counters themselves.
#[derive(Default)]
pub(crate) struct Refusals {
    full: AtomicU64,
    closed: AtomicU64,
    stuck: AtomicU64,
    suspended: AtomicU64,
}

impl Refusals {
    /// There was no room, and nobody waits for it.
    #[cold]
    pub(crate) fn count_full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    /// `None` stands for a pipeline that is gone.
    #[cold]
    pub(crate) fn count(&self, why: Option<Refusal>) {
        let counter = match why {
            None | Some(Refusal::Closed) => &self.closed,
            Some(Refusal::Stuck) => &self.stuck,
            Some(Refusal::Suspended) => &self.suspended,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> RefusedCounts {
        RefusedCounts {
            full: self.full.load(Ordering::Relaxed),
            closed: self.closed.load(Ordering::Relaxed),
            stuck: self.stuck.load(Ordering::Relaxed),
            suspended: self.suspended.load(Ordering::Relaxed),
        }
    }
}
