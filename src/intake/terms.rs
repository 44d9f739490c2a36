//! The limits that a task is submitted with.

use crate::{
    clock::{NEVER, Nanos},
    task::Admission,
};

/// What a task is submitted with; [`NEVER`] for what isn't limited.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(super) timeout: Nanos,
    pub(super) deadline: Nanos,
    pub(super) work_timeout: Nanos,
    wants_output: bool,
}

impl Terms {
    /// `wants_output`: the ticket wants the last stage's output.
    pub(crate) fn new(wants_output: bool) -> Self {
        Terms {
            timeout: NEVER,
            deadline: NEVER,
            work_timeout: NEVER,
            wants_output,
        }
    }

    #[inline]
    pub(super) fn admission(&self, now: Nanos, count: u64) -> Admission {
        Admission {
            deadline: now.saturating_add(self.timeout).min(self.deadline),
            work_timeout: self.work_timeout,
            wants_output: self.wants_output,
            count,
        }
    }
}
