//! The inbox of a worker: filled by its actor's mailbox, emptied by its loop.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::Poll,
};

use actix::{Message, Recipient};

use super::env::FromWorker;
use crate::{shared::hop::Batch, task::TaskRef};

/// From a pool to one of its workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToWorker<I: Send + 'static> {
    Job(Parcel<I>),
    /// The task that you are on may have been stopped: look.
    CheckStop,
    /// Leave once you have nothing left.
    Quit,
    /// Drop what you are at and leave.
    Suspend,
}

/// A piece of work for a worker.
pub(crate) enum Job<I> {
    /// Run the stage on these tasks, in order.
    Run { batch: Batch<I>, mode: BatchMode },
    /// Run this undo.
    Undo(UndoJob),
}

/// A job on its way. If its worker dies before it takes it, with its mailbox or before the message
/// has come, it goes back to the pool by itself.
pub(crate) struct Parcel<I: Send + 'static> {
    job: Option<Job<I>>,
    pool: Arc<Recipient<FromWorker<I>>>,
}

impl<I: Send + 'static> Parcel<I> {
    pub(crate) fn new(job: Job<I>, pool: Arc<Recipient<FromWorker<I>>>) -> Self {
        let job = Some(job);
        Parcel { job, pool }
    }

    fn take(mut self) -> Option<Job<I>> {
        self.job.take()
    }
}

impl<I: Send + 'static> Drop for Parcel<I> {
    fn drop(&mut self) {
        match self.job.take() {
            None => {}
            Some(Job::Run { batch: rest, .. }) => {
                self.pool.do_send(FromWorker::HandedBack { rest });
            }
            Some(Job::Undo(job)) => self.pool.do_send(FromWorker::UndoHandedBack(job)),
        }
    }
}

/// An undo that is to run.
pub(crate) struct UndoJob {
    pub(crate) task: TaskRef,
    /// Its number within the task.
    pub(crate) undo: usize,
    /// From 1.
    pub(crate) attempt: u32,
}

/// Instructions for a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMode {
    pub(crate) starts: Starts,
    /// The pool takes the worker for waiting already: a single call that has to wait need not say so.
    pub(crate) expected_to_wait: bool,
}

/// A worker looks behind a fence, before each start, if the task was stopped; or it doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starts {
    /// The pool may let go of tasks in the worker's batch.
    Fenced,
    /// A fence for each start would cost more than the calls. The worker itself lets go of stopped
    /// tasks, and its batch is short.
    Unfenced,
}

pub(super) struct Inbox<I: Send + 'static> {
    jobs: RefCell<VecDeque<Parcel<I>>>,
    check_stop: Cell<bool>,
    quit: Cell<bool>,
    suspend: Cell<bool>,
}

impl<I: Send + 'static> Inbox<I> {
    pub(super) fn new() -> Self {
        Inbox {
            jobs: RefCell::new(VecDeque::new()),
            check_stop: Cell::new(false),
            quit: Cell::new(false),
            suspend: Cell::new(false),
        }
    }

    /// The loop is polled after the mailbox, in the same poll of the actor's context, so it needs no
    /// waking.
    pub(super) fn put(&self, message: ToWorker<I>) {
        match message {
            ToWorker::Job(job) => self.jobs.borrow_mut().push_back(job),
            ToWorker::CheckStop => self.check_stop.set(true),
            ToWorker::Quit => self.quit.set(true),
            ToWorker::Suspend => {
                self.suspend.set(true);
                self.quit.set(true);
            }
        }
    }

    /// The next job; `None` once the worker is to leave.
    pub(super) async fn next(&self) -> Option<Job<I>> {
        poll_fn(|_| {
            if self.suspend.get() {
                return Poll::Ready(None);
            }
            match self.jobs.borrow_mut().pop_front() {
                Some(job) => Poll::Ready(job.take()),
                None if self.quit.get() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// The jobs that it has not begun.
    pub(super) fn take_all(&self) -> VecDeque<Parcel<I>> {
        self.jobs.take()
    }

    /// The pool has asked to look whether the task was stopped, since this was last called.
    pub(super) fn take_check_stop(&self) -> bool {
        self.check_stop.replace(false)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.quit.get()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspend.get()
    }
}
