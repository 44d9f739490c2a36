//! Waiting for a record by its number, where records are written in order: no allocation each, and
//! one look tells about a whole batch.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::error::LedgerError;
use crate::panic_guard;

/// The progress of a ledger: every record up to this number is written.
#[derive(Default)]
pub(crate) struct Progress {
    reached: AtomicU64,
    failed: OnceLock<LedgerError>,
    waiting: Mutex<Waiting>,
}

/// The wakers of those who wait, each in a slot of its own.
#[derive(Default)]
struct Waiting {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    number: u64,
    waker: Option<Waker>,
}

impl Progress {
    /// Every record up to this one is written.
    pub(crate) fn reach(&self, number: u64) {
        self.reached.store(number, Ordering::Release);
        self.wake(|slot| slot.number <= number);
    }

    /// Nothing will be written any more.
    pub(crate) fn fail(&self, error: LedgerError) {
        self.failed.set(error).ok();
        self.wake(|_| true);
    }

    pub(crate) fn failure(&self) -> Option<&LedgerError> {
        self.failed.get()
    }

    fn wake(&self, who: impl Fn(&Slot) -> bool) {
        let mut wakers = Vec::new();
        let mut waiting = panic_guard::lock(&self.waiting);
        for slot in &mut waiting.slots {
            if slot.waker.is_some() && who(slot) {
                wakers.extend(slot.waker.take());
            }
        }
        drop(waiting);
        for waker in wakers {
            // It may be the user's own.
            panic_guard::catch_quietly(|| waker.wake());
        }
    }

    fn result(&self, number: u64) -> Option<Result<(), LedgerError>> {
        if self.reached.load(Ordering::Acquire) >= number {
            return Some(Ok(()));
        }
        self.failed.get().map(|error| Err(error.clone()))
    }
}

/// Ready once the record of this number is written.
pub(crate) struct Mark {
    progress: Arc<Progress>,
    number: u64,
    slot: Option<usize>,
}

impl Mark {
    pub(crate) fn new(progress: &Arc<Progress>, number: u64) -> Self {
        Mark {
            progress: progress.clone(),
            number,
            slot: None,
        }
    }

    /// Waits for both, where they are numbers of the same ledger.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.progress, &other.progress) && self.slot.is_none();
        if same {
            self.number = self.number.max(other.number);
        }
        same
    }

    pub(super) fn result(&self) -> Option<Result<(), LedgerError>> {
        self.progress.result(self.number)
    }
}

impl Future for Mark {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.result() {
            return Poll::Ready(result);
        }
        let (progress, number) = (self.progress.clone(), self.number);
        // A waker may be the user's: it is cloned and dropped under no lock.
        let waker = cx.waker().clone();
        let mut waiting = panic_guard::lock(&progress.waiting);
        // It may have been reached before anyone was seen to wait here.
        if let Some(result) = self.result() {
            return Poll::Ready(result);
        }
        let before = match self.slot {
            Some(slot) => waiting.slots[slot].waker.replace(waker),
            None => {
                let waker = Some(waker);
                let slot = Slot { number, waker };
                self.slot = Some(match waiting.free.pop() {
                    Some(free) => {
                        waiting.slots[free] = slot;
                        free
                    }
                    None => {
                        waiting.slots.push(slot);
                        waiting.slots.len() - 1
                    }
                });
                None
            }
        };
        drop(waiting);
        panic_guard::drop_quietly(before);
        Poll::Pending
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let mut waiting = panic_guard::lock(&self.progress.waiting);
            let waker = waiting.slots[slot].waker.take();
            waiting.free.push(slot);
            drop(waiting);
            panic_guard::drop_quietly(waker);
        }
    }
}
