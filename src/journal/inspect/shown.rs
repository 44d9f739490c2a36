//! What people and their tools are shown of a journal.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;

use crate::{
    journal::rows,
    task::{End, Outcome, StageIx, StageName, State, TaskId},
};

/// A stage that a journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStage {
    /// Its number in this journal. Those of the pipeline come first; then those that are gone, or
    /// are of another version by now, and may still have tasks.
    pub number: StageIx,
    /// Its name.
    pub name: StageName,
    /// Its [version](crate::IntoWork::version).
    pub version: u32,
}

/// A task in a journal: one without an outcome, or one that is stuck.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalTask {
    /// Its number.
    pub id: TaskId,
    /// The key that it was submitted with.
    pub key: Option<String>,
    /// Where it is. A stuck one is [rolling back](State::RollingBack), unless it was set aside.
    pub state: State,
    /// The stage that it is in; `None` once it is rolled back.
    pub stage: Option<StageName>,
    /// The stage's attempt, from 1.
    pub attempt: u32,
    /// How many of the stage's attempts ended with the process.
    pub interrupted: u32,
    /// What is left to its deadline by now.
    pub left: Option<Duration>,
    /// Why it is rolled back.
    pub end: Option<End>,
    /// Its outcome, if it waits for a person.
    pub stuck: Option<Outcome>,
    /// It waits because it can't be used as it is: it was set aside, and is as it was before. Its
    /// outcome says why.
    pub quarantined: bool,
    /// What it registered, in that order.
    pub undos: Vec<JournalUndo>,
    /// What its stage takes, or took.
    pub context: JournalValue,
}

/// An undo in a journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalUndo {
    /// The stage that registered it.
    pub stage: StageName,
    /// The stage's attempt that did.
    pub attempt: u32,
    /// How often its cancel was started.
    pub tries: u32,
    /// Its cancel was at work when this was written.
    pub running: bool,
    /// What became of it.
    pub status: JournalUndoStatus,
    /// What the stage's `cancel` takes.
    pub value: JournalValue,
}

/// What became of an undo.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalUndoStatus {
    /// Nothing yet.
    Registered,
    /// Its effect did not happen.
    Withdrawn,
    /// It is taken back.
    Cancelled,
    /// Its cancel failed for good, with this error.
    Failed(String),
}

impl JournalUndo {
    /// Whether its effect may be there, so that somebody has to see to it.
    pub fn is_left(&self) -> bool {
        use JournalUndoStatus::{Failed, Registered};
        matches!(self.status, Registered | Failed(_))
    }
}

/// A value as a journal has it: MessagePack, with the names of fields.
#[derive(Clone, PartialEq, Eq)]
pub struct JournalValue(pub(super) Vec<u8>);

impl JournalValue {
    /// The MessagePack.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value, as this type.
    ///
    /// # Errors
    /// Where it is of another one, with a text that says why.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        rows::decode(&self.0)
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
    /// When it was written.
    pub at: SystemTime,
    /// What the last stage returned, of a task that had a key and is done.
    pub output: Option<JournalValue>,
}
