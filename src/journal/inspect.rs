//! A journal's file, for people and their tools: what is in it, and what a person decides about the
//! tasks that wait for one.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::de::DeserializeOwned;

use super::{
    Durability, JournalError,
    live::{Mark, Status},
    note::wall_clock,
    rows::{self, BlockRow, Corrupt, StageRow, TaskRow, UndoRow},
    sqlite::{FORMAT, Sqlite},
    store::{Op, Store, StoreError, TaskRead},
    unusable,
};
use crate::task::{End, Outcome, StageIx, StageName, State, TaskId};

/// A journal's file, to look into it or to say what is to become of stuck tasks. The program
/// `batrun` (feature `cli`) is made of it.
///
/// ```no_run
/// use batrun::JournalFile;
///
/// # fn main() -> Result<(), batrun::JournalError> {
/// JournalFile::look("orders.journal")?.tasks(|task| match task {
///     Ok(task) if task.stuck.is_some() => println!("task {} waits for somebody", task.id),
///     Ok(_) => {}
///     Err(corrupt) => eprintln!("{corrupt}"),
/// })
/// # }
/// ```
pub struct JournalFile {
    store: Sqlite,
    path: PathBuf,
    pipeline: Option<String>,
    stages: Vec<StageRow>,
    outcomes: u64,
    corrupt: Vec<Corrupt>,
}

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
pub struct JournalValue(Vec<u8>);

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

/// Why nothing was done about a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStuck {
    /// The journal has no such task: it never was, or has left.
    #[error("there is no task {0} that waits or is under way")]
    Unknown(TaskId),
    /// It goes on by itself.
    #[error("task {0} is not stuck")]
    Live(TaskId),
    /// Its key was given to another task meanwhile, so it can only be resolved.
    #[error("the key of task {task} is that of task {other} by now")]
    KeyTaken {
        /// The task.
        task: TaskId,
        /// The one that has the key.
        other: TaskId,
    },
}

/// How many blocks of outcomes are read at once.
const BLOCKS: usize = 64;

impl JournalFile {
    /// Opens a journal to look at it, also while a pipeline runs on it: what it shows is the journal
    /// of this moment. The journal's log can't be cut as long as this is open.
    ///
    /// # Errors
    /// [`JournalError`] where there is none, or it is none of this format.
    pub fn look(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        Self::of(Sqlite::look(path)?, path)
    }

    /// Opens a journal to decide about its stuck tasks. Nobody else has it meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Held`] while a pipeline runs on it, others as [`look`](Self::look) and
    /// [`check`](Self::check).
    pub fn edit(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        // Opening to write would make one.
        Sqlite::look(path)?;
        Self::of(Sqlite::open(path, Durability::Power)?, path)
    }

    fn of(store: Sqlite, path: &Path) -> Result<Self, JournalError> {
        let failed = |error| unusable(path, error);
        let (words, mut corrupt) = store.words().map_err(failed)?;
        let (stages, ill) = store.stages().map_err(failed)?;
        corrupt.extend(ill);
        let (outcomes, _) = store.outcomes().map_err(failed)?;
        let pipeline = words.into_iter().find(|(name, _)| name == "pipeline");
        Ok(JournalFile {
            store,
            path: path.to_owned(),
            pipeline: pipeline.map(|(_, pipeline)| pipeline),
            stages,
            outcomes,
            corrupt,
        })
    }

    /// Reads the whole file to see whether it is sound. [`edit`](Self::edit) and the start of a
    /// pipeline do that anyway. Rows have checksums besides, which are looked at whenever they are
    /// read.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub fn check(&self) -> Result<(), JournalError> {
        self.store.check(&self.path)
    }

    /// The name of the pipeline whose journal it is; `None` before its first start.
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// The version of the tables.
    pub fn format(&self) -> i32 {
        FORMAT
    }

    /// The stages, by their numbers.
    pub fn stages(&self) -> Vec<JournalStage> {
        let stage = |row: &StageRow| JournalStage {
            number: row.number,
            name: row.name.as_str().into(),
            version: row.version,
        };
        self.stages.iter().map(stage).collect()
    }

    /// How many outcomes are kept.
    pub fn outcomes_kept(&self) -> u64 {
        self.outcomes
    }

    /// What of the words about the journal itself is corrupt: a pipeline would refuse it.
    pub fn corrupt(&self) -> Vec<JournalError> {
        let shown = |corrupt: &Corrupt| self.ill(corrupt.clone());
        self.corrupt.iter().map(shown).collect()
    }

    /// Calls this with each task, in the order of their numbers. A row that is not what was written
    /// is told of as an error that names it, and the others follow; a pipeline would refuse the
    /// journal.
    ///
    /// # Errors
    /// Where the file can't be read any further.
    pub fn tasks(
        &self,
        mut each: impl FnMut(Result<JournalTask, JournalError>),
    ) -> Result<(), JournalError> {
        let now = wall_clock();
        let read = self.store.read_tasks(None, &mut |read| {
            each(
                read.and_then(|read| self.task_of(read, now))
                    .map_err(|corrupt| self.ill(corrupt)),
            )
        });
        read.map_err(|error| unusable(&self.path, error))
    }

    /// The task with this number, if it is in the journal. What has ended is among the
    /// [outcomes](Self::outcomes).
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] where its rows are not what was written.
    pub fn task(&self, id: TaskId) -> Result<Option<JournalTask>, JournalError> {
        let now = wall_clock();
        let task = self.read_one(id)?;
        task.map(|read| self.task_of(read, now))
            .transpose()
            .map_err(|corrupt| self.ill(corrupt))
    }

    /// Calls this with each outcome that is kept, in the order in which they were written. A row
    /// that is not what was written is told of as an error that names it, and the others follow.
    ///
    /// # Errors
    /// Where the file can't be read any further.
    pub fn outcomes(
        &self,
        mut each: impl FnMut(Result<JournalOutcome, JournalError>),
    ) -> Result<(), JournalError> {
        self.blocks(|row| {
            let block = match row.block() {
                Ok(block) => block,
                Err(corrupt) => {
                    each(Err(self.ill(corrupt)));
                    return Ok(());
                }
            };
            let at = UNIX_EPOCH + Duration::from_millis(row.at);
            let done = block
                .done
                .into_iter()
                .map(|task| Outcome::done(TaskId(task)));
            for outcome in done.chain(block.rest) {
                let of_it = |(_, task): &&(Box<str>, u64)| *task == outcome.task.0;
                let key = block.keys.iter().find(of_it).map(|(key, _)| &**key);
                let output = match key {
                    Some(key) if outcome.is_done() => self.output_of(key, outcome.task),
                    _ => Ok(None),
                };
                each(output.map(|output| JournalOutcome {
                    outcome,
                    key: key.map(str::to_owned),
                    at,
                    output,
                }));
            }
            Ok(())
        })
    }

    /// A person has dealt with these stuck tasks: they leave the journal, and their outcomes stay.
    ///
    /// # Errors
    /// [`JournalError::NotStuck`] names those that can't be resolved; nothing is changed then.
    pub fn resolve(&mut self, ids: &[TaskId]) -> Result<(), JournalError> {
        let mut ops = Vec::new();
        for (id, (_, _, undos)) in self.stuck(ids)? {
            let undos = !undos.is_empty();
            ops.push(Op::Gone { task: id.0, undos });
        }
        self.commit(&ops)
    }

    /// These stuck tasks are tried again when the pipeline starts the next time: the undos that are
    /// left get their cancels once more. One that was set aside is as it was before, and goes on if
    /// it fits the pipeline then; its deadline has not stood still. Their outcomes are forgotten,
    /// since they get new ones.
    ///
    /// # Errors
    /// [`JournalError::NotStuck`] names those that can't be tried again; nothing is changed then.
    pub fn retry(&mut self, ids: &[TaskId]) -> Result<(), JournalError> {
        let stuck = self.stuck(ids)?;
        self.keys_are_free(&stuck)?;
        let mut ops = Vec::new();
        for (id, (row, _, undos)) in stuck {
            let mut live = row.live().map_err(|corrupt| self.ill(corrupt))?;
            live.more.stuck = None;
            live.more.quarantined = false;
            let row = TaskRow::of(id.0, &live).map_err(|why| self.unwritable(why))?;
            ops.push(Op::State(row));
            for (row, _) in undos {
                let before = row.mark().map_err(|corrupt| self.ill(corrupt))?;
                let mut mark = before.clone();
                if let Status::Registered | Status::Failed(..) = mark.status {
                    mark.status = Status::Registered;
                    mark.interrupted = 0;
                    mark.running = false;
                }
                if mark != before {
                    let row = UndoRow::of(id.0, row.undo, &mark);
                    ops.push(Op::UndoState(row.map_err(|why| self.unwritable(why))?));
                }
            }
        }
        self.blocks(|row| {
            let mut block = row.block().map_err(|corrupt| self.ill(corrupt))?;
            let before = block.rest.len();
            block.rest.retain(|outcome| !ids.contains(&outcome.task));
            if block.rest.len() == before {
                return Ok(());
            }
            let again = |(_, task): &mut (Box<str>, u64)| ids.contains(&TaskId(*task));
            let keys = block.keys.extract_if(.., again).collect();
            let (number, at) = (row.number, row.at);
            ops.push(Op::Forget {
                block: number,
                keys,
            });
            if !block.rest.is_empty() || !block.done.is_empty() {
                let row = BlockRow::new(number, at, &block);
                ops.push(Op::Block(row.map_err(|why| self.unwritable(why))?));
            }
            Ok(())
        })?;
        self.commit(&ops)
    }

    /// The rows of these tasks, if each of them is stuck.
    fn stuck(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskRead)>, JournalError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let (mut stuck, mut unfit) = (Vec::new(), Vec::new());
        for id in ids {
            match self.read_one(id)? {
                None => unfit.push(NotStuck::Unknown(id)),
                // Whatever it says, its checksum has to agree.
                Some(read) => match read.0.clone().live() {
                    Err(corrupt) => return Err(self.ill(corrupt)),
                    Ok(live) if live.is_stuck() => stuck.push((id, read)),
                    Ok(_) => unfit.push(NotStuck::Live(id)),
                },
            }
        }
        self.refuse(unfit)?;
        Ok(stuck)
    }

    /// Whether no other task has the key of one of these by now.
    fn keys_are_free(&self, stuck: &[(TaskId, TaskRead)]) -> Result<(), JournalError> {
        let key_of = |read: &TaskRead| read.0.key.clone();
        let mut owners: Vec<(Box<str>, TaskId)> = Vec::new();
        let mut ill = None;
        self.store
            .read_tasks(None, &mut |read| match read {
                Ok((row, ..)) if !row.stuck => {
                    owners.extend(row.key.map(|key| (key, TaskId(row.id))));
                }
                Ok(_) => {}
                Err(corrupt) => drop(ill.get_or_insert(corrupt)),
            })
            .map_err(|error| unusable(&self.path, error))?;
        if let Some(corrupt) = ill {
            return Err(self.ill(corrupt));
        }
        let mut unfit = Vec::new();
        for (task, read) in stuck {
            let Some(key) = key_of(read) else { continue };
            let live = owners.iter().find(|(taken, _)| *taken == key);
            let kept = self
                .store
                .kept_for(&key)
                .map_err(|error| unusable(&self.path, error))?;
            let other = live
                .map(|(_, other)| *other)
                .or(kept.map(|row| TaskId(row.task)));
            match other {
                Some(other) if other != *task => {
                    unfit.push(NotStuck::KeyTaken { task: *task, other })
                }
                _ => owners.push((key, *task)),
            }
        }
        self.refuse(unfit)
    }

    fn refuse(&self, tasks: Vec<NotStuck>) -> Result<(), JournalError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        Err(JournalError::NotStuck { path, tasks })
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        let failed = |error| unusable(&self.path, error);
        if self.store.is_look() {
            let error = "it was opened to look at it only".to_owned();
            return Err(failed(StoreError::Failed(error)));
        }
        self.store.commit(ops).map_err(failed)?;
        (self.outcomes, _) = self.store.outcomes().map_err(failed)?;
        Ok(())
    }

    fn read_one(&self, id: TaskId) -> Result<Option<TaskRead>, JournalError> {
        let mut task = Ok(None);
        self.store
            .read_tasks(Some(id.0), &mut |read| match (read, &mut task) {
                (Ok(read), Ok(task)) => *task = Some(read),
                (Err(corrupt), task @ Ok(_)) => *task = Err(corrupt),
                (_, Err(_)) => {}
            })
            .map_err(|error| unusable(&self.path, error))?;
        task.map_err(|corrupt| self.ill(corrupt))
    }

    fn task_of(&self, (row, context, undos): TaskRead, now: u64) -> Result<JournalTask, Corrupt> {
        let id = row.id;
        let live = row.live()?;
        let context = JournalValue(context.context_of(id)?);
        let mut shown = Vec::with_capacity(undos.len());
        for (number, (row, value)) in undos.into_iter().enumerate() {
            if row.undo as usize != number {
                let what = format_args!("undo {number} of task {id}");
                return Err(Corrupt::new(what, "it is missing"));
            }
            let mark = row.mark()?;
            shown.push(self.undo_of(mark, JournalValue(value.undo_of(id, row.undo)?)));
        }
        let stage = live.stage().map(|stage| self.name(stage));
        let more = live.more;
        let passed = Duration::from_millis(now.saturating_sub(more.seen));
        let left = more.left.map(Duration::from_nanos);
        Ok(JournalTask {
            id: TaskId(id),
            key: more.key.map(Into::into),
            state: live.state,
            stage,
            attempt: more.attempt,
            interrupted: more.interrupted,
            left: left.map(|left| left.saturating_sub(passed)),
            end: more.end.map(|end| *end.0),
            stuck: more.stuck.map(|outcome| *outcome.0),
            quarantined: more.quarantined,
            undos: shown,
            context,
        })
    }

    fn undo_of(&self, mark: Mark, value: JournalValue) -> JournalUndo {
        JournalUndo {
            stage: self.name(mark.stage),
            attempt: mark.attempt,
            tries: mark.tries,
            running: mark.running,
            status: match mark.status {
                Status::Registered => JournalUndoStatus::Registered,
                Status::Withdrawn => JournalUndoStatus::Withdrawn,
                Status::Cancelled => JournalUndoStatus::Cancelled,
                Status::Failed(_, error) => JournalUndoStatus::Failed(error),
            },
            value,
        }
    }

    /// A stage whose row is corrupt has no other name than its number.
    fn name(&self, stage: StageIx) -> StageName {
        let row = self.stages.iter().find(|row| row.number == stage);
        row.map_or_else(
            || format!("stage {stage}").into(),
            |row| row.name.as_str().into(),
        )
    }

    fn output_of(&self, key: &str, task: TaskId) -> Result<Option<JournalValue>, JournalError> {
        let kept = self
            .store
            .kept_for(key)
            .map_err(|error| unusable(&self.path, error))?;
        let Some(row) = kept.filter(|row| row.task == task.0) else {
            return Ok(None);
        };
        row.outcome().map_err(|corrupt| self.ill(corrupt))?;
        Ok(row.output.map(JournalValue))
    }

    fn blocks(
        &self,
        mut each: impl FnMut(BlockRow) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut after = 0;
        loop {
            let blocks = self.store.blocks_after(after, BLOCKS);
            let blocks = blocks.map_err(|error| unusable(&self.path, error))?;
            let Some(last) = blocks.last() else {
                return Ok(());
            };
            after = last.number;
            blocks.into_iter().try_for_each(&mut each)?;
        }
    }

    fn ill(&self, corrupt: Corrupt) -> JournalError {
        unusable(&self.path, corrupt.into())
    }

    fn unwritable(&self, why: String) -> JournalError {
        unusable(&self.path, StoreError::Failed(why))
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        let clean = !self.store.is_look();
        self.store.close(clean);
    }
}

impl fmt::Debug for JournalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalFile")
            .field("path", &self.path)
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}
