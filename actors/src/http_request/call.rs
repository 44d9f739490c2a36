//! The call that a request is made for.

use batrun::state::TaskId;

/// The call of an [`HttpRequest`](super::HttpRequest) that a request is made for.
#[derive(Clone, Copy, Debug)]
pub struct HttpCall<'a> {
    pub(super) key: &'a str,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
}

impl HttpCall<'_> {
    /// The value of the stage's `Idempotency-Key` header, with its prefix. In the URL or body of an
    /// undo's request it names what is taken back; the header of that request has `/cancel` after it.
    ///
    /// It is the same for each attempt, until an undo of the stage has run. It is visible ASCII, with
    /// slashes: in a URL it makes several segments.
    pub fn key(&self) -> &str {
        self.key
    }

    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.task
    }

    /// The number of this attempt of the stage, from 1. Requests that are sent again with
    /// [`key_until_known`](super::HttpRequest::key_until_known) are of the same attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
