//! Rules for the keys of tasks that have ended.

/// The tasks whose key stays taken once they have ended, see [`Journal::key_for`](super::Journal::key_for).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All of them, whatever their end is.
    #[default]
    Any,
    /// Those that are done. A task that failed, ran late or was cancelled gives its key back with its
    /// outcome, unless it is stuck, and so does one that was taken back.
    Done,
}

/// The rules of one journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRules {
    pub(super) taken_by: Ended,
    /// The same key with another context is refused.
    pub(super) same_context: bool,
}

impl Default for KeyRules {
    fn default() -> Self {
        KeyRules {
            taken_by: Ended::Any,
            same_context: true,
        }
    }
}
