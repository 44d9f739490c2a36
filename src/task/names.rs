//! The names of a task beside its number: its key and its label.

use std::{fmt, sync::Arc};

use super::{id::TaskId, trace::Trace};
use crate::text::{cut, one_line};

/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 64;

/// The names of a task beside its number. Most tasks have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// The ledger finds the task by it.
    pub(crate) key: Option<Arc<str>>,
    /// For people.
    pub(crate) label: Option<Arc<str>>,
    /// For spans.
    pub(crate) trace: Trace,
}

impl Names {
    /// Sets the label, cut to its size. An empty one is none.
    pub(crate) fn set_label(&mut self, label: &str) {
        let label = cut(label, MAX_LABEL_BYTES);
        self.label = (!label.is_empty()).then(|| label.into());
    }

    /// Says in the span of the submit which task it is.
    pub(crate) fn tell_trace(&self, _task: TaskId) {
        #[cfg(feature = "tracing")]
        if let Some(span) = self.trace.span() {
            span.record("messaging.message.id", _task.0);
            span.record("messaging.message.conversation_id", self.key.as_deref());
        }
    }

    /// In a box, if there are any.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self.key.is_some() || self.label.is_some() || self.trace.is_some()).then(|| Box::new(self))
    }
}

/// A task as people are told of it: `4 "ada" (key order-17)`. Both names are the user's text, so
/// they are printed on one line, without control characters.
pub(crate) struct Named<'a> {
    pub(crate) task: TaskId,
    pub(crate) key: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.task)?;
        if let Some(label) = self.label {
            write!(f, " \"{}\"", one_line(label))?;
        }
        if let Some(key) = self.key {
            write!(f, " (key {})", one_line(key))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d08_a_label_is_cut_between_two_characters() {
        let mut names = Names::default();
        names.set_label(&"é".repeat(40));
        assert_eq!(names.label.as_deref(), Some(&*"é".repeat(32)));
        names.set_label(&format!("a{}", "é".repeat(40)));
        assert_eq!(names.label.as_deref().map(str::len), Some(63));
        names.set_label("");
        assert_eq!(names, Names::default());
        assert!(names.boxed().is_none());
    }
}
