//! Time: a clock that stands still, the real one, and how long a test waits at most.

use std::time::Duration;

use batrun::Shutdown;
use tokio::time::Instant;

pub use batrun::testing::{live, paused as still};

/// Long enough for anything but a hang.
pub const AT_MOST: Duration = Duration::from_secs(20);

/// A shutdown that lets every task finish, unless one hangs.
pub const DRAIN: Shutdown = Shutdown::Drain(AT_MOST);

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// Milliseconds that have passed since then, on the clock that may stand still.
pub fn since(then: Instant) -> u128 {
    then.elapsed().as_millis()
}

/// Waits, in real time, until something another thread does is seen.
pub async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is() {
            return;
        }
        sleep(1).await;
    }
    panic!("it did not come about within ten seconds");
}
