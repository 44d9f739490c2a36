//! The end of a ticket that the pipeline holds: it gives the answer.

use std::{mem, sync::MutexGuard};

use crate::{
    panic_guard,
    task::{Task, TicketAnswer, details::Details},
};

/// Gives a task's ticket its answer; the first one stands.
pub(crate) fn answer(task: &Task, answer: TicketAnswer) {
    let mut details = task.details();
    if details.answer.is_some() {
        return;
    }
    details.answer = Some(answer);
    wake_all(details);
}

/// A task whose ticket is given is recorded by now, or refused.
pub(super) fn recording_is_over(task: &Task) {
    let mut details = task.details();
    details.is_recording = false;
    wake_all(details);
}

fn wake_all(mut details: MutexGuard<'_, Details>) {
    let waiting = mem::take(&mut details.waiting);
    drop(details);
    for (_, waker) in waiting {
        // A waker may be the user's own.
        panic_guard::catch_quietly(|| waker.wake());
    }
}
