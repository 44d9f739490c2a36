//! What a person decides about stuck tasks: all of it is written, or none.

use super::JournalFile;
use crate::{
    journal::{
        JournalError,
        live::Status,
        rows::{BlockRow, TaskRow, UndoRow},
        store::{Op, Store, StoreError, TaskRead},
        unusable,
    },
    task::TaskId,
};

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

impl JournalFile {
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

    fn unwritable(&self, why: String) -> JournalError {
        unusable(&self.path, StoreError::Failed(why))
    }
}
