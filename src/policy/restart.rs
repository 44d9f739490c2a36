//! How long a pool waits before it builds a stage value again.

use std::time::Duration;

use super::Retry;

/// How long a pool waits between attempts to build a stage value whose factory fails or panics.
///
/// A value that was lost to a panic or an abort is rebuilt at once; only failures to build wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    delays: Retry,
}

impl Restart {
    /// Delays that double from `min` to `max`, with jitter. A stage that says nothing gets 100 ms
    /// to 30 s.
    pub fn exponential(min: Duration, max: Duration) -> Self {
        Restart {
            delays: Retry::exponential(u32::MAX).min_delay(min).max_delay(max),
        }
    }

    /// How long to wait after that many failures in a row.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.delays.delay(failures)
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(30))
    }
}
