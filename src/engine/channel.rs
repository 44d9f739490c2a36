//! A queue between a pool and its workers, on whatever threads they are.
//!
//! It does what an actor's mailbox does, without an allocation for each message: a task that waits
//! for something is a job and a notice in each stage.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use crate::panic_guard;

/// The end that puts messages in.
pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);

/// The end that takes them out. Dropped, it drops those that are left, and each that comes after it.
pub(crate) struct Receiver<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    messages: VecDeque<T>,
    /// Waits for a message.
    waker: Option<Waker>,
    closed: bool,
}

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Mutex::new(State {
        messages: VecDeque::new(),
        waker: None,
        closed: false,
    }));
    (Sender(state.clone()), Receiver(state))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Wakes the receiver if it waits.
    pub(crate) fn send(&self, message: T) {
        let mut state = panic_guard::lock(&self.0);
        if state.closed {
            drop(state);
            // Under no lock: it may say so in another queue, or be the user's.
            return panic_guard::drop_quietly(message);
        }
        state.messages.push_back(message);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The first message, or a place among those that are woken.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = panic_guard::lock(&self.0);
        match state.messages.pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    /// The same, and the message stays.
    pub(crate) fn poll_any(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = panic_guard::lock(&self.0);
        if state.messages.is_empty() {
            state.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The first message, if there is one.
    pub(crate) fn take(&self) -> Option<T> {
        panic_guard::lock(&self.0).messages.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        panic_guard::lock(&self.0).messages.len()
    }

    /// Takes no more. Returns what is left.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = panic_guard::lock(&self.0);
        state.closed = true;
        std::mem::take(&mut state.messages)
    }
}

impl<T> State<T> {
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close().into_iter().for_each(panic_guard::drop_quietly);
    }
}
