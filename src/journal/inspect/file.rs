//! A journal's file: opening it, and reading what is in it.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use super::{
    shown,
    view::{JournalOutcome, JournalTask, JournalValue},
};
use crate::{
    journal::{
        corrupt::Corrupt,
        durability::Durability,
        error::JournalError,
        rows::{meta::PIPELINE, outcome_block::OutcomeBlockRow, stage::StageRow},
        sqlite::{database::Sqlite, schema::FORMAT},
        store::{Store, StoreError, TaskRows, Writes},
        time::wall_clock,
    },
    ledger::cluster::JournalStage,
    task::{StageIx, StageName, TaskId},
};

/// The file of a journal, to look into it or to decide about stuck tasks.
///
/// ```no_run
/// use batrun::journal::JournalFile;
///
/// # fn main() -> Result<(), batrun::journal::JournalError> {
/// JournalFile::look("orders.journal")?.tasks(|task| match task {
///     Ok(task) if task.stuck.is_some() => println!("task {} waits for somebody", task.id),
///     Ok(_) => {}
///     Err(corrupt) => eprintln!("{corrupt}"),
/// })
/// # }
/// ```
///
/// All calls block on the disk. The program `batrun` (feature `cli`) is made of them.
pub struct JournalFile {
    pub(super) store: Sqlite,
    pub(super) path: PathBuf,
    pipeline: Option<String>,
    stages: Vec<StageRow>,
    pub(super) outcomes: u64,
    corrupt: Vec<Corrupt>,
}

/// The number of outcome blocks that are read at once.
const BLOCKS_AT_ONCE: usize = 64;

impl JournalFile {
    /// Opens a journal for reading, also while a pipeline runs on it. Everything is shown as it is
    /// at this moment.
    ///
    /// Don't keep it open for long: the journal's log grows until it is dropped.
    ///
    /// # Errors
    /// [`JournalError::Io`] if there is no such file or it can't be read;
    /// [`NotAJournal`](JournalError::NotAJournal), [`Format`](JournalError::Format) or
    /// [`Corrupt`](JournalError::Corrupt) if it is no journal that can be read.
    pub fn look(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        Self::read_summary(Sqlite::open_read_only(path)?, path)
    }

    /// Opens a journal to decide about its stuck tasks. No pipeline can start on it meanwhile.
    ///
    /// Blocks while it [checks](Self::check) the whole file.
    ///
    /// # Errors
    /// [`JournalError::Held`] while a pipeline runs on it, and the errors of [`look`](Self::look).
    pub fn edit(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        // Opening for writing would create a journal that is not there.
        Sqlite::open_read_only(path)?;
        Self::read_summary(Sqlite::open(path, Durability::Power)?, path)
    }

    fn read_summary(store: Sqlite, path: &Path) -> Result<Self, JournalError> {
        let failed = |error| JournalError::store(path, error);
        let (meta, mut corrupt) = store.meta().map_err(failed)?;
        let (stages, corrupt_stages) = store.stages().map_err(failed)?;
        corrupt.extend(corrupt_stages);
        let outcomes = store.count_outcomes().map_err(failed)?;
        let pipeline = meta.into_iter().find(|(name, _)| name == PIPELINE);
        Ok(JournalFile {
            store,
            path: path.to_owned(),
            pipeline: pipeline.map(|(_, pipeline)| pipeline),
            stages,
            outcomes,
            corrupt,
        })
    }

    /// Reads the whole file to see whether it is sound.
    ///
    /// [`edit`](Self::edit) and the start of a pipeline do this anyway. The checksum of a row is
    /// verified besides whenever that row is read.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] with the first damage.
    pub fn check(&self) -> Result<(), JournalError> {
        self.store.check(&self.path)
    }

    /// The name of the pipeline whose journal it is; `None` before that pipeline's first start.
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// The version of the file's format.
    pub fn format(&self) -> i32 {
        FORMAT
    }

    /// The stages, in the order of their numbers.
    pub fn stages(&self) -> Vec<JournalStage> {
        shown::stages(&self.stages)
    }

    /// The number of outcomes that are kept.
    pub fn outcomes_kept(&self) -> u64 {
        self.outcomes
    }

    /// The damage to stages and to facts about the journal itself. A pipeline would refuse such a
    /// journal.
    pub fn corrupt(&self) -> Vec<JournalError> {
        let error = |corrupt: &Corrupt| self.corrupt_error(corrupt.clone());
        self.corrupt.iter().map(error).collect()
    }

    /// Calls `each` with every task, in the order of their numbers.
    ///
    /// A damaged task is an error that names it, and the others follow. A pipeline would refuse
    /// such a journal.
    ///
    /// # Errors
    /// If the file can't be read any further.
    pub fn tasks(
        &self,
        mut each: impl FnMut(Result<JournalTask, JournalError>),
    ) -> Result<(), JournalError> {
        let now = wall_clock();
        let read = self.store.read_tasks(None, &mut |rows| {
            let task = rows.and_then(|rows| self.task_of(rows, now));
            each(task.map_err(|corrupt| self.corrupt_error(corrupt)));
        });
        read.map_err(|error| self.store_error(error))
    }

    /// The task with this number, if it is in the journal. A task that has ended is among the
    /// [outcomes](Self::outcomes).
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if it is damaged.
    pub fn task(&self, id: TaskId) -> Result<Option<JournalTask>, JournalError> {
        let now = wall_clock();
        let rows = self.rows_of(id)?;
        rows.map(|rows| self.task_of(rows, now))
            .transpose()
            .map_err(|corrupt| self.corrupt_error(corrupt))
    }

    /// Calls `each` with every outcome that is kept, in the order in which they were written.
    ///
    /// A damaged block of outcomes is an error that names it, and the others follow.
    ///
    /// # Errors
    /// If the file can't be read any further.
    pub fn outcomes(
        &self,
        mut each: impl FnMut(Result<JournalOutcome, JournalError>),
    ) -> Result<(), JournalError> {
        self.outcome_blocks(|row| {
            let block = match row.block() {
                Ok(block) => block,
                Err(corrupt) => {
                    each(Err(self.corrupt_error(corrupt)));
                    return Ok(());
                }
            };
            let at = UNIX_EPOCH + Duration::from_millis(row.at);
            for (outcome, key) in block.into_outcomes() {
                let output = match &key {
                    Some(key) if outcome.is_done() => self.output_of(key, outcome.task),
                    _ => Ok(None),
                };
                each(output.map(|output| JournalOutcome {
                    outcome,
                    key,
                    at,
                    output,
                }));
            }
            Ok(())
        })
    }

    pub(super) fn rows_of(&self, id: TaskId) -> Result<Option<TaskRows>, JournalError> {
        let mut found = Ok(None);
        self.store
            .read_tasks(Some(id.0), &mut |rows| match (rows, &mut found) {
                (Ok(rows), Ok(found)) => *found = Some(rows),
                (Err(corrupt), found @ Ok(_)) => *found = Err(corrupt),
                (_, Err(_)) => {}
            })
            .map_err(|error| self.store_error(error))?;
        found.map_err(|corrupt| self.corrupt_error(corrupt))
    }

    fn task_of(&self, rows: TaskRows, now: u64) -> Result<JournalTask, Corrupt> {
        shown::task(rows, now, &|stage| self.stage_name(stage))
    }

    /// The name of a stage, or its number if its row is damaged.
    pub(super) fn stage_name(&self, stage: StageIx) -> StageName {
        shown::stage_name(&self.stages, stage)
    }

    fn output_of(&self, key: &str, task: TaskId) -> Result<Option<JournalValue>, JournalError> {
        let row = self.store.read_keyed_outcome(key);
        let row = row.map_err(|error| self.store_error(error))?;
        // The key may be another task's by now.
        let Some(row) = row.filter(|row| row.task == task.0) else {
            return Ok(None);
        };
        row.outcome()
            .map_err(|corrupt| self.corrupt_error(corrupt))?;
        Ok(row.output.map(JournalValue))
    }

    pub(super) fn outcome_blocks(
        &self,
        mut each: impl FnMut(OutcomeBlockRow) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut after = 0;
        loop {
            let blocks = self.store.read_outcome_blocks(after, BLOCKS_AT_ONCE);
            let blocks = blocks.map_err(|error| self.store_error(error))?;
            let Some(last) = blocks.last() else {
                return Ok(());
            };
            after = last.number;
            blocks.into_iter().try_for_each(&mut each)?;
        }
    }

    pub(super) fn corrupt_error(&self, corrupt: Corrupt) -> JournalError {
        self.store_error(corrupt.into())
    }

    pub(super) fn store_error(&self, error: StoreError) -> JournalError {
        JournalError::store(&self.path, error)
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        // A reader must not copy the log into the file, as a clean close does.
        let writes = match self.store.is_read_only() {
            true => Writes::Failed,
            false => Writes::Succeeded,
        };
        self.store.close(writes);
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
