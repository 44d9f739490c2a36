//! Requests about tasks of other processes.

use super::replies::{ReplyTo, reply};
use crate::{
    journal::command::{Answer, Decision},
    ledger::LedgerError,
    task::{Stuck, TaskId, TaskStatus},
};

/// A question about tasks of other processes, or a decision.
pub(super) enum Ask {
    /// Looks again for everything that somebody waits for.
    Look,
    /// Has another process decide. The reply comes once it has; `None` if there is no such task.
    Tell(TaskId, Decision, ReplyTo<Option<Answer>>),
    /// Lists those that are stuck.
    Stuck(ReplyTo<Vec<Stuck>>),
    /// Says where the task with this key is; `None` if it is this process's.
    Status(Box<str>, ReplyTo<Option<TaskStatus>>),
}

impl Ask {
    /// Answers with an error.
    pub(super) fn refuse(self, error: &LedgerError) {
        match self {
            Ask::Look => {}
            Ask::Tell(_, _, to) => reply(to, Err(error.clone())),
            Ask::Stuck(to) => reply(to, Err(error.clone())),
            Ask::Status(_, to) => reply(to, Err(error.clone())),
        }
    }
}

/// A decision that another process has not answered yet.
pub(super) struct Told {
    pub(super) number: i64,
    pub(super) to: ReplyTo<Option<Answer>>,
}
