//! How a pipeline ends.

use std::time::Duration;

/// How a pipeline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Take no new tasks and let the accepted ones finish; what has not finished after this grace
    /// period is cancelled and rolled back. Producers are dropped where they are.
    Drain(Duration),
    /// Cancel every task and roll it back at once.
    Abort,
    /// Stop where everything is: futures are dropped, no cancel starts, and tickets answer
    /// [`Error::Suspended`](crate::Error::Suspended). For pipelines with a journal, where the next
    /// start goes on; without one, tasks are left half done.
    Suspend,
}
