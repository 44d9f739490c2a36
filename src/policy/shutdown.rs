//! The ways to end a pipeline.

use std::time::Duration;

/// The way to end a pipeline, for [`PipelineHandle::shutdown`](crate::PipelineHandle::shutdown).
///
/// All of them take no new tasks, drop the producers where they are and give a caller that waits in
/// `submit` its context back. Calls and rollbacks that outlast
/// [`abandon_after`](crate::Pipeline::abandon_after) are given up, and their tasks end stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Accepted tasks finish. Those that have not after this grace period are cancelled and rolled
    /// back.
    Drain(Duration),
    /// Every task is cancelled and rolled back at once.
    Abort,
    /// Everything stops where it is: futures are dropped, no undo starts, and tickets answer
    /// [`Error::Suspended`](crate::Error::Suspended). For pipelines with a journal, whose next start
    /// goes on; without one, tasks are left half done.
    Suspend,
}
