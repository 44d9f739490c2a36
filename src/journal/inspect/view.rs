//! The contents of a journal, as people and their tools read them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;

use crate::{
    journal::codec,
    task::{End, Outcome, StageName, State, TaskId},
};

/// A task in a journal: one that has no outcome yet, or one that is stuck.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalTask {
    /// Its number.
    pub id: TaskId,
    /// The key that it was submitted with.
    pub key: Option<String>,
    /// The label that it was submitted with.
    pub label: Option<String>,
    /// Its state. A stuck task is [rolling back](State::RollingBack), unless it was set aside.
    pub state: State,
    /// The stage that it is in; `None` once its rollback has begun.
    pub stage: Option<StageName>,
    /// The stage's attempt, from 1.
    pub attempt: u32,
    /// The number of the stage's attempts that were cut short by the end of the process.
    pub interrupted: u32,
    /// The time to its deadline, counted from now; zero if it has passed, `None` if it has none.
    pub left: Option<Duration>,
    /// The reason for its rollback; `None` if there is no rollback.
    pub end: Option<End>,
    /// Its outcome, if it is stuck.
    pub stuck: Option<Outcome>,
    /// A start could not use it as it is and set it aside, so it is stuck. Its outcome says why;
    /// everything else is as it was before.
    pub quarantined: bool,
    /// Its undos, in the order in which they were registered.
    pub undos: Vec<JournalUndo>,
    /// Its stage's input. For a task that is rolled back, the input of the last stage it was in.
    pub context: JournalValue,
}

/// An undo in a journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalUndo {
    /// The stage that registered it.
    pub stage: StageName,
    /// The stage's attempt that registered it, from 1.
    pub attempt: u32,
    /// The number of times it was started.
    pub tries: u32,
    /// It was running when this was written.
    pub running: bool,
    /// Its status.
    pub status: JournalUndoStatus,
    /// Its value, which the stage's `cancel` takes.
    pub value: JournalValue,
}

/// The status of an undo in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalUndoStatus {
    /// It has not returned yet, or has not run at all.
    Registered,
    /// The stage has withdrawn it: its effect did not happen.
    Withdrawn,
    /// It was undone.
    Cancelled,
    /// It failed for good, with this error.
    Failed(String),
}

impl JournalUndo {
    /// Returns true if its effect may still be there, so that somebody has to see to it.
    pub fn is_left(&self) -> bool {
        use JournalUndoStatus::{Failed, Registered};
        matches!(self.status, Registered | Failed(_))
    }
}

/// A value in a journal, encoded: MessagePack, with the names of fields.
#[derive(Clone, PartialEq, Eq)]
pub struct JournalValue(pub(super) Vec<u8>);

impl JournalValue {
    /// The MessagePack.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// A text for people, if it is not of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        codec::decode(&self.0)
    }
}

impl fmt::Debug for JournalValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalValue({} bytes)", self.0.len())
    }
}

/// An outcome that a journal keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalOutcome {
    /// The outcome.
    pub outcome: Outcome,
    /// The key that the task was submitted with.
    pub key: Option<String>,
    /// The time at which it was written, by the wall clock.
    pub at: SystemTime,
    /// The last stage's output, if the task had a key and is done.
    pub output: Option<JournalValue>,
}
