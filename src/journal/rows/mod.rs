//! The rows of the journal's tables, one file per table. Each row carries a checksum.
//!
//! A row is made from what the writer knows ([`TaskState`](super::task_state::TaskState), an
//! outcome, ..) and turned back into it; turning back verifies the checksum. No row knows SQLite.

// `task` and the values in it and in `undo`.
pub(super) mod blob;
pub(super) mod task;
pub(super) mod undo;

// `outcomes` and `kept`.
pub(super) mod keyed_outcome;
pub(super) mod outcome_block;

// `stage` and `word`.
pub(super) mod meta;
pub(super) mod stage;

#[cfg(feature = "internals")]
pub(super) mod fuzz;
