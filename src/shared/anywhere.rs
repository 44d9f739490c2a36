//! Decisions about tasks that may be those of other processes, with a journal in a database.

use std::{future::Future, sync::Arc};

use super::Shared;
use crate::{
    error::{AnywhereError, RetryError},
    journal::{Answer, Decision},
    ledger::LedgerError,
    task::{Refusal, StopCause, Stuck, TaskId, TaskStatus},
};

impl Shared {
    /// Decides about a task of this process; `None` if it has none with this number, at least not yet.
    pub(crate) fn decide(&self, task: TaskId, decision: Decision) -> Option<Answer> {
        let is_stuck = self.table.stuck().iter().any(|stuck| stuck.task == task);
        if !is_stuck {
            // One that is on its way to another process is decided about there.
            let found = self.table.find(task).filter(|task| !task.is_released())?;
            return Some(match decision {
                Decision::Cancel if self.cancel(&found, StopCause::User) => Answer::Done,
                Decision::Cancel => Answer::Ended,
                Decision::Retry | Decision::Resolve => {
                    Answer::Refused(RetryError::NotStuck(task).to_string())
                }
            });
        }
        Some(match decision {
            // It has its outcome.
            Decision::Cancel => Answer::Ended,
            Decision::Retry => match self.retry(task) {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Refused(why.to_string()),
            },
            Decision::Resolve if self.resolve(task) => Answer::Done,
            Decision::Resolve => Answer::Refused("it can't be recorded".to_owned()),
        })
    }

    /// Decides about a task wherever it is.
    pub(crate) fn decide_anywhere(
        self: &Arc<Self>,
        task: TaskId,
        decision: Decision,
    ) -> impl Future<Output = Result<Answer, AnywhereError>> + Send + use<> {
        let shared = self.clone();
        async move {
            if let Some(answer) = shared.decide(task, decision) {
                return Ok(answer);
            }
            let Some(journal) = &shared.journal else {
                return Err(AnywhereError::NoSuchTask(task));
            };
            let answer = journal.tell(task, decision).await;
            answer
                .map_err(|error| shared.failed(&error))?
                .ok_or(AnywhereError::NoSuchTask(task))
        }
    }

    /// The number of the task in flight, or stuck, that has this key, wherever it is.
    pub(crate) fn find_anywhere(
        self: &Arc<Self>,
        key: &str,
    ) -> impl Future<Output = Result<Option<TaskId>, AnywhereError>> + Send + use<> {
        let (shared, key) = (self.clone(), Box::<str>::from(key));
        async move {
            if let Some(task) = shared.keyed.find(&key) {
                return Ok(Some(task.id()));
            }
            let Some(journal) = &shared.journal else {
                return Ok(None);
            };
            let found = journal.find(&key).await;
            Ok(found.map_err(|error| shared.failed(&error))?.live_task())
        }
    }

    /// The stuck tasks of all processes.
    pub(crate) fn stuck_anywhere(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Vec<Stuck>, AnywhereError>> + Send + use<> {
        let shared = self.clone();
        async move {
            let mut all = match &shared.journal {
                None => Vec::new(),
                Some(journal) => {
                    let stuck = journal.stuck_elsewhere().await;
                    stuck.map_err(|error| shared.failed(&error))?
                }
            };
            // A task may just be coming from another process.
            for own in shared.table.stuck() {
                all.retain(|stuck| stuck.task != own.task);
                all.push(own);
            }
            all.sort_by_key(|stuck| stuck.task);
            Ok(all)
        }
    }

    /// The place where the task with this key is, in whichever process.
    pub(crate) fn status_anywhere(
        self: &Arc<Self>,
        key: &str,
    ) -> impl Future<Output = Result<TaskStatus, AnywhereError>> + Send + use<> {
        let (shared, key) = (self.clone(), Box::<str>::from(key));
        async move {
            loop {
                let own = shared.status(&key);
                let Some(journal) = &shared.journal else {
                    return Ok(own);
                };
                // An end may have been forgotten elsewhere.
                if !matches!(own, TaskStatus::Unknown | TaskStatus::Ended { .. }) {
                    return Ok(own);
                }
                let status = journal.status_elsewhere(&key).await;
                match status.map_err(|error| shared.failed(&error))? {
                    Some(status) => return Ok(status),
                    // It is just coming here, or going.
                    None => tokio::task::yield_now().await,
                }
            }
        }
    }

    /// The answer to a question that failed. The pipeline goes on: a question is no record.
    fn failed(&self, error: &LedgerError) -> AnywhereError {
        match self.table.refused() {
            Some(Refusal::Closed) => AnywhereError::Closed,
            Some(Refusal::Suspended) => AnywhereError::Suspended,
            _ => AnywhereError::Failed(error.to_string()),
        }
    }
}
