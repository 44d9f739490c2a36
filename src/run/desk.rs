//! What lies on a worker's desk: put there by its actor's mailbox, taken up by its body.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::Poll,
};

use actix::Message;

use crate::{message::Batch, task::TaskRef};

/// From a pool to one of its workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum ToWorker<I> {
    /// Run these, in order.
    Work { batch: Batch<I>, how: How },
    /// Cancel this undo.
    Cancel {
        task: TaskRef,
        undo: usize,
        attempt: u32,
    },
    /// The task you are on may have been ended: look.
    Halt,
    /// Leave when you have nothing left.
    Quit,
    /// Drop what you are at and leave.
    Suspend,
}

/// What a worker is to know about a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    /// Each start is to be fenced, so that the pool may let go of what is in the worker's hands.
    pub(super) careful: bool,
    /// The pool takes it for waiting already: a single call that has to wait need not say so.
    pub(super) waiting: bool,
}

pub(super) enum Job<I> {
    Work {
        batch: Batch<I>,
        how: How,
    },
    Cancel {
        task: TaskRef,
        undo: usize,
        attempt: u32,
    },
}

pub(super) struct Desk<I> {
    jobs: RefCell<VecDeque<Job<I>>>,
    halt: Cell<bool>,
    quit: Cell<bool>,
    suspend: Cell<bool>,
}

impl<I> Desk<I> {
    pub(super) fn new() -> Self {
        Desk {
            jobs: RefCell::new(VecDeque::new()),
            halt: Cell::new(false),
            quit: Cell::new(false),
            suspend: Cell::new(false),
        }
    }

    /// The body is polled after the mailbox, so it needs no waking.
    pub(super) fn put(&self, message: ToWorker<I>) {
        match message {
            ToWorker::Work { batch, how } => {
                self.jobs.borrow_mut().push_back(Job::Work { batch, how });
            }
            ToWorker::Cancel {
                task,
                undo,
                attempt,
            } => {
                self.jobs.borrow_mut().push_back(Job::Cancel {
                    task,
                    undo,
                    attempt,
                });
            }
            ToWorker::Halt => self.halt.set(true),
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
                Some(job) => Poll::Ready(Some(job)),
                None if self.quit.get() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn take_halt(&self) -> bool {
        self.halt.replace(false)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.quit.get()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspend.get()
    }
}
