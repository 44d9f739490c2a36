//! What a submitter holds of a task.

use std::{future::poll_fn, marker::PhantomData, task::Poll};

use crate::{
    Error,
    task::{Answer, Outcome, StopCause, TaskId, TaskRef},
};

/// A submitted task. Dropping it does nothing to the task.
///
/// A ticket from a [`PipelineHandle`](crate::PipelineHandle) gets the last stage's output with its
/// outcome; one from an [`Intake`](crate::Intake) doesn't know its type.
pub struct Ticket<O = ()> {
    task: TaskRef,
    id: TaskId,
    output: PhantomData<fn() -> O>,
}

impl<O> Ticket<O> {
    pub(crate) fn new(task: TaskRef, id: TaskId) -> Self {
        Ticket {
            task,
            id,
            output: PhantomData,
        }
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Cancels the task: it stops, and what it did is taken back. Returns at once, `true` if this
    /// call is what ended it; `false` if it had ended, or was about to, for another reason.
    pub fn cancel(&self) -> bool {
        self.task
            .core
            .upgrade()
            .is_some_and(|core| core.cancel(&self.task, StopCause::User))
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
        poll_fn(|cx| {
            let mut life = self.task.life();
            let answer = match &life.answer {
                Some(Answer::Outcome(outcome)) => Ok((**outcome).clone()),
                Some(Answer::Gone) => Err(Error::Gone),
                Some(Answer::Suspended(why)) => Err(Error::Suspended(why.clone())),
                None => {
                    if !life.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                        life.waiting.push(cx.waker().clone());
                    }
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
