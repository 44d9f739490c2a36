//! What a submitter holds of a task.

use std::{
    future::poll_fn,
    marker::PhantomData,
    sync::Arc,
    task::{Poll, Waker},
};

use crate::{
    Error,
    core::Core,
    guard, intake,
    task::{Answer, Life, Outcome, StopCause, Task, TaskId, TaskRef},
};

/// A submitted task. Dropping it does nothing to the task.
///
/// A ticket from a [`PipelineHandle`](crate::PipelineHandle) gets the last stage's output with its
/// outcome; one from an [`Intake`](crate::Intake) doesn't know its type.
pub struct Ticket<O = ()> {
    /// Until it is dropped. All there is, since every submit hands one on: a record that somebody
    /// has a ticket of becomes no other task's.
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

    /// The ticket of a task that was submitted before, perhaps to another process.
    pub(crate) fn of_key(core: &Arc<Core>, id: TaskId, key: Box<str>) -> Self {
        Ticket::new(Arc::new(Task::elsewhere(id, Arc::downgrade(core), key)))
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.task.as_ref().map_or(TaskId(0), |task| task.id())
    }

    /// Cancels the task: it stops, and what it did is taken back. Returns at once, `true` if this
    /// call is what ended it; `false` if it had ended, or was about to, for another reason.
    pub fn cancel(&self) -> bool {
        let Some(task) = &self.task else { return false };
        let Some(core) = task.core.upgrade() else {
            return false;
        };
        let elsewhere = matches!(task.life().answer, Some(Answer::Kept(_)));
        if elsewhere {
            let task = core.table.find(task.id());
            return task.is_some_and(|task| core.cancel(&task, StopCause::User));
        }
        core.cancel(task, StopCause::User)
    }
}

impl<O> Drop for Ticket<O> {
    #[inline]
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        task.leave_ticket();
        // Nobody will ask for the output any more.
        if task.wants_output() {
            let output = task.life().output.take();
            guard::drop_quietly(output);
        }
        intake::keep(task);
    }
}

impl<O: 'static> Ticket<O> {
    /// Waits until the task has its outcome, its rollback included.
    ///
    /// # Errors
    /// [`Error::Gone`] when the runtime ended under the pipeline, [`Error::Suspended`] when its
    /// ledger failed.
    ///
    /// # Cancel safety
    /// Can be dropped and called again. The output is given to the first call that completes.
    pub async fn outcome(&self) -> Result<Outcome<O>, Error> {
        let Some(task) = &self.task else {
            return Err(Error::Gone);
        };
        let key = match &task.life().answer {
            Some(Answer::Kept(key)) => Some(key.clone()),
            _ => None,
        };
        if let Some(key) = key {
            let core = task.core.upgrade().ok_or(Error::Gone)?;
            // Once its outcome is forgotten, the key may be another task's.
            let kept = core.outcome_of(&key).await?;
            return kept
                .filter(|outcome| outcome.task == task.id())
                .ok_or(Error::Gone);
        }
        let mut wait = Wait { task, number: None };
        poll_fn(|cx| {
            let mut life = task.life();
            let answer = match &life.answer {
                Some(Answer::Outcome(outcome)) => Ok((**outcome).clone()),
                Some(Answer::Gone) => Err(Error::Gone),
                Some(Answer::Suspended(why)) => Err(Error::Suspended(why.clone())),
                // Handled above: such a record never gets another answer.
                Some(Answer::Kept(_)) => Err(Error::Gone),
                None => {
                    wait.with(&mut life, cx.waker());
                    return Poll::Pending;
                }
            };
            let output = life.output.take();
            drop(life);
            let output = output
                .and_then(|any| any.downcast::<O>().ok())
                .map(|output| *output);
            Poll::Ready(answer.map(
                |Outcome {
                     task,
                     end,
                     rollback,
                     ..
                 }| Outcome {
                    task,
                    end,
                    rollback,
                    output,
                },
            ))
        })
        .await
    }
}

/// Somebody who waits for a task's answer, and leaves no trace when dropped.
struct Wait<'a> {
    task: &'a TaskRef,
    number: Option<u64>,
}

impl Wait<'_> {
    fn with(&mut self, life: &mut Life, waker: &Waker) {
        let number = *self.number.get_or_insert_with(|| {
            life.last_waiting += 1;
            life.last_waiting
        });
        match life
            .waiting
            .iter_mut()
            .find(|(waiting, _)| *waiting == number)
        {
            Some((_, before)) => before.clone_from(waker),
            None => life.waiting.push((number, waker.clone())),
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.task
                .life()
                .waiting
                .retain(|(waiting, _)| *waiting != number);
        }
    }
}
