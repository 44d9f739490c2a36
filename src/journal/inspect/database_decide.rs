//! Decisions of a person about tasks in a database. The nodes that have the tasks carry them out.

use std::time::Duration;

use super::{
    database::JournalDatabase,
    database_view::{JournalAnswer, JournalDecision},
};
use crate::{
    journal::{
        error::{JournalError, NotInFlight, NotStuck},
        postgres::decide::{Standing, Told},
        rows::task::STATE_NAMES,
    },
    task::TaskId,
};

impl JournalDatabase {
    /// Has these stuck tasks tried again, by the nodes that have them. Waits for their answers for this long at most.
    ///
    /// A decision stays written until a node has carried it out, also while none lives. A later one about the same task
    /// takes its place, unless a node has begun with it.
    ///
    /// # Errors
    /// [`JournalError::NotStuck`] names all tasks that aren't stuck, and nothing is changed then.
    /// [`JournalError::Io`] if the server doesn't answer, or the user may only look.
    pub fn retry(
        &mut self,
        ids: &[TaskId],
        wait: Duration,
    ) -> Result<Vec<JournalDecision>, JournalError> {
        self.about_stuck(ids, "retry", wait)
    }

    /// Records that a person has dealt with these stuck tasks: they leave the journal, and their outcomes stay. The
    /// nodes that have them do it; where no node that lives could, it is done here and now.
    ///
    /// # Errors
    /// As [`retry`](Self::retry), and [`JournalError::Corrupt`] if one of them is damaged.
    pub fn resolve(
        &mut self,
        ids: &[TaskId],
        wait: Duration,
    ) -> Result<Vec<JournalDecision>, JournalError> {
        self.about_stuck(ids, "resolve", wait)
    }

    /// Cancels these tasks, which have no outcome yet: they are rolled back by the nodes that have them. Waits as
    /// [`retry`](Self::retry) does.
    ///
    /// # Errors
    /// [`JournalError::NotInFlight`] names all tasks that can't be cancelled, and nothing is changed then.
    /// [`JournalError::Io`] if the server doesn't answer, or the user may only look.
    pub fn cancel(
        &mut self,
        ids: &[TaskId],
        wait: Duration,
    ) -> Result<Vec<JournalDecision>, JournalError> {
        let ids = sorted(ids);
        let path = self.path.clone();
        let told = self.snapshot.decide(&ids, "cancel", |found: &[Standing]| {
            let refused = ids.iter().filter_map(|id| {
                let task = TaskId(*id);
                match found.iter().find(|found| found.task == *id) {
                    None => Some(NotInFlight::Unknown(task)),
                    Some(found) if found.stuck => Some(NotInFlight::Stuck(task)),
                    Some(found) if found.state == STATE_NAMES[3] => {
                        Some(NotInFlight::RollingBack(task))
                    }
                    Some(_) => None,
                }
            });
            let tasks: Vec<_> = refused.collect();
            match tasks.is_empty() {
                true => Ok(()),
                false => Err(JournalError::NotInFlight {
                    path: path.clone(),
                    tasks,
                }),
            }
        });
        let told = told.map_err(|error| self.store_error(error))??;
        self.answers(told, wait)
    }

    fn about_stuck(
        &mut self,
        ids: &[TaskId],
        what: &'static str,
        wait: Duration,
    ) -> Result<Vec<JournalDecision>, JournalError> {
        let ids = sorted(ids);
        // A damaged row may say that it is stuck, and not be.
        for id in &ids {
            self.task(TaskId(*id))?;
        }
        let path = self.path.clone();
        let told = self.snapshot.decide(&ids, what, |found: &[Standing]| {
            let refused = ids.iter().filter_map(|id| {
                let task = TaskId(*id);
                match found.iter().find(|found| found.task == *id) {
                    None => Some(NotStuck::Unknown(task)),
                    Some(found) if !found.stuck => Some(NotStuck::Live(task)),
                    Some(_) => None,
                }
            });
            let tasks: Vec<_> = refused.collect();
            match tasks.is_empty() {
                true => Ok(()),
                false => Err(JournalError::NotStuck {
                    path: path.clone(),
                    tasks,
                }),
            }
        });
        let told = told.map_err(|error| self.store_error(error))??;
        self.answers(told, wait)
    }

    fn answers(
        &mut self,
        mut told: Vec<Told>,
        wait: Duration,
    ) -> Result<Vec<JournalDecision>, JournalError> {
        let waited = self.snapshot.wait_for_answers(&mut told, wait);
        waited.map_err(|error| self.store_error(error))?;
        let decision = |told: Told| JournalDecision {
            task: TaskId(told.task),
            answer: answer(told.answer.as_deref(), told.has_node),
        };
        Ok(told.into_iter().map(decision).collect())
    }
}

fn answer(answer: Option<&str>, has_node: bool) -> JournalAnswer {
    match answer {
        None if has_node => JournalAnswer::NoAnswerYet,
        None => JournalAnswer::NoNode,
        Some("cancelled") => JournalAnswer::Cancelled,
        Some("retried") => JournalAnswer::Retried,
        Some("resolved") => JournalAnswer::Resolved,
        Some("ended") => JournalAnswer::Ended,
        Some(other) => {
            let why = other.strip_prefix("refused: ").unwrap_or(other);
            JournalAnswer::Refused(why.to_owned())
        }
    }
}

fn sorted(ids: &[TaskId]) -> Vec<u64> {
    let mut ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
