//! The seam between the journal and its storage: a SQLite file, a PostgreSQL database, or memory that fails
//! on demand. All of them pass the same tests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    command::{Answer, Command, Decision},
    corrupt::Corrupt,
    lease::Lease,
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow,
        stage::StageRow, task::TaskRow, undo::UndoRow,
    },
};

use crate::task::StageIx;

/// One change of the rows.
#[derive(Clone, Debug)]
pub(super) enum RowOp {
    /// Takes a key for a task that was accepted, or is taken back, and whose row follows. In a store of
    /// several processes another task may have it by now: then this one is left out, see [`Lost`].
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    TakeKey {
        key: Box<str>,
        task: u64,
        /// The digest of its context.
        digest: Option<u64>,
        take: Take,
    },
    /// Adds a task that has no row, with its context.
    InsertTask(TaskRow, Blob),
    /// Changes a task's row, and its context if there is a new one. Its key stays.
    UpdateTask(TaskRow, Option<Blob>),
    /// Leaves a task to whichever process takes it.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Release {
        task: u64,
    },
    /// Deletes a task, and its undos if it has any.
    DeleteTask {
        task: u64,
        has_undos: bool,
    },
    /// Puts an undo with its value.
    PutUndo(UndoRow, Blob),
    /// Changes an undo's row, and leaves its value.
    UpdateUndo(UndoRow),
    PutOutcomes(OutcomeBlockRow),
    /// Puts the outcome of a task with a key, in place of an older one with that key.
    PutKeyedOutcome(KeyedOutcomeRow),
    /// Deletes a block of outcomes that was written at this time, with the rows of the keys in it and the
    /// undos that are kept with them. A key that has another outcome by now stays.
    DeleteOutcomes {
        block: u64,
        at: u64,
        keys: Vec<(Box<str>, u64)>,
    },
    /// Deletes the row of a key, with the undos that are kept with it, and leaves the outcome.
    DeleteKey {
        key: Box<str>,
        task: u64,
    },
    /// Moves the undos of a task that is done to those that are kept.
    KeepUndos {
        task: u64,
    },
    /// Moves them back: the task is taken back.
    ReviveUndos {
        task: u64,
    },
    /// Changes the row of an undo that is kept, and leaves its value.
    UpdateKeptUndo(UndoRow),
    /// Replaces all stages.
    ReplaceStages(Vec<StageRow>),
    /// Sets a fact about the journal itself, see [`rows::meta`](super::rows::meta).
    SetMeta(&'static str, String),
}

/// The right by which a task takes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Nobody has it.
    New,
    /// It is done with this key, and is taken back.
    Back,
}

/// A task that was left out of a commit, because another one has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) task: u64,
    /// The task that has it; `None` if the key is free by now, and was to be taken back.
    pub(super) owner: Option<u64>,
    /// The digest of that one's context.
    pub(super) digest: Option<u64>,
    /// The digest of its own context, once the writer has looked for it.
    pub(super) own_digest: Option<u64>,
}

/// The process that has a store begins.
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
pub(super) struct Begin<'a> {
    pub(super) pipeline: &'a str,
    /// The stages with their versions, in their order. A process without stages only submits.
    pub(super) stages: &'a [StageRow],
    /// The key of a task that has failed is free.
    pub(super) reuses_keys: bool,
}

/// The numbers and tasks with which it begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    /// The numbers of its tasks and outcomes are higher than this one, up to the next multiple of it. Default:
    /// they follow on those in the store.
    pub(super) after: Option<u64>,
    /// Others are at work, and have their tasks: this one has none yet.
    pub(super) joined: bool,
}

/// Takes over the tasks of processes that have gone, beside the store.
pub(super) trait Claimer: Send {
    /// The time between two looks.
    fn pause(&self) -> Duration;

    /// The rows of tasks which are this process's own from now on: at most as many as it has room for.
    fn claim(&mut self, load: Load) -> Result<Vec<(TaskRows, Owners)>, StoreError>;

    /// The last claim's tasks are in good hands. Before that the next claim gives them again: they are nobody
    /// else's.
    fn settle(&mut self);

    /// The stages of a revision, for which the numbers in its rows stand.
    fn stages_of(&mut self, revision: i32) -> Result<Vec<StageRow>, StoreError>;

    /// The number of processes that have room for tasks of this one, and for how many in all. `busy` ones with
    /// tasks of their own that wait count only where that is said.
    fn idle(&mut self, busy: bool) -> Result<(u64, u64), StoreError>;

    /// As many tasks as this, or more, are nobody's and wait for a process.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    fn is_waiting(&mut self, most: u64) -> Result<bool, StoreError>;

    /// The decisions about tasks of this process that wait for it.
    fn told(&mut self) -> Result<Vec<Command>, StoreError>;

    /// Writes down what came of a decision; `false` if it is too early for that, or too late.
    fn answer(&mut self, command: Command, answer: &Answer) -> Result<bool, StoreError>;

    /// The number of tasks that no process that runs can go on with, as far as a thousand.
    fn stranded(&mut self) -> Result<u64, StoreError>;
}

/// Makes a store that has not begun yet.
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
pub(super) type Reopen = Arc<dyn Fn() -> Result<Box<dyn Store>, StoreError> + Send + Sync>;

/// The load of a process, by which tasks are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// The number of tasks that may come.
    pub(crate) room: usize,
    /// The number of its own tasks that wait for a worker, and have not begun.
    pub(crate) queued: usize,
}

/// A task of another process.
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    InFlight(u64),
    Stuck(u64),
}

/// The processes that a task was of before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// The last of them was killed, or it crashed.
    pub(super) killed: bool,
    pub(super) count: u32,
    /// The stages of the last one that wrote the task: the numbers in its rows are those.
    pub(super) revision: i32,
    /// Nobody had it: it was only submitted, or left by a process that had not begun it.
    pub(super) unowned: bool,
}

/// Everything in a store but its tasks and outcomes.
#[derive(Default)]
pub(super) struct Summary {
    /// The facts about the journal itself, see [`rows::meta`](super::rows::meta).
    pub(super) meta: Vec<(String, String)>,
    pub(super) stages: Vec<StageRow>,
    /// The number of outcomes.
    pub(super) outcomes: u64,
    /// The highest number of a block of outcomes.
    pub(super) last_block: u64,
    /// The highest number of a task with an outcome.
    pub(super) last_task: u64,
}

/// The reason why a store could not read or write.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// There is something else in its place.
    #[cfg(feature = "postgres")]
    #[error("not a journal")]
    NotAJournal,
    /// Another version of batrun has made it.
    #[cfg(feature = "postgres")]
    #[error("format {found}")]
    Format { found: i32, known: i32 },
}

/// The rows of a task and its undos, with their values. Their checksums are not verified yet.
pub(super) type TaskRows = (TaskRow, Blob, Vec<(UndoRow, Blob)>);

/// The history of a store at the time it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Every write succeeded.
    Succeeded,
    /// A write failed. Nothing may be written any more, not even SQLite's last checkpoint: nobody
    /// knows how much of the failed write is on the disk.
    Failed,
}

/// The rows of one journal. Only one store has a journal open for writing.
pub(super) trait Store: Send {
    /// Takes the journal for the pipeline with this name. Comes first, and once.
    fn begin(&mut self, _begin: Begin<'_>) -> Result<Begun, StoreError> {
        Ok(Begun::default())
    }

    /// Makes another store on the same journal, for one process more, if there may be several.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    fn reopen(&self) -> Option<Reopen> {
        None
    }

    /// The facts about the journal itself, see [`rows::meta`](super::rows::meta).
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    fn facts(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(self.summary()?.meta)
    }

    /// Takes over the tasks of other processes that have gone, if the store has several.
    fn claimer(&mut self) -> Result<Option<Box<dyn Claimer>>, StoreError> {
        Ok(None)
    }

    /// The number of outcomes that are kept, if other processes may have changed it.
    fn count_outcomes(&mut self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// The task with this key that isn't over, as another process has it.
    fn task_elsewhere(&mut self, _key: &str) -> Result<Option<Elsewhere>, StoreError> {
        Ok(None)
    }

    /// The processes that this task was of before; `None` if it is known for all together how the last one ended.
    fn owners_of(&self, _task: u64) -> Option<Owners> {
        None
    }

    /// Leaves a decision with this random number to the process that has this task, or will have it; `false` if there
    /// is no such task.
    fn tell(&mut self, _number: i64, _task: u64, _decision: Decision) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Those of these keys whose tasks are in flight, and not stuck.
    fn in_flight(&mut self, _keys: &[Box<str>]) -> Result<Vec<Box<str>>, StoreError> {
        Ok(Vec::new())
    }

    /// The answers to these decisions, as far as there are any.
    fn answers(&mut self, _numbers: &[i64]) -> Result<Vec<(i64, Answer)>, StoreError> {
        Ok(Vec::new())
    }

    /// The rows of all stuck tasks of other processes.
    fn stuck_elsewhere(&mut self) -> Result<Vec<TaskRow>, StoreError> {
        Ok(Vec::new())
    }

    /// The row of this task, whoever has it, with the number of its stages.
    fn task_row(&mut self, _task: u64) -> Result<Option<(TaskRow, i32)>, StoreError> {
        Ok(None)
    }

    /// The stages of a revision, for which the numbers in its rows stand. One process alone has a single one.
    fn stages_of(&mut self, _revision: i32) -> Result<Vec<StageRow>, StoreError> {
        Ok(Vec::new())
    }

    /// This process's own numbers of the stages in the undos that are kept of a task, as far as it has those
    /// stages; `None` if they are the same.
    fn numbers_of_kept(
        &mut self,
        _key: &str,
        _task: u64,
    ) -> Result<Option<HashMap<StageIx, StageIx>>, StoreError> {
        Ok(None)
    }

    /// The oldest blocks of outcomes, at most `limit`.
    fn oldest_outcomes(&mut self, limit: usize) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        self.outcome_blocks(0, limit)
    }

    /// The lease of this process, if several use the store at once. Then only a commit says who has a key.
    fn lease(&self) -> Option<Arc<Lease>> {
        None
    }

    /// Reads the summary, and verifies every outcome on the way.
    fn summary(&mut self) -> Result<Summary, StoreError>;

    /// Reads every task, in the order of their numbers.
    fn tasks(&mut self, each: &mut dyn FnMut(TaskRows)) -> Result<(), StoreError>;

    /// Makes all of these changes or none.
    ///
    /// Once this has returned, the changes survive whatever the store's durability promises. After
    /// an error nobody knows whether they are there, and nothing may be committed any more. Returns the
    /// tasks that were left out.
    fn commit(&mut self, ops: &[RowOp]) -> Result<Vec<Lost>, StoreError>;

    /// Reads every outcome that has a key, and verifies it.
    fn keyed_outcomes(&mut self, each: &mut dyn FnMut(KeyedOutcomeRow)) -> Result<(), StoreError>;

    /// The undos that are kept of a task that is done, with their values, in their order. Their checksums
    /// are not verified yet.
    fn kept_undos(&mut self, task: u64) -> Result<Vec<(UndoRow, Blob)>, StoreError>;

    /// Reads every undo that is kept, without its value.
    fn all_kept_undos(&mut self, each: &mut dyn FnMut(UndoRow)) -> Result<(), StoreError>;

    /// The outcome of the task that had this key.
    fn keyed_outcome(&mut self, key: &str) -> Result<Option<KeyedOutcomeRow>, StoreError>;

    /// At most `limit` blocks of outcomes that follow the block `after`, in the order of their
    /// numbers.
    fn outcome_blocks(
        &mut self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError>;

    /// Lets go of the storage, so that another process may open it. Nothing follows.
    fn close(&mut self, writes: Writes);
}
