//! Tasks of other processes: decisions about them, and questions.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    mem,
};

use super::{
    ask::{Ask, Told},
    commit_builder::CommitBuilder,
    replies::{FoundByKey, reply},
    store_slot::StoreSlot,
};
use crate::{
    journal::{
        rows::{stage::StageRow, task::TaskRow},
        store::StoreError,
        task_state::TaskState,
    },
    ledger::LedgerError,
    logging,
    task::{Rollback, StageIx, StageName, State, Stuck, TaskId, TaskStatus},
};

impl CommitBuilder {
    /// An error of a question is the answer to it, and no failure of the writer.
    pub(super) fn take_in_ask(&mut self, ask: Ask, store: &mut StoreSlot) -> Result<(), String> {
        match ask {
            Ask::Look(looking) => {
                self.look_for_answers(store)?;
                self.look_elsewhere(store)?;
                drop(looking);
            }
            Ask::Tell(task, decision, to) => {
                let number = RandomState::new().build_hasher().finish() as i64;
                match store.get()?.tell(number, task.0, decision) {
                    Ok(true) => self.told.push(Told { number, to }),
                    Ok(false) => reply(to, Ok(None)),
                    Err(error) => reply(to, Err(LedgerError::new(error))),
                }
            }
            Ask::Stuck(to) => {
                let rows = store.get()?.stuck_elsewhere();
                reply(to, rows.map(all_listed).map_err(LedgerError::new));
            }
            Ask::Status(key, to) => {
                let status = self.status(&key, store)?;
                reply(to, status.map_err(LedgerError::new));
            }
        }
        Ok(())
    }

    /// Gives the answers of other processes to those who wait for them.
    fn look_for_answers(&mut self, store: &mut StoreSlot) -> Result<(), String> {
        self.told.retain(|told| !told.to.is_closed());
        if self.told.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = self.told.iter().map(|told| told.number).collect();
        let answers = store.get()?.answers(&numbers);
        let mut answers = answers.map_err(|error| error.to_string())?;
        for told in mem::take(&mut self.told) {
            let answer = answers
                .iter()
                .position(|(number, _)| *number == told.number);
            match answer {
                Some(at) => reply(told.to, Ok(Some(answers.swap_remove(at).1))),
                None => self.told.push(told),
            }
        }
        Ok(())
    }

    /// The place of the task with this key; `None` if it is this process's. The inner error is the answer.
    fn status(
        &mut self,
        key: &str,
        slot: &mut StoreSlot,
    ) -> Result<Result<Option<TaskStatus>, String>, String> {
        if self.tasks.with_key(key).is_some() {
            return Ok(Ok(None));
        }
        slot.get()?;
        // It may end between two looks.
        for _ in 0..3 {
            let found = match self.find(key, slot) {
                Ok(found) => found,
                Err(why) => return Ok(Err(why)),
            };
            let task = match found {
                FoundByKey::Unknown => return Ok(Ok(Some(TaskStatus::Unknown))),
                FoundByKey::Stuck(task) => return Ok(Ok(Some(TaskStatus::Stuck { task }))),
                FoundByKey::BeingTakenBack(task) => {
                    return Ok(Ok(Some(TaskStatus::RollingBack { task })));
                }
                FoundByKey::Ended(kept) => {
                    let (task, end) = (kept.task, kept.end);
                    return Ok(Ok(Some(TaskStatus::Ended { task, end })));
                }
                FoundByKey::InFlight(task) => task,
            };
            match row_status(slot, task)? {
                Ok(None) => {}
                other => return Ok(other),
            }
        }
        // Its row is gone, and not by batrun.
        Ok(Ok(Some(TaskStatus::Unknown)))
    }
}

/// The place of a task by its row, if there is one.
fn row_status(
    slot: &mut StoreSlot,
    task: TaskId,
) -> Result<Result<Option<TaskStatus>, String>, String> {
    let store = slot.get()?;
    let mut read = || -> Result<Option<TaskStatus>, StoreError> {
        let Some((row, revision)) = store.task_row(task.0)? else {
            return Ok(None);
        };
        let stages = store.stages_of(revision)?;
        Ok(Some(status_of(task, &row.into_state()?, &stages)))
    };
    Ok(read().map_err(|error| error.to_string()))
}

/// Those of these tasks that can be read: one that is damaged doesn't hide the others.
fn all_listed(rows: Vec<TaskRow>) -> Vec<Stuck> {
    let mut stuck = Vec::with_capacity(rows.len());
    for row in rows {
        match row.into_state() {
            Ok(state) => stuck.extend(listed(state)),
            Err(corrupt) => logging::error!("a stuck task can't be listed: {corrupt}"),
        }
    }
    stuck
}

/// A stuck task as it is listed.
fn listed(state: TaskState) -> Option<Stuck> {
    match state.details.stuck?.0.rollback {
        Rollback::Stuck(stuck) => Some(stuck),
        _ => None,
    }
}

/// The place of a task by its row.
fn status_of(task: TaskId, state: &TaskState, stages: &[StageRow]) -> TaskStatus {
    let name = |stage: StageIx| -> StageName {
        let row = stages.iter().find(|row| row.number == stage);
        row.map_or("the first stage", |row| &row.name).into()
    };
    let attempt = state.details.attempt;
    match state.position {
        State::Queued(stage) => TaskStatus::Queued {
            task,
            stage: name(stage),
            attempt,
        },
        State::Running(stage) => TaskStatus::Running {
            task,
            stage: name(stage),
            attempt,
            progress: None,
        },
        State::Cleaning(stage) => TaskStatus::CleaningUp {
            task,
            stage: name(stage),
            attempt,
        },
        State::Stopping(_) | State::RollingBack | State::Ended => TaskStatus::RollingBack { task },
    }
}
