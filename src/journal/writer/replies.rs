//! Replies to requests that ask a question, sent once the answer is written.

use tokio::sync::oneshot;

use crate::{ledger::LedgerError, panic_guard, task::Outcome};

/// An outcome that is kept, with the last stage's encoded output.
pub(in crate::journal) type StoredOutcome = (Outcome, Option<Vec<u8>>);

pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, LedgerError>>;

/// The replies that depend on one commit.
#[derive(Default)]
pub(super) struct Replies {
    /// For tasks with a key: accepted, or refused because another task has it.
    pub(super) accepted: Vec<(ReplyTo<()>, Result<(), LedgerError>)>,
    pub(super) outcomes: Vec<(ReplyTo<Option<StoredOutcome>>, Option<StoredOutcome>)>,
}

impl Replies {
    /// Sends them: the commit is written.
    pub(super) fn send(self) {
        for (to, result) in self.accepted {
            reply(to, result);
        }
        for (to, outcome) in self.outcomes {
            reply(to, Ok(outcome));
        }
    }

    /// Sends this error instead: the commit has failed.
    pub(super) fn send_error(self, error: &LedgerError) {
        for (to, _) in self.accepted {
            reply(to, Err(error.clone()));
        }
        for (to, _) in self.outcomes {
            reply(to, Err(error.clone()));
        }
    }
}

/// Sends a reply. That runs the waker of the one who waits, which may be the user's and panic.
pub(super) fn reply<T>(to: ReplyTo<T>, result: Result<T, LedgerError>) {
    panic_guard::catch_quietly(|| drop(to.send(result)));
}
