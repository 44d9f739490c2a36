//! Runs and cancels that a test has made twice, as data.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::panic_guard;

/// Runs or cancels that a pipeline makes twice, put into it with [`Pipeline::repeat`](crate::Pipeline::repeat).
///
/// Clones share what [`happened`](Self::happened).
#[derive(Clone, Debug, Default)]
pub struct Repeat {
    pub(super) runs: bool,
    pub(super) cancels: bool,
    pub(super) seen: Arc<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) runs: AtomicU64,
    pub(super) cancels: AtomicU64,
    /// The first cancel that failed when it was called again.
    pub(super) refused: Mutex<Option<String>>,
}

impl Repeat {
    /// Nothing is repeated.
    pub fn nothing() -> Self {
        Repeat::default()
    }

    /// Every first attempt that succeeds is taken back and made again, as after a crash that fell
    /// between its effect and the record of it: its result is thrown away, its undos run,
    /// and the stage runs once more. Attempts count on, and the delays between them are left out.
    ///
    /// Needs every stage to have [`retry`](crate::IntoWork::retry), be it with
    /// [`Retry::none`](crate::Retry::none), which says that its input can be copied.
    pub fn runs() -> Self {
        Repeat {
            runs: true,
            ..Repeat::default()
        }
    }

    /// Every cancel that succeeds is called again with the same undo.
    pub fn cancels() -> Self {
        Repeat {
            cancels: true,
            ..Repeat::default()
        }
    }

    /// Both runs and cancels.
    pub fn both() -> Self {
        Repeat {
            runs: true,
            cancels: true,
            ..Repeat::default()
        }
    }

    /// The numbers of runs and of cancels that were repeated.
    pub fn happened(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (count(&self.seen.runs), count(&self.seen.cancels))
    }

    /// The first cancel that succeeded and then failed when it was called again, and why.
    pub fn refused(&self) -> Option<String> {
        panic_guard::lock(&self.seen.refused).clone()
    }

    /// `true` if each kind of call that it repeats was repeated at least once.
    pub(crate) fn is_tried(&self) -> bool {
        let (runs, cancels) = self.happened();
        (!self.runs || runs > 0) && (!self.cancels || cancels > 0)
    }
}

impl fmt::Display for Repeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.runs, self.cancels) {
            (false, false) => "nothing repeated",
            (true, false) => "every run repeated",
            (false, true) => "every cancel repeated",
            (true, true) => "every run and cancel repeated",
        })
    }
}
