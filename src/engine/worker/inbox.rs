//! The inbox of a worker: filled by its actor's mailbox, emptied by its loop.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

use actix::Message;

use super::env::FromWorker;
use crate::{
    engine::channel::{Receiver, Sender},
    shared::hop::Batch,
    task::TaskRef,
};

/// From a pool to one of its workers, beside its jobs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToWorker {
    /// The task that you are on may have been stopped: look.
    CheckStop,
    /// Leave once you have nothing left.
    Quit,
    /// Drop what you are at and leave.
    Suspend,
    /// From itself: its life is over.
    Stop,
}

/// A piece of work for a worker.
pub(crate) enum Job<I> {
    /// Run the stage on these tasks, in order.
    Run { batch: Batch<I>, mode: BatchMode },
    /// Run this undo.
    Undo(UndoJob),
}

/// A job on its way. If its worker dies before it takes it, it goes back to the pool by itself.
pub(crate) struct Parcel<I> {
    job: Option<Job<I>>,
    pool: Sender<FromWorker<I>>,
}

impl<I> Parcel<I> {
    pub(crate) fn new(job: Job<I>, pool: Sender<FromWorker<I>>) -> Self {
        let job = Some(job);
        Parcel { job, pool }
    }

    fn take(mut self) -> Option<Job<I>> {
        self.job.take()
    }
}

impl<I> Drop for Parcel<I> {
    fn drop(&mut self) {
        match self.job.take() {
            None => {}
            Some(Job::Run { batch: rest, .. }) => {
                self.pool.send(FromWorker::HandedBack { rest });
            }
            Some(Job::Undo(job)) => self.pool.send(FromWorker::UndoHandedBack(job)),
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

pub(super) struct Inbox<I> {
    jobs: Receiver<Parcel<I>>,
    check_stop: Cell<bool>,
    quit: Cell<bool>,
    suspend: Cell<bool>,
    /// Wakes the loop.
    waker: RefCell<Option<Waker>>,
}

impl<I> Inbox<I> {
    pub(super) fn new(jobs: Receiver<Parcel<I>>) -> Self {
        Inbox {
            jobs,
            check_stop: Cell::new(false),
            quit: Cell::new(false),
            suspend: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// The loop is the only one that looks; it is one task, so that its waker stays the same.
    pub(super) async fn opened(&self) {
        poll_fn(|cx| {
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Ready(())
        })
        .await;
    }

    pub(super) fn put(&self, message: ToWorker) {
        match message {
            ToWorker::CheckStop => self.check_stop.set(true),
            ToWorker::Quit => self.quit.set(true),
            ToWorker::Suspend => {
                self.suspend.set(true);
                self.quit.set(true);
            }
            ToWorker::Stop => {}
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The next job; `None` once the worker is to leave.
    pub(super) async fn next(&self) -> Option<Job<I>> {
        poll_fn(|cx| {
            if self.suspend.get() {
                return Poll::Ready(None);
            }
            match self.jobs.poll_next(cx) {
                Poll::Ready(job) => Poll::Ready(job.take()),
                Poll::Pending if self.quit.get() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Takes no more jobs. Returns those that it has not begun.
    pub(super) fn close(&self) -> VecDeque<Parcel<I>> {
        self.jobs.close()
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
