//! Tasks of other processes: decisions about them, and questions.

use std::mem;

use super::{
    ask::{Ask, Told},
    commit_builder::CommitBuilder,
    replies::{FoundByKey, reply},
    store_slot::StoreSlot,
};
use crate::{
    journal::{rows::stage::StageRow, store::StoreError, task_state::TaskState},
    logging,
    task::{Rollback, StageIx, StageName, State, Stuck, TaskId, TaskStatus},
};

impl CommitBuilder {
    pub(super) fn take_in_ask(&mut self, ask: Ask, store: &mut StoreSlot) -> Result<(), String> {
        let failed = |error: StoreError| error.to_string();
        match ask {
            Ask::Look => {
                self.look_for_answers(store)?;
                self.look_elsewhere(store)?;
            }
            Ask::Tell(task, decision, to) => {
                let number = store.get()?.tell(task.0, decision).map_err(failed)?;
                match number {
                    Some(number) => self.told.push(Told { number, to }),
                    None => reply(to, Ok(None)),
                }
            }
            Ask::Stuck(to) => {
                let rows = store.get()?.stuck_elsewhere().map_err(failed)?;
                let mut stuck = Vec::with_capacity(rows.len());
                for row in rows {
                    // One that is damaged doesn't hide the others.
                    match row.into_state() {
                        Ok(state) => stuck.extend(listed(state)),
                        Err(corrupt) => logging::error!("a stuck task can't be listed: {corrupt}"),
                    }
                }
                reply(to, Ok(stuck));
            }
            Ask::Status(key, to) => {
                let status = self.status(&key, store)?;
                reply(to, Ok(status));
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

    /// The place of the task with this key; `None` if it is this process's.
    fn status(&mut self, key: &str, slot: &mut StoreSlot) -> Result<Option<TaskStatus>, String> {
        let failed = |error: StoreError| error.to_string();
        loop {
            if self.tasks.with_key(key).is_some() {
                return Ok(None);
            }
            let task = match self.find(key, slot)? {
                FoundByKey::Unknown => return Ok(Some(TaskStatus::Unknown)),
                FoundByKey::Stuck(task) => return Ok(Some(TaskStatus::Stuck { task })),
                FoundByKey::BeingTakenBack(task) => {
                    return Ok(Some(TaskStatus::RollingBack { task }));
                }
                FoundByKey::Ended(kept) => {
                    let (task, end) = (kept.task, kept.end);
                    return Ok(Some(TaskStatus::Ended { task, end }));
                }
                FoundByKey::InFlight(task) => task,
            };
            let store = slot.get()?;
            // It may have ended since then.
            let Some((row, revision)) = store.row_elsewhere(task.0).map_err(failed)? else {
                continue;
            };
            let stages = store.stages_of(revision).map_err(failed)?;
            let state = row.into_state().map_err(|corrupt| corrupt.to_string())?;
            return Ok(Some(status_of(task, &state, &stages)));
        }
    }
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
