//! The undos of a task, as its record holds them.

use std::{
    any::Any,
    fmt::Debug,
    ops::{Deref, DerefMut},
};

use super::state::StageIx;
use crate::{failure::Failure, panic_guard};

/// An undo of any stage. Its type is known to that stage's pool.
pub(crate) trait AnyUndo: Send {
    fn duplicate(&self) -> Box<dyn Any>;
    fn debug(&self) -> String;
    /// It may be dropped anywhere, since no code of the user's runs then.
    fn is_plain(&self) -> bool;
    /// Takes the value out of an `Option<U>` in place of its own, if that is plain and of its type.
    fn refill(&mut self, value: &mut dyn Any) -> bool;
}

impl<U: Clone + Debug + Send + 'static> AnyUndo for U {
    fn duplicate(&self) -> Box<dyn Any> {
        Box::new(self.clone())
    }

    fn debug(&self) -> String {
        format!("{self:?}")
    }

    fn is_plain(&self) -> bool {
        !std::mem::needs_drop::<U>()
    }

    fn refill(&mut self, value: &mut dyn Any) -> bool {
        match value.downcast_mut::<Option<U>>() {
            Some(value) if !std::mem::needs_drop::<U>() => match value.take() {
                Some(value) => {
                    *self = value;
                    true
                }
                None => false,
            },
            _ => false,
        }
    }
}

/// Number of boxes of plain undos that a record keeps for the tasks to come: as many as most tasks register.
const KEPT: usize = 4;

/// A task's undos, in the order of registration, and what they were kept in before.
#[derive(Default)]
pub(crate) struct Undos {
    list: Vec<Undo>,
    /// Boxes of plain values, for the next task's: the first one's last.
    kept: Vec<Box<dyn AnyUndo>>,
}

impl Undos {
    /// Puts a value into a box, one that is there if it fits.
    pub(crate) fn boxed<U: Clone + Debug + Send + 'static>(
        kept: Option<Box<dyn AnyUndo>>,
        undo: U,
    ) -> Box<dyn AnyUndo> {
        let mut undo = Some(undo);
        if let Some(mut kept) = kept
            && kept.refill(&mut undo)
        {
            return kept;
        }
        match undo {
            Some(undo) => Box::new(undo),
            // `refill` has taken it and said so.
            None => unreachable!("an undo was taken by no box"),
        }
    }

    /// A box that may fit the next one.
    pub(crate) fn kept(&mut self) -> Option<Box<dyn AnyUndo>> {
        self.kept.pop()
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Vec<Undo> {
        std::mem::take(&mut self.list)
    }

    /// Takes everything out: what must not be dropped under a lock goes to `scrap`.
    pub(crate) fn clear(&mut self, scrap: &mut Vec<Undo>) {
        self.kept.clear();
        for mut undo in self.list.drain(..).rev() {
            match undo.value.take() {
                Some(value) if value.is_plain() => {
                    if self.kept.len() < KEPT {
                        self.kept.push(value);
                    }
                    if !matches!(undo.status, UndoStatus::Failed(_)) {
                        continue;
                    }
                }
                value => undo.value = value,
            }
            scrap.push(undo);
        }
    }
}

/// Of a task that was suspended they go with the last handle, where nobody expects them.
impl Drop for Undos {
    fn drop(&mut self) {
        self.list.drain(..).for_each(panic_guard::drop_quietly);
    }
}

impl Deref for Undos {
    type Target = Vec<Undo>;

    fn deref(&self) -> &Vec<Undo> {
        &self.list
    }
}

impl DerefMut for Undos {
    fn deref_mut(&mut self) -> &mut Vec<Undo> {
        &mut self.list
    }
}

#[derive(Clone, Debug)]
pub(crate) enum UndoStatus {
    Registered,
    /// The effect surely did not happen: nothing to take back.
    Withdrawn,
    /// It has run.
    Undone,
    /// Its last try failed. It may be tried again.
    Failed(Failure),
}

pub(crate) struct Undo {
    pub(crate) stage: StageIx,
    /// The attempt that registered it: a clean-up between attempts takes back that one's alone.
    pub(crate) attempt: u32,
    /// The number of this task's work in that stage that it belongs to; see [`Key`](super::Key).
    pub(crate) generation: u32,
    /// `None` while it is being recorded, copied or printed: that is the user's code, and runs under no
    /// lock.
    pub(crate) value: Option<Box<dyn AnyUndo>>,
    pub(crate) status: UndoStatus,
    /// Number of times that it was started.
    pub(crate) tries: u32,
}

impl Undo {
    /// This attempt of this stage has registered it.
    pub(crate) fn is_of(&self, stage: StageIx, attempt: u32) -> bool {
        self.stage == stage && self.attempt == attempt
    }
}
