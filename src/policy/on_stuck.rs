//! What a rollback does when an undo can't be cancelled.

/// What a task's rollback does once one of this stage's undos failed to be cancelled as often as
/// its policy allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStuck {
    /// Cancel the remaining undos, then try those that failed once more, in the same order: a
    /// later cancel may have cleared what stood in their way.
    #[default]
    Continue,
    /// Stop there: what is left, this undo first, is stuck and waits for a person.
    Halt,
}
