//! Another try of what is left of a stuck task.

use std::sync::Arc;

use super::{Shared, messages::ToReporter};
use crate::{
    error::RetryError,
    ledger::Change,
    logging, panic_guard,
    task::{NotReopened, Refusal, TaskId, TaskRef},
};

impl Shared {
    /// Has the undos that are left of a stuck task run again.
    pub(crate) fn retry(&self, id: TaskId) -> Result<(), RetryError> {
        let (now, cycles) = (self.clock.now(), self.clock.cycles());
        let enter = |key, task: &TaskRef| self.keyed.insert(key, task);
        let reopened = self.table.reopen_stuck(id, now, cycles, enter);
        let reopened = reopened.map_err(|why| match why {
            NotReopened::NotStuck => RetryError::NotStuck(id),
            NotReopened::Refused(Refusal::Suspended) => RetryError::Suspended(id),
            NotReopened::Refused(_) => RetryError::Closed(id),
            NotReopened::Unable(why) => RetryError::Unable(id, why.into()),
        })?;
        logging::info!("task {id}: its undos that are left are tried again");
        let recorded = self.record(id, Change::Retried);
        self.tell_reporter(ToReporter::Reopened(reopened, recorded));
        Ok(())
    }

    /// The same for all stuck tasks that are chosen.
    pub(crate) fn retry_all(
        self: &Arc<Self>,
        chosen: Vec<TaskId>,
    ) -> Vec<Result<TaskId, RetryError>> {
        chosen
            .into_iter()
            .map(|id| self.retry(id).map(|()| id))
            .collect()
    }

    /// Takes a task off the list of stuck ones; `false` if it isn't there, or that can't be recorded.
    pub(crate) fn resolve(&self, task: TaskId) -> bool {
        let Some(stuck) = self.table.resolve(task) else {
            return false;
        };
        if let Ok(Err(error)) = self.record(task, Change::Resolved).ready() {
            self.table.keep_stuck(stuck);
            self.suspend(&error);
            return false;
        }
        panic_guard::drop_quietly(stuck);
        true
    }
}
