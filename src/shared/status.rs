//! The place where the task with a key is.

use super::Shared;
use crate::task::{StageProgress, State, StopCause, TaskRef, TaskStatus};

impl Shared {
    /// At once, from memory.
    pub(crate) fn status(&self, key: &str) -> TaskStatus {
        if let Some(task) = self.keyed.find(key) {
            return self.status_of(&task);
        }
        if let Some(task) = self.table.stuck_with_key(key) {
            return TaskStatus::Stuck { task };
        }
        #[cfg(feature = "journal")]
        if let Some(journal) = &self.journal
            && let Some((task, end)) = journal.ended_with_key(key)
        {
            return TaskStatus::Ended { task, end };
        }
        TaskStatus::Unknown
    }

    fn status_of(&self, task: &TaskRef) -> TaskStatus {
        let (attempt, state, id) = (task.attempt(), task.state(), task.id());
        let stage = |stage| self.stage_name(stage).clone();
        match state {
            State::Queued(at) => TaskStatus::Queued {
                task: id,
                stage: stage(at),
                attempt,
            },
            State::Running(at) => TaskStatus::Running {
                task: id,
                stage: stage(at),
                attempt,
                progress: task.progress().map(|progress| StageProgress {
                    fraction: progress.fraction,
                    text: progress.text,
                }),
            },
            State::Cleaning(at) => TaskStatus::CleaningUp {
                task: id,
                stage: stage(at),
                attempt,
            },
            State::Stopping(_) | State::RollingBack => TaskStatus::RollingBack { task: id },
            // Until that is recorded it is as it was before: after a kill it would be so again.
            State::Ended if task.is_rolled_back() => TaskStatus::RollingBack { task: id },
            State::Ended => TaskStatus::Running {
                task: id,
                stage: stage(self.stages.len() as u16 - 1),
                attempt,
                progress: None,
            },
        }
    }

    /// Cancels the task in flight that has this key.
    pub(crate) fn cancel_key(&self, key: &str) -> bool {
        self.keyed
            .find(key)
            .is_some_and(|task| self.cancel(&task, StopCause::User))
    }
}
