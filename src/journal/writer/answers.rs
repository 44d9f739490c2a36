//! Who is told what, once what it depends on is written.

use tokio::sync::oneshot;

use crate::{LedgerError, guard, task::Outcome};

/// An outcome that is kept, with the bytes of the last stage's output.
pub(in crate::journal) type Kept = (Outcome, Option<Vec<u8>>);

pub(super) type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What is answered once the batch is written.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) acks: Vec<(Answer<()>, Result<(), LedgerError>)>,
    pub(super) kept: Vec<(Answer<Option<Kept>>, Option<Kept>)>,
}

impl Answers {
    pub(super) fn give(self) {
        for (answer, result) in self.acks {
            tell(answer, result);
        }
        for (answer, kept) in self.kept {
            tell(answer, Ok(kept));
        }
    }

    pub(super) fn refuse(self, error: &LedgerError) {
        for (answer, _) in self.acks {
            tell(answer, Err(error.clone()));
        }
        for (answer, _) in self.kept {
            tell(answer, Err(error.clone()));
        }
    }
}

/// Answers, which wakes who waits: with a waker that may be the user's own.
pub(super) fn tell<T>(answer: Answer<T>, result: Result<T, LedgerError>) {
    guard::run(|| answer.send(result).ok()).ok();
}
