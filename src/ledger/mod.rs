//! The seam for remembering: whatever happens to a task is recorded before anything follows from it.
//!
//! [`Pipeline::ledger`](crate::Pipeline::ledger) takes a [`Ledger`] of yours; a
//! journal is one that is ready-made.

pub(crate) mod change;
pub(crate) mod cluster;
mod guarded_future;
pub(crate) mod past;
pub(crate) mod read_journal;
pub(crate) mod recorded;
#[cfg(feature = "journal")]
pub(crate) mod progress;
pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod guarded;

use std::{any::Any, future::Future, pin::Pin};

pub use change::{Change, Transition, Value};
pub use error::LedgerError;
pub use recorded::Recorded;

pub(crate) use codec::Codec;
pub(crate) use error::Why;
#[cfg(feature = "journal")]
pub(crate) use progress::{Mark, Progress};
pub(crate) use recorded::AllRecorded;

use crate::task::Outcome;

/// Remembers what happens to tasks, so that another process could go on from there.
///
/// Each change is recorded by whoever makes it (intake, worker, task context, reporter) and what
/// follows from it happens only once [`Recorded`] is ready: a task is accepted, an effect may take
/// place, a result goes on to the next stage, a rollback begins. A pipeline without a ledger keeps
/// nothing and pays nothing.
///
/// Calls come from several threads. Those of one task come one after the other, in the order of
/// what happened; a ledger that writes later must keep that order.
///
/// If a record fails, the pipeline is suspended: it accepts nothing more, drops the futures at
/// work, starts no cancel, and every ticket answers [`Error::Suspended`](crate::Error::Suspended).
///
/// # Panics
/// A panic in one of these methods, or in a future that they return, counts as a failed record. No lock
/// of the pipeline's is held while they run.
pub trait Ledger: Send + Sync + 'static {
    /// Records one change.
    fn record(&self, transition: Transition<'_>) -> Recorded;

    /// The outcome of the task that was accepted with this key, once it has one; `None` where no
    /// such task is live or kept. A ledger that keeps no keys knows none.
    fn outcome_of(&self, key: &str) -> KeptOutcome {
        let _ = key;
        Box::pin(async { Ok(None) })
    }

    /// The pipeline has ended: nothing more will be recorded. May block for as long as it takes to
    /// write what is left.
    fn close(&self) {}
}

/// An outcome that a ledger keeps, with the last stage's output if it was kept too.
pub type KeptOutcome =
    Pin<Box<dyn Future<Output = Result<Option<Outcome<Box<dyn Any + Send>>>, LedgerError>> + Send>>;
