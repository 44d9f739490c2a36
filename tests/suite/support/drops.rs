//! Values whose drop is watched, and errors whose drop does something.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counts the values that hold it: those alive, the most at once, and those dropped.
#[derive(Clone, Default)]
pub struct Gauge(Arc<Counts>);

#[derive(Default)]
struct Counts {
    alive: AtomicUsize,
    most: AtomicUsize,
    dropped: AtomicUsize,
}

impl Gauge {
    /// Counts from now on until it is dropped.
    pub fn hold(&self) -> Held {
        let alive = self.0.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(alive, Ordering::SeqCst);
        Held(self.clone())
    }

    pub fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    pub fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }
}

/// A value that its [`Gauge`] counts.
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        let counts = &self.0.0;
        counts.alive.fetch_sub(1, Ordering::SeqCst);
        counts.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// An error whose drop runs this.
pub struct ErrorWithDrop<F: Fn()>(pub F);

impl<F: Fn()> fmt::Debug for ErrorWithDrop<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error with a drop")
    }
}

impl<F: Fn()> fmt::Display for ErrorWithDrop<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error with a drop")
    }
}

impl<F: Fn()> Error for ErrorWithDrop<F> {}

impl<F: Fn()> Drop for ErrorWithDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
