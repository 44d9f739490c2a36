//! The ticket of a submitted task, as its caller has it.

use std::{
    future::poll_fn,
    marker::PhantomData,
    mem,
    sync::Arc,
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

    /// The task's number, as reports and logs show it. With a key, that of a ticket of
    /// [`now`](crate::submit::Submit::now) may become another one until the task is
    /// [recorded](Self::recorded): that of the task that has the key.
    pub fn id(&self) -> TaskId {
        let id = |task: &TaskRef| in_ledger(task).unwrap_or_else(|| task.id());
        self.task.as_ref().map_or(TaskId(0), id)
    }

    /// `true` if this submit has added no task: an earlier one had the same
    /// [key](crate::submit::Submit::key), and this is a ticket of that one's task. After
    /// [`now`](crate::submit::Submit::now) that is known once the task is [recorded](Self::recorded).
    pub fn is_known(&self) -> bool {
        self.task
            .as_ref()
            .is_some_and(|task| in_ledger(task).is_some())
    }

    /// Waits until the task is recorded, so that it survives the process. Only a ticket of
    /// [`now`](crate::submit::Submit::now) on a pipeline with a journal or a ledger is there before that; any other
    /// is ready at once.
    ///
    /// # Errors
    /// [`Error::Unrecorded`] if the task was refused, [`Error::Suspended`] if the journal or ledger failed
    /// or [`Shutdown::Suspend`](crate::Shutdown::Suspend) came first, [`Error::Gone`] if the runtime ended.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn recorded(&self) -> Result<(), Error> {
        let Some(task) = &self.task else {
            return Err(Error::Gone);
        };
        let look = |details: &mut Details| match &details.answer {
            Some(answer) => Some(read(answer).map(Some)),
            None => (!details.is_recording).then_some(Ok(None)),
        };
        Wait { task, number: None }.until(look).await.map(drop)
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
        if let Some(known) = in_ledger(task) {
            let task = shared.table.find(known);
            return task.is_some_and(|task| shared.cancel(&task, StopCause::User));
        }
        shared.cancel(task, StopCause::User)
    }
}

/// The number of the task that another submit has added, if this record stands for one.
fn in_ledger(task: &Task) -> Option<TaskId> {
    // Without a look behind the lock for nearly every task, which has nothing there.
    if !task.has_details() {
        return None;
    }
    match task.details().answer {
        Some(TicketAnswer::InLedger { task, .. }) => Some(task),
        _ => None,
    }
}

/// The outcome, as far as a ticket's answer says it.
enum Found {
    Here(Outcome),
    /// The ledger has it, or will, under this key, if it is this task's.
    InLedger(TaskId, Arc<str>),
}

fn read(answer: &TicketAnswer) -> Result<Found, Error> {
    match answer {
        TicketAnswer::Outcome(outcome) => Ok(Found::Here((**outcome).clone())),
        TicketAnswer::InLedger { task, key } => Ok(Found::InLedger(*task, key.clone())),
        #[cfg(feature = "journal")]
        TicketAnswer::Released { task, key } => Ok(Found::InLedger(*task, key.clone())),
        TicketAnswer::Gone => Err(Error::Gone),
        TicketAnswer::Suspended(why) => Err(Error::Suspended(why.clone())),
        TicketAnswer::Unrecorded(why) => Err(Error::Unrecorded(why.clone())),
    }
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
    /// ledger failed or [`Shutdown::Suspend`](crate::Shutdown::Suspend) left the task where it was,
    /// [`Error::Unrecorded`] if it was refused after [`now`](crate::submit::Submit::now) had given this ticket.
    ///
    /// # Cancel safety
    /// Can be dropped and called again. The output is given to the first call that completes.
    pub async fn outcome(&self) -> Result<Outcome<O>, Error> {
        let Some(task) = &self.task else {
            return Err(Error::Gone);
        };
        let look = |details: &mut Details| {
            let found = read(details.answer.as_ref()?);
            Some((found, details.output.take()))
        };
        let (found, output) = Wait { task, number: None }.until(look).await;
        match found? {
            Found::Here(outcome) => {
                let output = output.and_then(|any| any.downcast::<O>().ok());
                Ok(outcome.with_output(output.map(|output| *output)))
            }
            Found::InLedger(known, key) => {
                let shared = Shared::of(task).ok_or(Error::Gone)?;
                // Once its outcome is forgotten, the key may be another task's.
                let kept = shared.outcome_of(&key).await?;
                kept.filter(|outcome| outcome.task == known)
                    .ok_or(Error::Gone)
            }
        }
    }
}

/// A wait for something behind a task's lock, which leaves no trace when it is dropped.
struct Wait<'a> {
    task: &'a TaskRef,
    number: Option<u64>,
}

impl Wait<'_> {
    /// Waits until this finds something.
    async fn until<T>(mut self, mut look: impl FnMut(&mut Details) -> Option<T>) -> T {
        let task = self.task;
        poll_fn(|cx| {
            let mut found = look(&mut task.details());
            if found.is_none() {
                // Wakers may be the user's own: none is copied or dropped under the lock.
                let waker = cx.waker().clone();
                let mut details = task.details();
                found = look(&mut details);
                if found.is_none() {
                    let before = self.with(&mut details, waker);
                    drop(details);
                    panic_guard::drop_quietly(before);
                }
            }
            found.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

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
