//! A future of a user's ledger: a panic in it is a failed record.

use std::{
    fmt::Display,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::error::LedgerError;
use crate::{failure, panic_guard};

/// A future of a user's ledger.
pub(super) struct Guarded<T>(Option<Answer<T>>);

/// `Ok` from a ledger that has done what was asked.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send>>;

impl<T> Guarded<T> {
    pub(super) fn new(answer: Answer<T>) -> Self {
        Guarded(Some(answer))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &mut self.0 else {
            return Poll::Pending;
        };
        let result = match failure::catch_poll(answer.as_mut(), cx) {
            Poll::Ready(Ok(result)) => result,
            Poll::Ready(Err(panic)) => Err(panicked(&panic)),
            Poll::Pending => return Poll::Pending,
        };
        panic_guard::drop_quietly(self.0.take());
        Poll::Ready(result)
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        panic_guard::drop_quietly(self.0.take());
    }
}

pub(super) fn panicked(panic: &impl Display) -> LedgerError {
    LedgerError::new(format_args!("the ledger {panic}"))
}
