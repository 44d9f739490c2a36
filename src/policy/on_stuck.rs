//! The way a rollback goes on after an undo has failed for good.

/// The way a rollback goes on after an undo of this stage has failed as often as its
/// [policy](crate::IntoWork::cancel_retry) allows. Set with [`on_stuck`](crate::IntoWork::on_stuck).
///
/// Default: [`Continue`](Self::Continue).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStuck {
    /// The remaining undos run; then those that failed get one more try, in the same order. A later
    /// undo may have cleared what stood in their way. What fails again is stuck.
    #[default]
    Continue,
    /// The rollback stops there. This undo and all after it are stuck and wait for a person.
    Halt,
}
