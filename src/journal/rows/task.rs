//! The table `task`: tasks without an outcome, and stuck ones.

use std::{borrow::Cow, fmt};

use crate::{
    journal::{
        checksum::Checksum,
        codec::{decode, encode},
        corrupt::{Corrupt, verify},
        task_state::{TaskDetails, TaskState},
    },
    task::{StageIx, State},
};

/// A task's row. Its context is in the same row of the table, as a [`Blob`](super::blob::Blob).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskRow {
    pub(crate) id: u64,
    pub(crate) key: Option<Box<str>>,
    /// `None` once the rollback has begun.
    pub(crate) stage: Option<StageIx>,
    /// One of the [`STATE_NAMES`].
    pub(crate) state: Cow<'static, str>,
    pub(crate) stuck: bool,
    /// The encoded [`TaskDetails`], in the column `more`.
    pub(crate) details: Vec<u8>,
    pub(crate) checksum: u32,
}

/// The values of the column `state`, in words so that people can read the table.
pub(crate) const STATE_NAMES: [&str; 4] = ["queued", "running", "cleaning up", "rolling back"];

impl TaskRow {
    pub(crate) fn of(id: u64, task: &TaskState) -> Result<Self, String> {
        let (state, stage) = match task.position {
            State::Queued(stage) => (STATE_NAMES[0], Some(stage)),
            State::Running(stage) | State::Stopping(stage) => (STATE_NAMES[1], Some(stage)),
            State::Cleaning(stage) => (STATE_NAMES[2], Some(stage)),
            State::RollingBack | State::Ended => (STATE_NAMES[3], None),
        };
        let mut row = TaskRow {
            id,
            key: task.details.key.clone(),
            stage,
            state: state.into(),
            stuck: task.is_stuck(),
            details: encode(&task.details)?,
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        Ok(row)
    }

    pub(crate) fn compute_checksum(&self) -> u32 {
        Checksum::of("task")
            .number(self.id)
            .optional_bytes(self.key.as_deref().map(str::as_bytes))
            .number(self.stage.map_or(u64::MAX, u64::from))
            .bytes(self.state.as_bytes())
            .number(self.stuck.into())
            .bytes(&self.details)
            .finish()
    }

    /// The task as it was written, except its undos, which have rows of their own.
    pub(crate) fn into_state(self) -> Result<TaskState, Corrupt> {
        let what = self.to_string();
        verify(&what, self.checksum, self.compute_checksum())?;
        let stage = self.stage.ok_or("it has no stage");
        let position = match &*self.state {
            "queued" => stage.map(State::Queued),
            "running" => stage.map(State::Running),
            "cleaning up" => stage.map(State::Cleaning),
            "rolling back" => Ok(State::RollingBack),
            _ => Err("unknown state"),
        };
        let position = position.map_err(|why| Corrupt::new(&what, why))?;
        let details: TaskDetails = decode(&self.details).map_err(|why| Corrupt::new(&what, why))?;
        if position == State::RollingBack && details.end.is_none() {
            return Err(Corrupt::new(&what, "it is rolled back without a reason"));
        }
        if self.stuck != details.stuck.is_some() {
            let why = "its column `stuck` contradicts its outcome";
            return Err(Corrupt::new(&what, why));
        }
        let details = TaskDetails {
            key: self.key,
            ..details
        };
        Ok(TaskState {
            position,
            details,
            undos: Vec::new(),
        })
    }
}

impl fmt::Display for TaskRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of task {}", self.id)
    }
}
