//! A pipeline's questions and decisions about tasks of other processes.

use super::{
    by_key::Found,
    command::{Answer, Decision},
    ledger::{JournalLedger, closed},
};
use crate::{
    ledger::LedgerError,
    task::{Stuck, TaskId, TaskStatus},
};

impl JournalLedger {
    /// Has the process that has this task decide about it; `None` if there is no such task.
    pub(crate) async fn tell(
        &self,
        task: TaskId,
        decision: Decision,
    ) -> Result<Option<Answer>, LedgerError> {
        self.writer
            .tell(task, decision)?
            .await
            .map_err(|_| closed())?
    }

    /// The stuck tasks of other processes.
    pub(crate) async fn stuck_elsewhere(&self) -> Result<Vec<Stuck>, LedgerError> {
        self.writer.stuck_elsewhere()?.await.map_err(|_| closed())?
    }

    /// The place of the task with this key; `None` if it is this process's.
    pub(crate) async fn status_elsewhere(
        &self,
        key: &str,
    ) -> Result<Option<TaskStatus>, LedgerError> {
        let status = self.writer.status_elsewhere(key)?;
        status.await.map_err(|_| closed())?
    }
}

impl Found {
    /// The task that has no outcome yet, or is stuck.
    pub(crate) fn live_task(&self) -> Option<TaskId> {
        match self {
            Found::InFlight(task) | Found::BeingTakenBack(task) | Found::Stuck(task) => Some(*task),
            Found::Unknown | Found::Ended { .. } => None,
        }
    }
}
