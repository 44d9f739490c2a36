//! A task in flight, as a list shows it and as one looks at it closely.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::task::{End, StageName, StageProgress, State, TaskId};

/// The phase that a task in flight is in. See [`State`] for every legal way between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskPhase {
    /// It waits for a worker of its stage, or for its next attempt.
    Queued,
    /// A worker is on it.
    Running,
    /// An attempt has failed, and its undos run before the next one.
    CleaningUp,
    /// Its end is decided, and its stage has not let go of it yet.
    Stopping,
    /// Its undos run.
    RollingBack,
}

impl TaskPhase {
    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// `None` for a task that has its outcome.
    pub(crate) fn of(state: State) -> Option<Self> {
        match state {
            State::Queued(_) => Some(TaskPhase::Queued),
            State::Running(_) => Some(TaskPhase::Running),
            State::Cleaning(_) => Some(TaskPhase::CleaningUp),
            State::Stopping(_) => Some(TaskPhase::Stopping),
            State::RollingBack => Some(TaskPhase::RollingBack),
            State::Ended => None,
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskPhase::Queued => "queued",
            TaskPhase::Running => "running",
            TaskPhase::CleaningUp => "cleaning up",
            TaskPhase::Stopping => "stopping",
            TaskPhase::RollingBack => "rolling back",
        }
    }
}

impl fmt::Display for TaskPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A task in flight. It is as old as the call: the task goes on meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskView {
    /// Its number.
    pub task: TaskId,
    /// The [key](crate::submit::Submit::key) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The [label](crate::submit::Submit::label) that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// Its phase.
    pub phase: TaskPhase,
    /// The stage that it waits for or is in; none while its undos run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// The attempt of that stage, from 1. While its undos run, that of the last stage it was in.
    pub attempt: u32,
    /// The worker that is on it, a number within its stage, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// The time since it was put into the queue of its stage, for its first attempt or the last one that
    /// failed: what it has waited, and what it has been at work since. The time since its acceptance is not
    /// kept.
    pub age: Duration,
    /// The time that is left to its deadline; zero once that has passed. A
    /// [`work_timeout`](crate::submit::Submit::work_timeout) counts from the start of its work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_left: Option<Duration>,
    /// The progress within its stage, if the stage [tells](crate::TaskContext::progress).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StageProgress>,
}

/// Some of the tasks in flight, by their numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// The cursor of the next page; none on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<TaskId>,
    /// The number of all tasks that the filter takes, on whatever page.
    pub total: usize,
}

impl TaskPage {
    /// That of a pipeline that is gone, or of a stage that it doesn't have.
    pub(crate) fn empty() -> Self {
        TaskPage {
            tasks: Vec::new(),
            next: None,
            total: 0,
        }
    }
}

/// A task in flight, with everything that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskDetail {
    /// The task as a list shows it.
    #[serde(flatten)]
    pub view: TaskView,
    /// Its end, if that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The undos that it has registered, in that order.
    pub undos: Vec<UndoView>,
}

/// An undo of a task in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UndoView {
    /// The stage that registered it.
    pub stage: StageName,
    /// The attempt that registered it, from 1.
    pub attempt: u32,
    /// The undo, as its `Debug` shows it, cut to 4,096 bytes; none while a stage is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// Its state.
    pub state: UndoState,
    /// The error of its last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of times that it was started.
    pub tries: u32,
}

/// The state of an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UndoState {
    /// It will run if the task is taken back.
    Registered,
    /// Its stage has withdrawn it: the effect did not happen.
    Withdrawn,
    /// It has run.
    Undone,
    /// Its last try has failed. There may be more.
    Failed,
}
