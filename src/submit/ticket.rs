//! The ticket of a submitted task: both of its ends.

use std::{
    future::poll_fn,
    marker::PhantomData,
    mem,
    task::{Poll, Waker},
};

use super::local_batch;
use crate::{
    error::Error,
    panic_guard,
    shared::Shared,
    task::{Outcome, StopCause, Task, TaskId, TaskRef, TicketAnswer, details::Details},
};

/// A submitted task: waits for its outcome, or cancels it. Dropping the ticket does nothing to the
/// task.
///
/// `Send + Sync`. A ticket that is kept holds its task's outcome in memory.
///
/// A ticket from a [`PipelineHandle`](crate::PipelineHandle) gets the last stage's output with its
/// outcome; one from an [`Intake`](crate::Intake) doesn't know its type.
pub struct Ticket<O = ()> {
    /// Until it is dropped. Nothing else is in here, since every submit hands one on. A record that
    /// somebody has a ticket of becomes no other task's.
    task: Option<TaskRef>,
    output: PhantomData<fn() -> O>,
}

impl<O> Ticket<O> {
    #[inline]
    pub(crate) fn new(task: TaskRef) -> Self {
        Ticket {
            task: Some(task),
            output: PhantomData,
        }
    }

    /// The task's number, as reports and logs show it.
    pub fn id(&self) -> TaskId {
        self.task.as_ref().map_or(TaskId(0), |task| task.id())
    }

    /// `true` if this submit has added no task: an earlier one had the same
    /// [key](crate::submit::Submit::key), and this is a ticket of that one's task.
    pub fn is_known(&self) -> bool {
        self.task.as_ref().is_some_and(|task| in_ledger(task))
    }

    /// Cancels the task: it stops, and its undos run. Returns at once, `true` if this call decided
    /// the task's end; `false` if it had ended, or was about to, for another reason.
    ///
    /// [`outcome`](Self::outcome) is ready once the rollback is over.
    pub fn cancel(&self) -> bool {
        let Some(task) = &self.task else { return false };
        let Some(shared) = Shared::of(task) else {
            return false;
        };
        if in_ledger(task) {
            let task = shared.table.find(task.id());
            return task.is_some_and(|task| shared.cancel(&task, StopCause::User));
        }
        shared.cancel(task, StopCause::User)
    }
}

/// The record stands for a task that another submit has added.
fn in_ledger(task: &Task) -> bool {
    // Without a look behind the lock for nearly every task, which has nothing there.
    task.has_details() && matches!(task.details().answer, Some(TicketAnswer::InLedger(_)))
}

impl<O> Drop for Ticket<O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.leave_ticket();
            local_batch::keep(task);
        }
    }
}

impl<O: 'static> Ticket<O> {
    /// Waits until the task has its outcome, its rollback included.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime ended under the pipeline, [`Error::Suspended`] if its journal or
    /// ledger failed or [`Shutdown::Suspend`](crate::Shutdown::Suspend) left the task where it was.
    ///
    /// # Cancel safety
    /// Can be dropped and called again. The output is given to the first call that completes.
    pub async fn outcome(&self) -> Result<Outcome<O>, Error> {
        let Some(task) = &self.task else {
            return Err(Error::Gone);
        };
        let key = match &task.details().answer {
            Some(TicketAnswer::InLedger(key)) => Some(key.clone()),
            _ => None,
        };
        if let Some(key) = key {
            let shared = Shared::of(task).ok_or(Error::Gone)?;
            // Once its outcome is forgotten, the key may be another task's.
            let kept = shared.outcome_of(&key).await?;
            return kept
                .filter(|outcome| outcome.task == task.id())
                .ok_or(Error::Gone);
        }
        let mut wait = Wait { task, number: None };
        poll_fn(|cx| {
            let mut details = task.details();
            if details.answer.is_none() {
                // Wakers may be the user's own: none is copied or dropped under the lock.
                drop(details);
                let waker = cx.waker().clone();
                details = task.details();
                if details.answer.is_none() {
                    let before = wait.with(&mut details, waker);
                    drop(details);
                    panic_guard::drop_quietly(before);
                    return Poll::Pending;
                }
            }
            let answer = match &details.answer {
                Some(TicketAnswer::Outcome(outcome)) => Ok((**outcome).clone()),
                Some(TicketAnswer::Gone) => Err(Error::Gone),
                Some(TicketAnswer::Suspended(why)) => Err(Error::Suspended(why.clone())),
                // Handled above: such a record never gets another answer.
                Some(TicketAnswer::InLedger(_)) | None => Err(Error::Gone),
            };
            let output = details.output.take();
            drop(details);
            let output = output
                .and_then(|any| any.downcast::<O>().ok())
                .map(|output| *output);
            Poll::Ready(answer.map(|outcome| outcome.with_output(output)))
        })
        .await
    }
}

/// Gives a task's ticket its answer; the first one stands.
pub(crate) fn answer(task: &Task, answer: TicketAnswer) {
    let mut details = task.details();
    if details.answer.is_some() {
        return;
    }
    details.answer = Some(answer);
    let waiting = mem::take(&mut details.waiting);
    drop(details);
    for (_, waker) in waiting {
        // A waker may be the user's own.
        panic_guard::catch_quietly(|| waker.wake());
    }
}

/// A wait for a task's answer, which leaves no trace when it is dropped.
struct Wait<'a> {
    task: &'a TaskRef,
    number: Option<u64>,
}

impl Wait<'_> {
    /// Returns the waker of the poll before.
    fn with(&mut self, details: &mut Details, waker: Waker) -> Option<Waker> {
        let number = *self.number.get_or_insert_with(|| {
            details.last_waiting += 1;
            details.last_waiting
        });
        match details
            .waiting
            .iter_mut()
            .find(|(waiting, _)| *waiting == number)
        {
            Some((_, before)) => Some(mem::replace(before, waker)),
            None => {
                details.waiting.push((number, waker));
                None
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut details = self.task.details();
        let at = details.waiting.iter().position(|(at, _)| *at == number);
        let waker = at.map(|at| details.waiting.remove(at));
        drop(details);
        panic_guard::drop_quietly(waker);
    }
}
