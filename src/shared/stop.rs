//! Ending a task from outside: at its deadline, by a cancel, or at a shutdown.
//!
//! A stop only decides that the task is to end, and tells its holder. Once the holder has let go of it,
//! or the pool of its stage knows that nobody will start it any more, its rollback begins (G5).

use super::{
    Shared,
    messages::{ToPool, ToReporter},
};
use crate::{
    logging,
    task::{StageIx, StopCause, StopReason, StoppedAt, TaskRef},
};

/// Queued tasks that were stopped, by stage, for their pools to be told of in one go.
pub(crate) struct StopNotices(Vec<Vec<TaskRef>>);

impl StopNotices {
    pub(crate) fn new(shared: &Shared) -> Self {
        StopNotices(shared.stages.iter().map(|_| Vec::new()).collect())
    }

    pub(crate) fn send(self, shared: &Shared) {
        for (stage, tasks) in self.0.into_iter().enumerate() {
            if !tasks.is_empty() {
                shared.tell_pool(stage as u16, ToPool::StopQueued(tasks));
            }
        }
    }
}

impl Shared {
    /// Cancels a task; `false` when it had ended, or was already about to.
    pub(crate) fn cancel(&self, task: &TaskRef, cause: StopCause) -> bool {
        let mut notices = StopNotices::new(self);
        let took = self.stop(task, StopReason::Cancel(cause), &mut notices);
        notices.send(self);
        took
    }

    /// Leaves these tasks to another process, as far as they have not begun; one that is just beginning is
    /// interrupted.
    #[cfg(feature = "journal")]
    pub(crate) fn release(&self, tasks: &[TaskRef]) {
        let mut notices = StopNotices::new(self);
        for task in tasks {
            self.stop(task, StopReason::Release, &mut notices);
        }
        notices.send(self);
    }

    /// Ends a task whose deadline has passed, unless it is ending.
    pub(crate) fn time_out(&self, task: &TaskRef, notices: &mut StopNotices) {
        self.stop(task, StopReason::Late, notices);
    }

    /// Lets go of a task whose end was decided, for its holder: its rollback may begin (G5). Does nothing
    /// if that was done before.
    pub(crate) fn let_go(&self, task: &TaskRef, stage: StageIx) {
        if task.let_go(stage) {
            let (id, attempt) = (task.id(), task.attempt());
            let stage = self.stage_name(stage);
            logging::debug!("task {id} stage {stage} attempt {attempt}: stopped");
            self.tell_reporter(ToReporter::Stopped(task.clone()));
        }
    }

    fn stop(&self, task: &TaskRef, why: StopReason, notices: &mut StopNotices) -> bool {
        let Some(met) = task.stop(why) else {
            return false;
        };
        if logging::is_on(log::Level::Debug) {
            let stage = match met {
                StoppedAt::Queued(stage) | StoppedAt::Running(stage, _) => Some(stage),
                StoppedAt::Cleaning => None,
            };
            let stage = stage.map_or("(cleaning up)", |stage| &**self.stage_name(stage));
            let (id, attempt, state) = (task.id(), task.attempt(), task.state());
            let what = match why {
                StopReason::Late => "timed out",
                StopReason::Cancel(_) => "cancelled",
                #[cfg(feature = "journal")]
                StopReason::Release => "released",
            };
            logging::debug!("task {id} stage {stage} attempt {attempt}: {what}, {state:?}");
        }
        match met {
            StoppedAt::Queued(stage) => {
                notices.0[(stage as usize).min(self.stages.len() - 1)].push(task.clone());
            }
            StoppedAt::Running(stage, worker) => {
                self.tell_pool(stage, ToPool::StopRunning { worker });
            }
            StoppedAt::Cleaning => {
                self.tell_reporter(ToReporter::StoppedWhileCleaning(task.clone()));
            }
        }
        true
    }
}
