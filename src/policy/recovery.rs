//! What a start does with the tasks that its journal has.

/// What [`start`](crate::Pipeline::start) does with tasks that the process before had accepted and
/// not brought to an end.
///
/// In both modes a rollback that was under way goes on with the first cancel that was not recorded,
/// and a task whose deadline has passed meanwhile is rolled back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// They go on. A stage that was at work is started again, once what its interrupted attempt had
    /// registered is cancelled; that attempt doesn't count as one of its
    /// [tries](crate::IntoWork::retry). A task that was interrupted three times in one stage fails.
    #[default]
    Resume,
    /// They are cancelled: everything that they did is taken back.
    RollBack,
}
