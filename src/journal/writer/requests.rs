//! The queue between callers and the writer's thread.
//!
//! The store comes back through it, too, after a commit on the second thread: so the writer's
//! thread waits in one place for both.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    ask::Ask,
    replies::{FoundByKey, ReplyTo, StoredOutcome, reply},
};
use crate::{
    journal::{
        entry::Entry,
        store::{Lost, RowOp, Store, StoreError},
        task_state::TaskState,
    },
    ledger::{LedgerError, Progress},
    panic_guard,
    task::{Outcome, TaskId},
};

/// A request to the writer.
pub(super) enum Request {
    Record(TaskId, Entry),
    /// Records that a task was accepted, unless another task has its key.
    Accept(TaskId, Entry, ReplyTo<()>),
    /// Asks for the outcome of the task with this key.
    OutcomeOf(Box<str>, ReplyTo<Option<StoredOutcome>>),
    ByKey(Box<str>, ByKey),
    /// Tasks of another process are this one's from now on.
    Adopt(Box<Adopted>, ReplyTo<()>),
    /// About tasks of other processes.
    Ask(Ask),
}

/// Tasks of another process that has gone.
#[derive(Default)]
pub(in crate::journal) struct Adopted {
    pub(in crate::journal) tasks: Vec<(u64, TaskState)>,
    /// The outcomes of those that were set aside.
    pub(in crate::journal) quarantined: Vec<Outcome>,
    /// The changes of their rows.
    pub(in crate::journal) ops: Vec<RowOp>,
}

/// A question or a decision about the task with a key.
pub(super) enum ByKey {
    /// Says what there is.
    Look(ReplyTo<FoundByKey>),
    /// Gives the key of a task that has ended back. The reply is what was there.
    Forget(ReplyTo<FoundByKey>),
    /// Makes this task, which is done, one that is rolled back, if that is still what there is.
    TakeBack(TaskId, ReplyTo<Result<(), FoundByKey>>),
}

impl ByKey {
    /// Answers with an error.
    pub(super) fn refuse(self, error: &LedgerError) {
        match self {
            ByKey::Look(to) | ByKey::Forget(to) => reply(to, Err(error.clone())),
            ByKey::TakeBack(_, to) => reply(to, Err(error.clone())),
        }
    }
}

/// The urgency of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Urgency {
    /// The task can't go on before the entry is written.
    Awaited,
    /// Nobody waits, so the entry may wait for others to be written with it.
    Deferred,
}

/// Requests, numbered in the order in which they came.
pub(super) struct RequestQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The number of the last request that is written.
    pub(super) progress: Arc<Progress>,
}

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    /// The number of the last request.
    last: u64,
    /// Somebody waits for one of the requests.
    urgent: bool,
    writer: WriterState,
    closed: bool,
    finished: Option<FinishedCommit>,
}

/// The present occupation of the writer's thread, which decides whether a request wakes it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum WriterState {
    #[default]
    Busy,
    /// It sleeps, because there is nothing to write.
    Idle,
    /// It sleeps for a moment, while deferred requests gather.
    Gathering,
    /// It sleeps during a commit on the second thread, or until much has gathered.
    Committing,
    /// It can't go on before the store is back.
    NeedsStore,
}

/// During a commit on the second thread, this many requests are taken in at once: waking up for
/// each of them would cost more than it gains.
const LARGE_BATCH: usize = 512;

/// The longest time for which a deferred request is left alone, so that it mostly goes along with
/// others and costs no commit of its own.
const MAX_DEFERRAL: Duration = Duration::from_millis(2);

/// The result of a look into the queue.
pub(super) struct Taken {
    /// The number of the last request.
    pub(super) last: u64,
    pub(super) finished: Option<FinishedCommit>,
    pub(super) closed: bool,
}

/// A commit that the second thread has finished, with the store.
pub(super) struct FinishedCommit {
    pub(super) store: Box<dyn Store>,
    /// The changes, to reuse their memory.
    pub(super) ops: Vec<RowOp>,
    pub(super) result: Result<Vec<Lost>, StoreError>,
}

impl RequestQueue {
    pub(super) fn new() -> Self {
        RequestQueue {
            inner: Mutex::default(),
            changed: Condvar::new(),
            progress: Arc::default(),
        }
    }

    /// Adds a request, and returns its number.
    pub(super) fn push(&self, request: Request, urgency: Urgency) -> Result<u64, LedgerError> {
        if let Some(error) = self.progress.failure() {
            return Err(error.clone());
        }
        let mut inner = panic_guard::lock(&self.inner);
        if inner.closed {
            return Err(LedgerError::new("the journal is closed"));
        }
        inner.last += 1;
        let number = inner.last;
        inner.requests.push(request);
        inner.urgent |= urgency == Urgency::Awaited;
        let wake = match inner.writer {
            WriterState::Busy | WriterState::NeedsStore => false,
            WriterState::Idle => true,
            WriterState::Gathering => urgency == Urgency::Awaited,
            WriterState::Committing => inner.requests.len() >= LARGE_BATCH,
        };
        if wake {
            inner.writer = WriterState::Busy;
            drop(inner);
            self.changed.notify_one();
        }
        Ok(number)
    }

    /// Moves all requests to `requests`, once there are some or the queue is closed.
    pub(super) fn take(&self, requests: &mut Vec<Request>) -> Taken {
        let inner = self.wait_for_requests(panic_guard::lock(&self.inner));
        Self::take_all(inner, requests)
    }

    /// Moves all requests to `requests`, once there are many or the running commit has finished.
    pub(super) fn take_during_commit(&self, requests: &mut Vec<Request>) -> Taken {
        let mut inner = panic_guard::lock(&self.inner);
        while inner.finished.is_none() && inner.requests.len() < LARGE_BATCH {
            inner.writer = WriterState::Committing;
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Self::take_all(inner, requests)
    }

    fn take_all(mut inner: MutexGuard<'_, Inner>, requests: &mut Vec<Request>) -> Taken {
        inner.writer = WriterState::Busy;
        inner.urgent = false;
        // The empty list that goes in has the memory of the one before.
        mem::swap(&mut inner.requests, requests);
        Taken {
            last: inner.last,
            finished: inner.finished.take(),
            closed: inner.closed,
        }
    }

    fn wait_for_requests<'a>(&self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        // A deferred request wakes nobody for this long: in a busy pipeline an awaited one comes
        // before that.
        let mut until = Instant::now() + MAX_DEFERRAL;
        while !inner.urgent && !inner.closed {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                inner.writer = WriterState::Gathering;
                inner = self
                    .changed
                    .wait_timeout(inner, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else if inner.requests.is_empty() {
                inner.writer = WriterState::Idle;
                inner = self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
                until = Instant::now() + MAX_DEFERRAL;
            } else {
                break;
            }
        }
        inner
    }

    /// Waits until the running commit has finished.
    pub(super) fn wait_for_commit(&self) -> FinishedCommit {
        let mut inner = panic_guard::lock(&self.inner);
        loop {
            if let Some(finished) = inner.finished.take() {
                inner.writer = WriterState::Busy;
                return finished;
            }
            inner.writer = WriterState::NeedsStore;
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the store back after a commit.
    pub(super) fn commit_finished(&self, finished: FinishedCommit) {
        panic_guard::lock(&self.inner).finished = Some(finished);
        self.changed.notify_one();
    }

    /// Refuses all later requests. Those in the queue are still written.
    pub(super) fn stop_accepting(&self) {
        panic_guard::lock(&self.inner).closed = true;
        self.changed.notify_one();
    }

    /// Refuses all later requests, and returns those that won't be written.
    pub(super) fn give_up(&self) -> Vec<Request> {
        let mut inner = panic_guard::lock(&self.inner);
        inner.closed = true;
        mem::take(&mut inner.requests)
    }
}
