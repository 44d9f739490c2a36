//! A change on its way to the journal's writer: values encoded, nothing borrowed.

use std::sync::Arc;

use crate::{
    failure::Failure,
    task::{End, Outcome, StageIx},
};

/// A change in a task's life, as the writer takes it in.
///
/// It mirrors [`Change`](crate::ledger::Change). Times are nanoseconds that are left.
pub(super) enum Entry {
    Accepted {
        key: Option<Box<str>>,
        /// The digest of the context, if there is a key.
        digest: Option<u64>,
        label: Option<Arc<str>>,
        context: Vec<u8>,
        deadline_left: Option<u64>,
        work_timeout: Option<u64>,
    },
    Started {
        stage: StageIx,
        attempt: u32,
        deadline_left: Option<u64>,
    },
    UndoRegistered {
        stage: StageIx,
        attempt: u32,
        undo: usize,
        value: Vec<u8>,
    },
    UndoWithdrawn {
        undo: usize,
    },
    Finished {
        stage: StageIx,
        output: Vec<u8>,
    },
    AttemptFailed {
        stage: StageIx,
    },
    /// The task failed, timed out or was cancelled: the rollback begins.
    RollbackStarted {
        end: Box<End>,
    },
    UndoStarted {
        undo: usize,
        attempt: u32,
    },
    UndoEnded {
        undo: usize,
        failure: Option<Box<Failure>>,
    },
    /// The task has its outcome: every stage returned in time.
    Done,
    /// The task has any other outcome.
    Ended(Box<Outcome>),
    /// It was stuck, and what is left of its rollback begins anew.
    Retried,
    Resolved,
    /// It is left to another process.
    Released,
}
