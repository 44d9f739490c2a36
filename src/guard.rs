//! What keeps a panic in the user's code where it happened.

use std::{
    fmt::Display,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crate::Failure;

/// Drops a value of the user's; what its drop panics with is logged.
pub(crate) fn drop_quietly<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(caught) = catch_unwind(AssertUnwindSafe(move || drop(value)))
    {
        log::error!("a value of yours panicked while it was dropped");
        // Dropping what was caught may panic again; leaking it can't.
        std::mem::forget(caught);
    }
}

/// Runs code of the user's.
#[inline(always)]
pub(crate) fn run<T>(code: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(code)).map_err(Failure::panic)
}

/// Polls a future of the user's.
#[inline(always)]
pub(crate) fn poll<F: Future + ?Sized>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Failure>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(caught) => Poll::Ready(Err(Failure::panic(caught))),
    }
}

/// What a value of the user's prints, even if printing it panics.
pub(crate) fn shown(value: &impl Display) -> String {
    catch_unwind(AssertUnwindSafe(|| value.to_string()))
        .unwrap_or_else(|_| "(printing it panicked)".to_owned())
}

/// Locks. No lock of ours is held while code of the user's runs, so none is poisoned; a poisoned
/// one would still hold a value between two of our statements, each of which leaves it whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
