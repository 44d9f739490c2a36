//! Tasks wherever they are: the part of a [`Control`] that reaches other processes.

use super::{
    super::anywhere::{was_decided, was_stuck},
    Control,
};
use crate::{
    error::AnywhereError,
    journal::Decision,
    task::{Stuck, TaskId, TaskStatus},
};

/// With a journal [in a database](crate::guide::database), these reach the tasks of all processes that run
/// the pipeline. While they wait, this process's part of it is kept.
impl Control {
    /// As [`PipelineHandle::status_anywhere`](crate::PipelineHandle::status_anywhere).
    ///
    /// # Errors
    /// [`AnywhereError::Closed`], [`AnywhereError::Suspended`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn status_anywhere(&self, key: &str) -> Result<TaskStatus, AnywhereError> {
        let shared = self.shared().ok_or(AnywhereError::Closed)?;
        shared.status_anywhere(key).await
    }

    /// As [`PipelineHandle::stuck_anywhere`](crate::PipelineHandle::stuck_anywhere).
    ///
    /// # Errors
    /// [`AnywhereError::Closed`], [`AnywhereError::Suspended`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn stuck_anywhere(&self) -> Result<Vec<Stuck>, AnywhereError> {
        let shared = self.shared().ok_or(AnywhereError::Closed)?;
        shared.stuck_anywhere().await
    }

    /// As [`PipelineHandle::cancel_anywhere`](crate::PipelineHandle::cancel_anywhere).
    ///
    /// # Errors
    /// [`AnywhereError`].
    ///
    /// # Cancel safety
    /// Once polled, the decision may be carried out, whether this future completes or not.
    pub async fn cancel_anywhere(&self, task: TaskId) -> Result<bool, AnywhereError> {
        let shared = self.shared().ok_or(AnywhereError::Closed)?;
        was_decided(shared.decide_anywhere(task, Decision::Cancel).await?)
    }

    /// As [`PipelineHandle::retry_anywhere`](crate::PipelineHandle::retry_anywhere).
    ///
    /// # Errors
    /// [`AnywhereError`]; the task stays as it was.
    ///
    /// # Cancel safety
    /// As [`cancel_anywhere`](Self::cancel_anywhere).
    pub async fn retry_anywhere(&self, task: TaskId) -> Result<(), AnywhereError> {
        let shared = self.shared().ok_or(AnywhereError::Closed)?;
        was_stuck(task, shared.decide_anywhere(task, Decision::Retry).await?)
    }

    /// As [`PipelineHandle::resolve_anywhere`](crate::PipelineHandle::resolve_anywhere).
    ///
    /// # Errors
    /// [`AnywhereError`]; the task stays as it was.
    ///
    /// # Cancel safety
    /// As [`cancel_anywhere`](Self::cancel_anywhere).
    pub async fn resolve_anywhere(&self, task: TaskId) -> Result<(), AnywhereError> {
        let shared = self.shared().ok_or(AnywhereError::Closed)?;
        was_stuck(task, shared.decide_anywhere(task, Decision::Resolve).await?)
    }
}
