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
    /// The receiver waits for each message, also for one that is only left for it.
    is_eager: bool,
    closed: bool,
}

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Mutex::new(State {
        messages: VecDeque::new(),
        waker: None,
        is_eager: true,
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
        self.put(message, true);
    }

    /// The same, but a receiver that isn't eager finds it when it wakes for something else.
    pub(crate) fn leave(&self, message: T) {
        self.put(message, false);
    }

    fn put(&self, message: T, wakes: bool) {
        let mut state = panic_guard::lock(&self.0);
        if state.closed {
            drop(state);
            // Under no lock: it may say so in another queue, or be the user's.
            return panic_guard::drop_quietly(message);
        }
        state.messages.push_back(message);
        let waker = match wakes || state.is_eager {
            true => state.waker.take(),
            false => None,
        };
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

    /// Says if it is to be woken for a message that is left for it. If there is one by now, it is woken at once.
    pub(crate) fn set_eager(&self, eager: bool) {
        let mut state = panic_guard::lock(&self.0);
        state.is_eager = eager;
        let waker = match eager && !state.messages.is_empty() {
            true => state.waker.take(),
            false => None,
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
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

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(Mutex<u32>);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            *panic_guard::lock(&self.0) += 1;
        }
    }

    #[test]
    fn g07_a_message_that_is_left_wakes_an_eager_receiver_and_is_found_by_any() {
        let (sender, receiver) = channel();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let woken = || std::mem::take(&mut *panic_guard::lock(&wakes.0));
        assert!(receiver.poll_any(&mut cx).is_pending());
        sender.leave(1);
        assert_eq!(woken(), 1);

        receiver.set_eager(false);
        assert_eq!((receiver.take(), receiver.take()), (Some(1), None));
        assert!(receiver.poll_any(&mut cx).is_pending());
        sender.leave(2);
        assert_eq!((woken(), receiver.len()), (0, 1));
        // One that has to be heard takes the other along.
        sender.send(3);
        assert_eq!(woken(), 1);
        assert!(receiver.poll_any(&mut cx).is_ready());
        assert_eq!((receiver.take(), receiver.take()), (Some(2), Some(3)));

        // It comes before the receiver says that it waits for all of them: no message is missed.
        assert!(receiver.poll_any(&mut cx).is_pending());
        sender.leave(4);
        assert_eq!(woken(), 0);
        receiver.set_eager(true);
        assert_eq!(woken(), 1);
        assert_eq!(receiver.take(), Some(4));
    }
}
