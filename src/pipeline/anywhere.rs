//! Tasks wherever they are: the part of a handle that reaches other processes.

use super::handle::PipelineHandle;
use crate::{
    error::AnywhereError,
    journal::{Answer, Decision},
    task::{Stuck, TaskId, TaskStatus},
};

/// With a journal [in a database](crate::guide::database), these reach the tasks of all processes that run the
/// pipeline. Anywhere else they are the same as those without `_anywhere`.
///
/// The process that has the task looks for decisions once a second, or each fifth of its lease if that is shorter.
/// They are kept in the database: if that process dies, the next one that has the task carries them out. While no
/// process that runs has the stages of a task, a decision about it waits, and so does the call.
impl<I: Send + 'static, O: Send + 'static> PipelineHandle<I, O> {
    /// Cancels a task by its number, as [`cancel`](Self::cancel) does, in whichever process it is. Waits until that
    /// one has answered: `true` if this call decided the task's end.
    ///
    /// ```
    /// # use batrun::{prelude::*, state::TaskId};
    /// # async fn example(handle: &PipelineHandle<u32, u32>, task: TaskId) {
    /// match handle.cancel_anywhere(task).await {
    ///     Ok(true) => println!("its undos run"),
    ///     Ok(false) => println!("it was about to end anyway"),
    ///     Err(why) => println!("{why}"), // no process has a task 17: it has ended, or it was never submitted
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AnywhereError`].
    ///
    /// # Cancel safety
    /// Once polled, the decision may be carried out, whether this future completes or not.
    pub async fn cancel_anywhere(&self, task: TaskId) -> Result<bool, AnywhereError> {
        let answer = self
            .shared()
            .decide_anywhere(task, Decision::Cancel)
            .await?;
        was_decided(answer)
    }

    /// Cancels the task that has this key, in whichever process it is. `false` if there is none in flight.
    ///
    /// # Errors
    /// [`AnywhereError`].
    ///
    /// # Cancel safety
    /// As [`cancel_anywhere`](Self::cancel_anywhere).
    pub async fn cancel_key_anywhere(&self, key: &str) -> Result<bool, AnywhereError> {
        match self.shared().find_anywhere(key).await? {
            None => Ok(false),
            Some(task) => match self.cancel_anywhere(task).await {
                Err(AnywhereError::NoSuchTask(_)) => Ok(false),
                other => other,
            },
        }
    }

    /// The place where the task with this key is now, in whichever process, as [`status`](Self::status) says it of
    /// this one's. Of another process's task it is what was last recorded, without progress.
    ///
    /// # Errors
    /// [`AnywhereError::Closed`], [`AnywhereError::Suspended`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn status_anywhere(&self, key: &str) -> Result<TaskStatus, AnywhereError> {
        self.shared().status_anywhere(key).await
    }

    /// The [stuck](Self::stuck) tasks of all processes, by their numbers.
    ///
    /// # Errors
    /// [`AnywhereError::Closed`], [`AnywhereError::Suspended`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn stuck_anywhere(&self) -> Result<Vec<Stuck>, AnywhereError> {
        self.shared().stuck_anywhere().await
    }

    /// Has the undos that are left of a stuck task run again, as [`retry`](Self::retry) does, in whichever process
    /// it is.
    ///
    /// # Errors
    /// [`AnywhereError`]; the task stays as it was.
    ///
    /// # Cancel safety
    /// As [`cancel_anywhere`](Self::cancel_anywhere).
    pub async fn retry_anywhere(&self, task: TaskId) -> Result<(), AnywhereError> {
        let answer = self.shared().decide_anywhere(task, Decision::Retry).await?;
        was_stuck(task, answer)
    }

    /// Takes a task off the list of stuck ones, as [`resolve`](Self::resolve) does, in whichever process it is.
    ///
    /// # Errors
    /// [`AnywhereError`]; the task stays as it was.
    ///
    /// # Cancel safety
    /// As [`cancel_anywhere`](Self::cancel_anywhere).
    pub async fn resolve_anywhere(&self, task: TaskId) -> Result<(), AnywhereError> {
        let answer = self
            .shared()
            .decide_anywhere(task, Decision::Resolve)
            .await?;
        was_stuck(task, answer)
    }
}

pub(super) fn was_decided(answer: Answer) -> Result<bool, AnywhereError> {
    match answer {
        Answer::Done => Ok(true),
        Answer::Ended => Ok(false),
        Answer::Refused(why) => Err(AnywhereError::Refused(why)),
    }
}

pub(super) fn was_stuck(task: TaskId, answer: Answer) -> Result<(), AnywhereError> {
    match was_decided(answer)? {
        true => Ok(()),
        false => Err(AnywhereError::NoSuchTask(task)),
    }
}
