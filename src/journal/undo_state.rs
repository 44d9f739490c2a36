//! The state of an undo, as the journal keeps it. Its value is kept apart.

use serde::{Deserialize, Serialize};

use super::codec::is_default;
use crate::{
    failure::FailureKind,
    task::{AnyUndo, StageIx, Undo, UndoStatus},
};

/// The state of an undo. Stored under short names, because every undo's row has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct UndoState {
    /// The stage that registered it.
    #[serde(rename = "t")]
    pub(super) stage: StageIx,
    /// The stage's attempt that registered it.
    #[serde(rename = "a")]
    pub(super) attempt: u32,
    /// The task's generation at that time.
    #[serde(rename = "g")]
    pub(super) generation: u32,
    /// The number of times it was started.
    #[serde(rename = "n")]
    pub(super) runs: u32,
    /// The number of these runs that were cut short by a kill of the process.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    pub(super) interrupted: u32,
    /// It was started, and has not returned.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub(super) running: bool,
    /// It was undone between two attempts, not by the task's rollback.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub(super) cleaned_up: bool,
    #[serde(rename = "s")]
    pub(super) status: StoredUndoStatus,
}

/// The status of an undo, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StoredUndoStatus {
    #[serde(rename = "r")]
    Registered,
    #[serde(rename = "w")]
    Withdrawn,
    #[serde(rename = "c")]
    Undone,
    /// It failed for good, with this error.
    #[serde(rename = "f")]
    Failed(FailureKind, String),
}

impl UndoState {
    /// It has run, or must not: nobody needs its value any more, which so may be one that can't be decoded.
    pub(super) fn is_settled(&self) -> bool {
        use StoredUndoStatus::{Undone, Withdrawn};
        matches!(self.status, Undone | Withdrawn)
    }

    /// The undo as the engine has it, with its value unless it is settled.
    pub(super) fn to_live(&self, value: Option<Box<dyn AnyUndo>>) -> Undo {
        Undo {
            stage: self.stage,
            attempt: self.attempt,
            generation: self.generation,
            value,
            status: self.status.as_live(),
            tries: self.runs,
        }
    }
}

impl StoredUndoStatus {
    /// The status with which a rollback begins: an undo that has failed is to be tried again.
    fn as_live(&self) -> UndoStatus {
        match self {
            StoredUndoStatus::Registered | StoredUndoStatus::Failed(..) => UndoStatus::Registered,
            StoredUndoStatus::Withdrawn => UndoStatus::Withdrawn,
            StoredUndoStatus::Undone => UndoStatus::Undone,
        }
    }
}
