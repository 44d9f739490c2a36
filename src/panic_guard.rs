//! Keeps a panic in the user's code where it happened.
//!
//! Knows nothing else of the crate, so that everything may use it. `failure` has the two calls
//! that turn a panic into a [`Failure`](crate::Failure).

use std::{
    any::Any,
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// The value that a panic was raised with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs code of the user's.
#[inline(always)]
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops a value of the user's; a panic in its `Drop` is logged and goes no further.
pub(crate) fn drop_quietly<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(payload) = catch(move || drop(value))
    {
        log_quietly(|| log::error!("a value of yours panicked while it was dropped"));
        // Dropping the payload may panic again; leaking it can't.
        std::mem::forget(payload);
    }
}

/// Writes to the program's log. Nobody can be told if that panics.
#[cold]
pub(crate) fn log_quietly(write: impl FnOnce()) {
    if let Err(payload) = catch(write) {
        // Dropping it may panic again, and so on.
        std::mem::forget(payload);
    }
}

/// Runs code of the user's whose result nobody waits for.
pub(crate) fn catch_quietly(code: impl FnOnce()) {
    if let Err(payload) = catch(code) {
        drop_quietly(payload);
    }
}

/// A value of the user's as its `Display` shows it, or a placeholder if that panics.
pub(crate) fn shown(value: &impl Display) -> String {
    printed(|| value.to_string())
}

/// The text that code of the user's prints, or a placeholder if it panics.
pub(crate) fn printed(print: impl FnOnce() -> String) -> String {
    catch(print).unwrap_or_else(|payload| {
        drop_quietly(payload);
        "(printing it panicked)".to_owned()
    })
}

/// A waker for things that others wake: it may be the user's own, and whoever wakes it must not die of it.
pub(crate) fn quiet_waker(waker: &Waker) -> Waker {
    Waker::from(Arc::new(QuietWaker(Some(waker.clone()))))
}

struct QuietWaker(Option<Waker>);

impl Wake for QuietWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waker) = &self.0 {
            catch_quietly(|| waker.wake_by_ref());
        }
    }
}

impl Drop for QuietWaker {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}

/// Locks. None of our locks is held while code of the user's runs, so none is poisoned; a poisoned
/// one would still hold a value between two of our statements, each of which leaves it whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
