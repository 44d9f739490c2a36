//! Decisions of a person about stuck tasks. A decision is written as a whole, or not at all.

use super::file::JournalFile;
use crate::{
    journal::{
        error::{JournalError, NotStuck},
        rows::{outcome_block::OutcomeBlockRow, task::TaskRow, undo::UndoRow},
        store::{RowOp, Store, StoreError, TaskRows},
    },
    task::TaskId,
};

impl JournalFile {
    /// Records that a person has dealt with these stuck tasks: they leave the journal, and their
    /// outcomes stay.
    ///
    /// # Errors
    /// [`JournalError::NotStuck`] names all tasks that are not stuck; nothing is changed then.
    /// [`JournalError::Io`] if the journal was opened with [`look`](Self::look).
    pub fn resolve(&mut self, ids: &[TaskId]) -> Result<(), JournalError> {
        let mut ops = Vec::new();
        for (id, (_, _, undos)) in self.stuck_tasks(ids)? {
            let has_undos = !undos.is_empty();
            ops.push(RowOp::DeleteTask {
                task: id.0,
                has_undos,
            });
        }
        self.commit(&ops)
    }

    /// Has these stuck tasks tried again at the pipeline's next start.
    ///
    /// The undos that are left run once more. A task that was set aside goes on from where it was,
    /// if it fits the pipeline then; its deadline has not stood still. The outcomes of these tasks
    /// are deleted, since they get new ones.
    ///
    /// # Errors
    /// [`JournalError::NotStuck`] names all tasks that can't be tried again; nothing is changed
    /// then. [`JournalError::Io`] if the journal was opened with [`look`](Self::look).
    pub fn retry(&mut self, ids: &[TaskId]) -> Result<(), JournalError> {
        let stuck = self.stuck_tasks(ids)?;
        self.refuse_damage()?;
        let mut ops = Vec::new();
        for (id, rows) in stuck {
            self.unstick(id, rows, &mut ops)?;
        }
        self.delete_outcomes(ids, &mut ops)?;
        self.commit(&ops)
    }

    /// Makes a task one that goes on at the next start.
    fn unstick(
        &self,
        id: TaskId,
        (row, _, undos): TaskRows,
        ops: &mut Vec<RowOp>,
    ) -> Result<(), JournalError> {
        let corrupt = |corrupt| self.corrupt_error(corrupt);
        let mut task = row.into_state().map_err(corrupt)?;
        for (row, _) in &undos {
            task.undos.push(row.state().map_err(corrupt)?);
        }
        let before = task.undos.clone();
        task.unstick();
        let row = TaskRow::of(id.0, &task).map_err(|why| self.encode_error(why))?;
        ops.push(RowOp::UpdateTask(row, None));
        for (number, (before, undo)) in before.iter().zip(&task.undos).enumerate() {
            if undo != before {
                let row = UndoRow::of(id.0, number as u32, undo);
                ops.push(RowOp::UpdateUndo(
                    row.map_err(|why| self.encode_error(why))?,
                ));
            }
        }
        Ok(())
    }

    /// Takes the outcomes of these tasks out of their blocks.
    fn delete_outcomes(&self, ids: &[TaskId], ops: &mut Vec<RowOp>) -> Result<(), JournalError> {
        self.outcome_blocks(|row| {
            let mut block = row.block().map_err(|corrupt| self.corrupt_error(corrupt))?;
            let before = block.rest.len();
            block.rest.retain(|outcome| !ids.contains(&outcome.task));
            if block.rest.len() == before {
                return Ok(());
            }
            let of_these = |(_, task): &mut (Box<str>, u64)| ids.contains(&TaskId(*task));
            let keys = block.keys.extract_if(.., of_these).collect();
            let (number, at) = (row.number, row.at);
            ops.push(RowOp::DeleteOutcomes {
                block: number,
                at,
                keys,
            });
            if !block.rest.is_empty() || !block.done.is_empty() {
                let row = OutcomeBlockRow::new(number, at, &block);
                let row = row.map_err(|why| self.encode_error(why))?;
                ops.push(RowOp::PutOutcomes(row));
            }
            Ok(())
        })
    }

    /// The rows of these tasks. Fails unless all of them are stuck.
    fn stuck_tasks(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskRows)>, JournalError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let (mut stuck, mut refused) = (Vec::new(), Vec::new());
        for id in ids {
            match self.rows_of(id)? {
                None => refused.push(NotStuck::Unknown(id)),
                // The column `stuck` would say it too, but only this verifies the checksum.
                Some(rows) => match rows.0.clone().into_state() {
                    Err(corrupt) => return Err(self.corrupt_error(corrupt)),
                    Ok(task) if task.is_stuck() => stuck.push((id, rows)),
                    Ok(_) => refused.push(NotStuck::Live(id)),
                },
            }
        }
        self.refuse(refused)?;
        Ok(stuck)
    }

    /// Fails if any task is damaged: no pipeline could start on the journal.
    fn refuse_damage(&self) -> Result<(), JournalError> {
        let mut first_corrupt = None;
        self.store
            .read_tasks(None, &mut |rows| {
                if let Err(corrupt) = rows {
                    first_corrupt.get_or_insert(corrupt);
                }
            })
            .map_err(|error| self.store_error(error))?;
        first_corrupt.map_or(Ok(()), |corrupt| Err(self.corrupt_error(corrupt)))
    }

    fn refuse(&self, tasks: Vec<NotStuck>) -> Result<(), JournalError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        Err(JournalError::NotStuck { path, tasks })
    }

    pub(super) fn commit(&mut self, ops: &[RowOp]) -> Result<(), JournalError> {
        if self.store.is_read_only() {
            let why = "the journal was opened for reading only".to_owned();
            return Err(self.store_error(StoreError::Failed(why)));
        }
        let committed = self.store.commit(ops);
        committed.map_err(|error| self.store_error(error))?;
        let outcomes = self.store.count_outcomes();
        self.outcomes = outcomes.map_err(|error| self.store_error(error))?;
        Ok(())
    }

    pub(super) fn encode_error(&self, why: String) -> JournalError {
        self.store_error(StoreError::Failed(why))
    }
}
