//! The wait before a pool builds a stage value again.

use std::time::Duration;

use super::Retry;

/// The delays between attempts to build a stage value whose factory fails or panics. Set with
/// [`restart`](crate::IntoWork::restart).
///
/// A value that was lost to a panic or an abort is rebuilt at once; only failures to build wait. The
/// attempts go on for as long as the pipeline runs. After ten failures in a row, with no worker left,
/// the stage is [down](crate::report::StageHealth::Down) and its tasks fail.
///
/// Default: 100 ms, doubling to 30 s, with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    delays: Retry,
}

impl Restart {
    /// Delays that double from `min` to `max`, with jitter.
    pub fn exponential(min: Duration, max: Duration) -> Self {
        Restart {
            delays: Retry::exponential(u32::MAX).min_delay(min).max_delay(max),
        }
    }

    /// The wait after that many failures in a row.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.delays.delay(failures)
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(30))
    }
}
