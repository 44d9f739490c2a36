//! The way a start treats the tasks that its journal has.

/// The way [`start`](crate::Pipeline::start) treats tasks that an earlier process had accepted and
/// not brought to an end. Set with `Pipeline::recovery`.
///
/// In both modes a rollback that was under way goes on with the first undo whose run was not
/// recorded, and a task whose deadline has passed meanwhile is rolled back.
///
/// Default: [`Resume`](Self::Resume).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// They go on. A stage that was at work starts again, once the undos of its interrupted attempt
    /// have run; that attempt doesn't count as one of its
    /// [tries](crate::IntoWork::retry). A task whose stage was at work at three kills fails; see
    /// `Pipeline::crash_limit`.
    #[default]
    Resume,
    /// They are cancelled and rolled back. In a database, tasks that no process has begun or kept go on: those that
    /// were only submitted, and those that a process left to the others.
    RollBack,
}
