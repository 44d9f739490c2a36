//! Replies to requests that ask a question, sent once the answer is written.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    journal::{key_index::KeyChange, undo_state::UndoState},
    ledger::{LedgerError, Why},
    panic_guard,
    task::{EndKind, Outcome, TaskId},
};

/// An outcome that is kept, with the last stage's encoded output.
pub(in crate::journal) type StoredOutcome = (Outcome, Option<Vec<u8>>);

pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, LedgerError>>;

/// The task that was found by a key.
pub(in crate::journal) enum FoundByKey {
    Unknown,
    InFlight(TaskId),
    BeingTakenBack(TaskId),
    Stuck(TaskId),
    Ended(KeptEnd),
}

/// All that is kept of a task that has ended.
pub(in crate::journal) struct KeptEnd {
    pub(in crate::journal) task: TaskId,
    /// In milliseconds since 1970.
    pub(in crate::journal) at: u64,
    pub(in crate::journal) end: EndKind,
    pub(in crate::journal) label: Option<Arc<str>>,
    /// The digest of its context.
    pub(in crate::journal) digest: Option<u64>,
    /// Its undos, with their encoded values; `None` if it can't be taken back.
    pub(in crate::journal) undos: Option<Vec<(UndoState, Vec<u8>)>>,
    /// The stages in them have other numbers in the store.
    pub(in crate::journal) renumbered: bool,
}

/// A task is taken back from now on; or what was found instead.
pub(super) type TakenBack = Result<(), FoundByKey>;

/// The replies that depend on one commit.
#[derive(Default)]
pub(super) struct Replies {
    /// For tasks with a key: accepted, or refused because another task has it.
    pub(super) accepted: Vec<(ReplyTo<()>, TaskId, Result<(), LedgerError>)>,
    /// The tasks of another process are this one's.
    pub(super) adopted: Vec<ReplyTo<()>>,
    pub(super) found: Vec<(ReplyTo<FoundByKey>, FoundByKey)>,
    /// The task is taken back from now on; or what was found instead.
    pub(super) taken_back: Vec<(ReplyTo<TakenBack>, TaskId, TakenBack)>,
    /// For the index of keys.
    pub(super) keys: Vec<KeyChange>,
    pub(super) outcomes: Vec<(ReplyTo<Option<StoredOutcome>>, Option<StoredOutcome>)>,
}

impl Replies {
    /// Sends them: the commit is written.
    pub(super) fn send(self) {
        for (to, _, result) in self.accepted {
            reply(to, result);
        }
        for to in self.adopted {
            reply(to, Ok(()));
        }
        for (to, outcome) in self.outcomes {
            reply(to, Ok(outcome));
        }
        // The one who begins to take a task back learns of that before anybody who finds it so.
        for (to, _, result) in self.taken_back {
            reply(to, Ok(result));
        }
        for (to, found) in self.found {
            reply(to, Ok(found));
        }
    }

    /// Refuses a task that was left out of the commit: another one has its key.
    pub(super) fn lose(
        &mut self,
        task: TaskId,
        error: &LedgerError,
        found: impl Fn() -> FoundByKey,
    ) {
        for (_, of, result) in &mut self.accepted {
            let lost = match result {
                Ok(()) => *of == task,
                // They were told that this one has their key.
                Err(told) => {
                    matches!(told.why(), Why::Known(owner) | Why::Conflict(owner) if owner == task)
                }
            };
            if lost {
                *result = Err(error.clone());
            }
        }
        for (_, of, result) in &mut self.taken_back {
            if *of == task && result.is_ok() {
                *result = Err(found());
            }
        }
    }

    /// Sends this error instead: the commit has failed.
    pub(super) fn send_error(self, error: &LedgerError) {
        for (to, ..) in self.accepted {
            reply(to, Err(error.clone()));
        }
        for to in self.adopted {
            reply(to, Err(error.clone()));
        }
        for (to, _) in self.outcomes {
            reply(to, Err(error.clone()));
        }
        for (to, _) in self.found {
            reply(to, Err(error.clone()));
        }
        for (to, ..) in self.taken_back {
            reply(to, Err(error.clone()));
        }
    }
}

/// Sends a reply. That runs the waker of the one who waits, which may be the user's and panic.
pub(super) fn reply<T>(to: ReplyTo<T>, result: Result<T, LedgerError>) {
    panic_guard::catch_quietly(|| drop(to.send(result)));
}
