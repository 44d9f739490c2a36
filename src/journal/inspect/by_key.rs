//! Decisions of a person about tasks, by their keys. All keys of one call are decided about, or none.

use super::file::JournalFile;
use crate::{
    journal::{
        entry::Entry,
        error::{JournalError, WrongKey},
        rows::{blob::Blob, keyed_outcome::KeyedOutcomeRow, task::TaskRow, undo::UndoRow},
        store::{RowOp, Store, TaskRows},
        task_state::TaskState,
        time::wall_clock,
    },
    task::{End, EndKind, StageIx, StopCause, TaskId},
};

/// The task with a key.
enum Found {
    Live(Box<TaskRows>),
    Kept(KeyedOutcomeRow),
}

impl JournalFile {
    /// Gives the keys of these tasks, which have ended, back: the next task with such a key is a new one.
    ///
    /// Their outcomes stay, their outputs and kept undos go.
    ///
    /// # Errors
    /// [`JournalError::Key`] names the first key that can't be given back; nothing is changed then.
    /// [`JournalError::Io`] if the journal was opened with [`look`](Self::look).
    pub fn forget(&mut self, keys: &[&str]) -> Result<(), JournalError> {
        self.decide(keys, |_, key, found, ops| match found {
            Found::Live(rows) => Err(in_the_way(&rows.0)),
            Found::Kept(kept) => {
                ops.push(RowOp::DeleteKey {
                    key: key.into(),
                    task: kept.task,
                });
                Ok(Ok(()))
            }
        })
    }

    /// Cancels these tasks, which have no outcome yet: they are rolled back at the pipeline's next start.
    ///
    /// # Errors
    /// [`JournalError::Key`] names the first key whose task can't be cancelled; nothing is changed then.
    /// [`JournalError::Io`] if the journal was opened with [`look`](Self::look).
    pub fn cancel(&mut self, keys: &[&str]) -> Result<(), JournalError> {
        self.decide(keys, |file, _, found, ops| {
            let rows = match found {
                Found::Live(rows) => rows,
                Found::Kept(kept) => return Err(ended(&kept)),
            };
            let (row, ..) = *rows;
            let id = TaskId(row.id);
            if row.stuck {
                return Err(WrongKey::Stuck(id));
            }
            match file.cancelled(row) {
                Ok(None) => Err(WrongKey::RollingBack(id)),
                Ok(Some(op)) => {
                    ops.push(op);
                    Ok(Ok(()))
                }
                Err(error) => Ok(Err(error)),
            }
        })
    }

    /// Has these tasks, which are done, taken back at the pipeline's next start: their undos run.
    ///
    /// # Errors
    /// [`JournalError::Key`] names the first key whose task can't be taken back; nothing is changed then.
    /// [`JournalError::Io`] if the journal was opened with [`look`](Self::look).
    pub fn take_back(&mut self, keys: &[&str]) -> Result<(), JournalError> {
        self.decide(keys, |file, _, found, ops| {
            let kept = match found {
                Found::Live(rows) => return Err(in_the_way(&rows.0)),
                Found::Kept(kept) => kept,
            };
            match (ended(&kept), kept.undos) {
                (WrongKey::Ended(_, EndKind::Done), Some(_)) => {}
                (WrongKey::Ended(task, EndKind::Done), None) => {
                    return Err(WrongKey::NotKept(task));
                }
                (other, _) => return Err(other),
            }
            Ok(file.taken_back(kept).map(|op| ops.extend(op)))
        })
    }

    /// Looks up each key, and commits all that `decide` adds; nothing if it refuses one.
    fn decide(
        &mut self,
        keys: &[&str],
        decide: impl Fn(
            &mut Self,
            &str,
            Found,
            &mut Vec<RowOp>,
        ) -> Result<Result<(), JournalError>, WrongKey>,
    ) -> Result<(), JournalError> {
        let mut ops = Vec::new();
        for key in keys {
            let found = match self.find(key)? {
                Some(found) => decide(self, key, found, &mut ops),
                None => Err(WrongKey::Unknown),
            };
            found.unwrap_or_else(|why| {
                Err(JournalError::Key {
                    path: self.path.clone(),
                    key: (*key).into(),
                    why,
                })
            })?;
        }
        self.commit(&ops)
    }

    fn find(&mut self, key: &str) -> Result<Option<Found>, JournalError> {
        let (mut live, mut first_corrupt) = (None, None);
        self.store
            .read_tasks(None, &mut |rows| match rows {
                Ok(rows) if rows.0.key.as_deref() == Some(key) => live = Some(Box::new(rows)),
                Ok(_) => {}
                Err(corrupt) => drop(first_corrupt.get_or_insert(corrupt)),
            })
            .map_err(|error| self.store_error(error))?;
        if let Some(corrupt) = first_corrupt {
            return Err(self.corrupt_error(corrupt));
        }
        if let Some(rows) = live {
            return Ok(Some(Found::Live(rows)));
        }
        let kept = self.store.read_keyed_outcome(key);
        let kept = kept.map_err(|error| self.store_error(error))?;
        if let Some(kept) = &kept {
            kept.verify()
                .map_err(|corrupt| self.corrupt_error(corrupt))?;
        }
        Ok(kept.map(Found::Kept))
    }

    /// The row of a task that is rolled back from now on; `None` if it is already.
    fn cancelled(&self, row: TaskRow) -> Result<Option<RowOp>, JournalError> {
        let id = row.id;
        let mut task = row
            .into_state()
            .map_err(|corrupt| self.corrupt_error(corrupt))?;
        let Some(stage) = task.stage() else {
            return Ok(None);
        };
        let end = End::Cancelled {
            stage: self.stage_name(stage),
            cause: StopCause::User,
        };
        let entry = Entry::RollbackStarted { end: Box::new(end) };
        // The number of the last stage matters only to a task that is finished.
        task.apply(entry, StageIx::MAX, wall_clock())
            .map_err(|bad| self.encode_error(bad.to_string()))?;
        let row = TaskRow::of(id, &task).map_err(|why| self.encode_error(why))?;
        Ok(Some(RowOp::UpdateTask(row, None)))
    }

    /// The changes that make a done task one that is rolled back from now on.
    fn taken_back(&mut self, kept: KeyedOutcomeRow) -> Result<[RowOp; 2], JournalError> {
        let outcome = kept
            .outcome()
            .map_err(|corrupt| self.corrupt_error(corrupt))?;
        let task = kept.task;
        let undos = self.store.kept_undos(task);
        let undos = undos.map_err(|error| self.store_error(error))?;
        let states: Result<Vec<_>, _> = undos.iter().map(|(row, _)| UndoRow::state(row)).collect();
        let states = states.map_err(|corrupt| self.corrupt_error(corrupt))?;
        let state = TaskState::taken_back(kept.key, outcome.label, kept.digest, states);
        let row = TaskRow::of(task, &state).map_err(|why| self.encode_error(why))?;
        Ok([
            RowOp::InsertTask(row, Blob::context(task, Vec::new())),
            RowOp::ReviveUndos { task },
        ])
    }
}

/// A task that has no outcome yet, or is stuck.
fn in_the_way(row: &TaskRow) -> WrongKey {
    let id = TaskId(row.id);
    match row.stuck {
        true => WrongKey::Stuck(id),
        false => WrongKey::InFlight(id),
    }
}

fn ended(kept: &KeyedOutcomeRow) -> WrongKey {
    // A row whose checksum is right has an end that is known.
    let end = kept.end().unwrap_or(EndKind::Failed);
    WrongKey::Ended(TaskId(kept.task), end)
}
