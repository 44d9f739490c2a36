//! The errors of registering an undo.

use std::sync::Arc;

use crate::task::TaskId;

/// The error of [`TaskContext::on_cancel`](crate::TaskContext::on_cancel): the effect must not take
/// place. `?` makes it a [`Failure`](crate::Failure).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The task is late or cancelled. The undo is part of its rollback all the same, unless a
    /// shutdown had given the task up by then.
    #[error("task {0} is being stopped, so the effect must not take place")]
    Stopping(TaskId),
    /// The task has registered as many undos as [`max_undos`](crate::Pipeline::max_undos) allows;
    /// this one is not recorded.
    #[error("task {task} has registered {limit} undos already")]
    TooMany {
        /// The task.
        task: TaskId,
        /// The number of undos that a task may register.
        limit: usize,
    },
    /// The undo could not be recorded: it can't be encoded, or nothing can be recorded any more, and
    /// the pipeline stops where it is.
    #[error("the undo could not be recorded: {0}")]
    Unrecorded(Arc<str>),
}
