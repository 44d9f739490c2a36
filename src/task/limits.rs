//! The time limits that a task is submitted with.

use crate::clock::{NEVER, Nanos};

/// The limits of a task; [`NEVER`] stands for none.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// From its acceptance.
    pub(crate) timeout: Nanos,
    pub(crate) deadline: Nanos,
    /// From the moment the first stage takes it up.
    pub(crate) work_timeout: Nanos,
    /// Its ticket wants the last stage's output.
    pub(crate) wants_output: bool,
}

impl Limits {
    pub(crate) fn none(wants_output: bool) -> Self {
        Limits {
            timeout: NEVER,
            deadline: NEVER,
            work_timeout: NEVER,
            wants_output,
        }
    }

    /// The deadline of a task that is accepted now. The earliest limit holds.
    #[inline]
    pub(crate) fn deadline_from(&self, now: Nanos) -> Nanos {
        now.saturating_add(self.timeout).min(self.deadline)
    }
}
