//! The state of a task that has no outcome yet or that is stuck, as the journal keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{codec::is_default, undo_state::UndoState};
use crate::task::{End, Names, Outcome, Rollback, StageIx, State};

/// Everything that it takes to go on with a task or to roll it back, except its context.
///
/// The context stays in the file: it is written once per stage, and only a restart reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TaskState {
    /// The task's place in the pipeline's state machine.
    pub(super) position: State,
    pub(super) details: TaskDetails,
    /// In the order of registration.
    pub(super) undos: Vec<UndoState>,
}

/// The part of a [`TaskState`] that is stored encoded. Names are short because every row has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TaskDetails {
    /// Has a column of its own.
    #[serde(skip)]
    pub(super) key: Option<Box<str>>,
    /// The digest of the context that it was submitted with, if it has a key.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<u64>,
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<Arc<str>>,
    /// The current stage's attempt, from 1.
    #[serde(rename = "a")]
    pub(super) attempt: u32,
    /// The number of attempts of this stage that were cut short by the end of the process.
    #[serde(rename = "i", skip_serializing_if = "is_default")]
    pub(super) interrupted: u32,
    /// The number of these ends that were kills.
    #[serde(rename = "x", skip_serializing_if = "is_default")]
    pub(super) kills: u32,
    #[serde(rename = "g", skip_serializing_if = "is_default")]
    pub(super) generation: u32,
    /// An undo of the failed attempt has run, so the next attempt is another generation.
    #[serde(rename = "u", skip_serializing_if = "is_default")]
    pub(super) attempt_undone: bool,
    /// Nanoseconds to the deadline, measured at `measured_at`.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    pub(super) deadline_left: Option<u64>,
    /// Nanoseconds that the task gets once the first stage takes it up.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    pub(super) work_timeout: Option<u64>,
    /// The time of `deadline_left`, in milliseconds since 1970.
    #[serde(rename = "s", skip_serializing_if = "is_default")]
    pub(super) measured_at: u64,
    /// The reason for the rollback, once there is one.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<DebugEq<End>>,
    /// The outcome, if the task is stuck.
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    pub(super) stuck: Option<DebugEq<Outcome>>,
    /// The task is stuck because a restart could not use it. Everything else is as it was before.
    #[serde(rename = "q", skip_serializing_if = "is_default")]
    pub(super) quarantined: bool,
}

/// A part of an outcome, compared by its `Debug` text: the error in it has no other identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct DebugEq<T>(pub(super) Box<T>);

impl<T: std::fmt::Debug> PartialEq for DebugEq<T> {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl TaskDetails {
    pub(super) fn names(&self) -> Names {
        Names {
            key: self.key.as_deref().map(Into::into),
            label: self.label.clone(),
            ..Names::default()
        }
    }

    /// Adds the task's names to its outcome.
    pub(super) fn name(&self, outcome: &mut Outcome) {
        if self.key.is_none() && self.label.is_none() {
            return;
        }
        let Names { key, label, .. } = self.names();
        if let Rollback::Stuck(stuck) = &mut outcome.rollback {
            (stuck.key, stuck.label) = (key.clone(), label.clone());
        }
        (outcome.key, outcome.label) = (key, label);
    }
}

impl TaskState {
    /// A task that was just accepted. `now` is in milliseconds since 1970, the rest in nanoseconds.
    pub(super) fn accepted(
        key: Option<Box<str>>,
        label: Option<Arc<str>>,
        deadline_left: Option<u64>,
        work_timeout: Option<u64>,
        now: u64,
    ) -> Self {
        let details = TaskDetails {
            key,
            label,
            attempt: 1,
            deadline_left,
            work_timeout,
            measured_at: if deadline_left.is_some() { now } else { 0 },
            ..TaskDetails::default()
        };
        TaskState {
            position: State::Queued(0),
            details,
            undos: Vec::new(),
        }
    }

    /// A task that was done and is to be taken back.
    pub(super) fn taken_back(
        key: Box<str>,
        label: Option<Arc<str>>,
        digest: Option<u64>,
        undos: Vec<UndoState>,
    ) -> Self {
        let details = TaskDetails {
            key: Some(key),
            label,
            digest,
            attempt: 1,
            end: Some(DebugEq(Box::new(End::TakenBack))),
            ..TaskDetails::default()
        };
        TaskState {
            position: State::RollingBack,
            details,
            undos,
        }
    }

    /// Returns true if the task waits for a person.
    pub(super) fn is_stuck(&self) -> bool {
        self.details.stuck.is_some()
    }

    /// The stage that the task is in; `None` once its rollback has begun.
    pub(super) fn stage(&self) -> Option<StageIx> {
        match self.position {
            State::Queued(k) | State::Running(k) | State::Cleaning(k) | State::Stopping(k) => {
                Some(k)
            }
            State::RollingBack | State::Ended => None,
        }
    }
}
