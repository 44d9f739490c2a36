//! The limits on kept outcomes: their age and their number.

use super::rows::outcome_block::OutcomeBlockRow;

/// The limits, and the time of the next check. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Retention {
    pub(super) max_age: u64,
    pub(super) max_outcomes: u64,
    /// No outcome is too old before this time, so nobody has to look.
    next_check: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            max_age: 7 * 24 * 3_600 * 1_000,
            max_outcomes: 1_000_000,
            next_check: 0,
        }
    }
}

impl Retention {
    /// Nothing is deleted.
    #[cfg(feature = "postgres")]
    pub(super) fn never() -> Self {
        Retention {
            max_age: u64::MAX,
            max_outcomes: u64::MAX,
            next_check: u64::MAX,
        }
    }

    /// Returns true if the oldest outcomes have to be looked at.
    pub(super) fn is_due(&self, outcomes: u64, now: u64) -> bool {
        outcomes > self.max_outcomes || now >= self.next_check
    }

    /// Returns true if this block, the oldest one, is to be deleted.
    pub(super) fn is_over(&self, row: &OutcomeBlockRow, outcomes: u64, now: u64) -> bool {
        outcomes > self.max_outcomes || row.at.saturating_add(self.max_age) < now
    }

    /// Puts the next check off: no outcome is older than this time.
    pub(super) fn check_again(&mut self, oldest: u64) {
        self.next_check = oldest.saturating_add(self.max_age).saturating_add(1);
    }
}
