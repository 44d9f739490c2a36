//! Times as the journal stores them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the wall clock, the only clock that two processes of one machine share.
pub(super) fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The nanoseconds that are left to a deadline; `None` if there is no deadline.
pub(super) fn nanos_left(left: Option<Duration>) -> Option<u64> {
    left.map(|left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}
