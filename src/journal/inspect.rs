//! A journal's file, for people and their tools: what is in it, and what a person decides about the
//! tasks that wait for one.

mod decide;
mod shown;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

pub use self::{
    decide::NotStuck,
    shown::{
        JournalOutcome, JournalStage, JournalTask, JournalUndo, JournalUndoStatus, JournalValue,
    },
};
use super::{
    Durability, JournalError,
    live::{Mark, Status},
    note::wall_clock,
    rows::{BlockRow, Corrupt, StageRow},
    sqlite::{FORMAT, Sqlite},
    store::{Store, TaskRead},
    unusable,
};
use crate::task::{Outcome, StageIx, StageName, TaskId};

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
