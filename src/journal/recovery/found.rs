//! What a start asks of a journal, and what it gets: each task, and how it goes on.

use std::{any::Any, time::Duration};

use super::parts::Parts;
use crate::{
    keeping::Codec,
    policy::Recovery,
    task::{Ended, Outcome, StageIx, StageName, Stuck, TaskId, Undo},
};

/// The pipeline that a journal is to be of.
pub(crate) struct Start {
    pub(crate) pipeline: String,
    pub(crate) stages: Vec<(StageName, u32)>,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) recovery: Recovery,
}

/// What a journal had in it.
pub(crate) struct Recovered {
    pub(crate) tasks: Parts<RecoveredTask>,
    /// What waits for a person.
    pub(crate) stuck: Vec<Stuck>,
    /// Those among them that could not be used as they were, and have their outcome now.
    pub(crate) quarantined: Vec<Outcome>,
    pub(crate) last_id: TaskId,
}

/// A task that goes on.
pub(crate) struct RecoveredTask {
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
    /// How many of the attempts of its stage don't count as tries.
    pub(crate) spared: u32,
    pub(crate) generation: u32,
    pub(crate) left: Option<Duration>,
    pub(crate) work_timeout: Option<Duration>,
    pub(crate) undos: Vec<Undo>,
    pub(crate) todo: Todo,
}

/// How it goes on.
pub(crate) enum Todo {
    /// It waits for this stage.
    Queue(StageIx, Box<dyn Any + Send>),
    /// An attempt was interrupted: what it registered is cancelled, then comes the next one.
    CleanUp(StageIx, Box<dyn Any + Send>),
    /// It is over for it, which has to be recorded first.
    Stop(Ended),
    /// Its rollback was under way, and has cancelled so many undos.
    RollBack(Ended, usize),
}
