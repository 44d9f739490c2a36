//! The error of a change that could not be recorded.

use std::{fmt, sync::Arc};

use crate::task::TaskId;

/// The error of a change that could not be recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct LedgerError {
    text: Arc<str>,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nothing can be recorded any more.
    Broken,
    /// This change can't be recorded; others can.
    Refused,
    /// The key is this task's.
    Known(TaskId),
    /// The key is that of a task with another context.
    #[cfg(feature = "journal")]
    Conflict(TaskId),
}

impl LedgerError {
    /// Nothing can be recorded any more, with a text for people: the pipeline is suspended.
    pub fn new(text: impl fmt::Display) -> Self {
        Self::of(Why::Broken, text)
    }

    /// This change can't be recorded, a value that can't be encoded, say; others can. Fails what
    /// the change is part of: the `submit`, the `on_cancel`, the task whose stage has returned it.
    pub fn refused(text: impl fmt::Display) -> Self {
        Self::of(Why::Refused, text)
    }

    /// A task can't be accepted because its key is that of another one.
    pub fn known(task: TaskId) -> Self {
        Self::of(Why::Known(task), format_args!("task {task} has this key"))
    }

    /// A task can't be accepted because its key is that of one with another context.
    #[cfg(feature = "journal")]
    pub(crate) fn conflict(task: TaskId) -> Self {
        let text = format_args!("task {task} has this key, and was submitted with another context");
        Self::of(Why::Conflict(task), text)
    }

    fn of(why: Why, text: impl fmt::Display) -> Self {
        let text = text.to_string().into();
        LedgerError { text, why }
    }

    pub(crate) fn text(&self) -> Arc<str> {
        self.text.clone()
    }

    pub(crate) fn why(&self) -> Why {
        self.why
    }

    /// Other changes can be recorded all the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.why != Why::Broken
    }
}
