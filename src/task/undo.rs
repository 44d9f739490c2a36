//! What takes a task's effects back, as the task's record holds it.

use std::{any::Any, fmt::Debug};

use super::StageIx;
use crate::Failure;

/// An undo of any stage. Its type is known to that stage's pool.
pub(crate) trait AnyUndo: Send {
    fn duplicate(&self) -> Box<dyn Any>;
    fn debug(&self) -> String;
}

impl<U: Clone + Debug + Send + 'static> AnyUndo for U {
    fn duplicate(&self) -> Box<dyn Any> {
        Box::new(self.clone())
    }

    fn debug(&self) -> String {
        format!("{self:?}")
    }
}

#[derive(Clone, Debug)]
pub(crate) enum UndoStatus {
    Registered,
    /// The effect surely did not happen: nothing to take back.
    Withdrawn,
    Cancelled,
    /// Its cancel was tried as often as its policy says.
    Failed(Failure),
}

pub(crate) struct Undo {
    pub(crate) stage: StageIx,
    /// The attempt that registered it: a clean-up between attempts takes back that one's alone.
    pub(crate) attempt: u32,
    /// Which of this task's works in that stage it belongs to; see [`Key`](super::Key).
    pub(crate) generation: u32,
    /// Out of its place only while a worker copies it: copying is the user's code, and that runs
    /// under no lock.
    pub(crate) value: Option<Box<dyn AnyUndo>>,
    pub(crate) status: UndoStatus,
    /// How often its cancel was started.
    pub(crate) tries: u32,
}
