//! The result of a recovery: each task, and how it goes on.

use std::{any::Any, sync::Arc, time::Duration};

use super::chunked_vec::ChunkedVec;
use crate::{
    journal::{rows::stage::StageRow, stage_codecs::StageCodecs, stats::JournalStats},
    policy::Recovery,
    task::{EndReason, Names, Outcome, StageIx, StageName, StuckTask, TaskId, Undo},
};

/// The pipeline that starts on a journal.
pub(crate) struct PipelineSpec {
    pub(crate) pipeline: String,
    /// Each stage's name and version.
    pub(crate) stages: Vec<(StageName, u32)>,
    pub(crate) codecs: Arc<StageCodecs>,
    pub(crate) recovery: Recovery,
    /// The undos of done tasks with keys are kept.
    pub(crate) keep_undos: bool,
    /// A task is left alone once its stage, or one of its undos, was interrupted by this many kills.
    pub(crate) crash_limit: u32,
    pub(crate) stats: Arc<JournalStats>,
}

impl PipelineSpec {
    /// The pipeline's own stages as rows.
    pub(super) fn stage_rows(&self) -> Vec<StageRow> {
        let stages = self.stages.iter().enumerate();
        stages
            .map(|(number, (name, version))| StageRow::new(number as StageIx, name, *version))
            .collect()
    }
}

/// The tasks in a journal at a start.
pub(crate) struct Recovered {
    /// The tasks that go on, forward or back.
    pub(crate) tasks: ChunkedVec<RecoveredTask>,
    /// All tasks that wait for a person.
    pub(crate) stuck: Vec<StuckTask>,
    /// The outcomes of those among them that this start has set aside.
    pub(crate) quarantined: Vec<Outcome>,
    /// The highest task number so far.
    pub(crate) last_id: TaskId,
    /// The journal's random number, if it has one.
    pub(crate) journal_id: Option<String>,
}

/// A task that goes on.
pub(crate) struct RecoveredTask {
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
    /// The number of attempts of its stage that don't count as tries, because the process ended.
    pub(crate) spared: u32,
    pub(crate) generation: u32,
    /// The number of processes that it was of, if others could have it at the same time.
    pub(crate) owners: u32,
    /// The time to its deadline.
    pub(crate) left: Option<Duration>,
    pub(crate) work_timeout: Option<Duration>,
    pub(crate) undos: Vec<Undo>,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) names: Option<Box<Names>>,
    pub(crate) todo: Todo,
}

/// A task may be what kills the process: what it does next was at work at several kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// The number of these kills.
    pub(crate) kills: u32,
    /// An undo was at work, and not only a stage.
    pub(crate) undo: bool,
}

/// The next step of a recovered task. A context comes with it where a stage will need one.
pub(crate) enum Todo {
    /// It waits for this stage.
    Queue(StageIx, Box<dyn Any + Send>),
    /// An attempt of this stage was interrupted: the undos of that attempt run, then the next
    /// attempt begins.
    CleanUp(StageIx, Box<dyn Any + Send>),
    /// It has to end like this. The end is not recorded yet.
    Stop(EndReason),
    /// Its rollback was under way, and this many undos have run.
    RollBack(EndReason, usize),
}
