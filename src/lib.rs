//! Task pipelines on actix that take back what they did.
//!
//! Work is a chain of stages, each a supervised pool of worker actors. Producers submit tasks, each
//! stage hands a task's context to the next, and when a task fails, panics, runs late or is
//! cancelled, what its stages did is taken back, one undo after the other, in the order of
//! registration.
//!
//! Start with [`Pipeline`], then write a [`Stage`]. What holds, and where it ends, is in
//! `GUARANTEES.md`; how the parts fit together is in `ARCHITECTURE.md`. Stages and producers ready to
//! use are in the crate `batrun-actors`; what tests of yours need is in `batrun::testing`, with the
//! feature `testing`.

mod actor_stage;
mod clock;
mod core;
mod error;
mod guard;
mod handle;
#[cfg(feature = "testing")]
mod inject;
mod intake;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "journal")]
mod journal;
mod keeping;
mod ledger;
mod message;
mod outcomes;
mod pipeline;
mod policy;
mod producer;
mod report;
mod run;
mod stage;
mod stage_fn;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod work;

pub use actor_stage::{ActorStage, Cancel, CancelReply, Reply};
pub use error::{BuildError, Error, Failure, FailureKind, SubmitError, TrySubmitError, UndoError};
pub use handle::PipelineHandle;
pub use intake::{Intake, Submit};
#[cfg(feature = "journal")]
pub use journal::{
    Durability, Journal, JournalError, JournalFile, JournalOutcome, JournalStage, JournalTask,
    JournalUndo, JournalUndoStatus, JournalValue, NotStuck,
};
#[cfg(feature = "journal")]
pub use keeping::Durable;
pub use keeping::{Keeps, Volatile};
pub use ledger::{Change, KeptOutcome, Ledger, LedgerError, Recorded, Transition, Value};
pub use message::{Onward, TaskMsg};
pub use outcomes::Lagged;
pub use pipeline::Pipeline;
pub use policy::{OnStuck, Order, RateLimit, Recovery, Restart, Retry, Shutdown};
pub use producer::{FromStream, Producer, from_iter, from_stream};
pub use report::{
    Health, ProducerError, Report, Snapshot, StageCounts, StageReport, StageSnapshot, Times,
};
pub use stage::{CancelContext, Registered, Stage, StopSignal, TaskContext};
pub use stage_fn::{CancelWith, NoCancel, StageFn, stage_fn};
pub use task::{
    Counts, End, Event, Illegal, Key, Outcome, Rollback, StageIx, StageName, State, StopCause,
    Stuck, StuckUndo, TaskId, next,
};
pub use ticket::Ticket;
pub use work::{IntoWork, Work};

/// What most programs need.
pub mod prelude {
    pub use crate::{
        Cancel, CancelContext, End, Failure, Intake, IntoWork, OnStuck, Order, Outcome, Pipeline,
        PipelineHandle, Producer, RateLimit, Reply, Report, Restart, Retry, Rollback, Shutdown,
        Stage, SubmitError, TaskContext, TaskMsg, Ticket, TrySubmitError, Work, from_iter,
        from_stream, stage_fn,
    };
}
