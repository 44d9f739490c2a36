//! Requests about tasks of other processes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::replies::{ReplyTo, reply};
use crate::{
    journal::command::{Answer, Decision},
    ledger::LedgerError,
    task::{Stuck, TaskId, TaskStatus},
};

/// A question about tasks of other processes, or a decision.
pub(super) enum Ask {
    /// Looks again for everything that somebody waits for.
    Look(Looking),
    /// Has another process decide. The reply comes once it has; `None` if there is no such task.
    Tell(TaskId, Decision, ReplyTo<Option<Answer>>),
    /// Lists those that are stuck.
    Stuck(ReplyTo<Vec<Stuck>>),
    /// Says where the task with this key is; `None` if it is this process's.
    Status(Box<str>, ReplyTo<Option<TaskStatus>>),
}

/// A look that is asked for: another one isn't as long as this is there.
pub(super) struct Looking(Arc<AtomicBool>);

impl Looking {
    /// `None` if one is asked for already.
    pub(super) fn new(asked: &Arc<AtomicBool>) -> Option<Self> {
        (!asked.swap(true, Ordering::SeqCst)).then(|| Looking(asked.clone()))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Ask {
    /// Answers with an error.
    pub(super) fn refuse(self, error: &LedgerError) {
        match self {
            Ask::Look(_) => {}
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
