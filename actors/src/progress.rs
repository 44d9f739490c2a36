//! The place up to which a producer has read, and the one up to which its tasks are accepted.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A place in an input, between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// Number of lines before it.
    pub line: u64,
    /// Number of bytes before it, counted from where reading began. 0 for as long as
    /// [`from_line`](crate::Lines::from_line) has not been reached.
    pub byte: u64,
}

impl fmt::Display for Position {
    /// `line 12 (byte 345)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {})", self.line, self.byte)
    }
}

/// Says how far a [`Lines`](crate::Lines) or [`Csv`](crate::Csv) has got, while it runs and
/// afterwards. Made by [`Lines::progress`](crate::Lines::progress) and
/// [`Csv::progress`](crate::Csv::progress).
///
/// Tasks are accepted in the order of their lines, so one place tells of every line whether it was:
/// those up to [`accepted`](Self::accepted) were, if they were not bad; those after it were not,
/// though they may have been [`read`](Self::read). If the pipeline has a journal, one more may be:
/// the line whose `submit` was dropped by the shutdown while it was recorded. With
/// [`resume`](crate::Lines::resume) that line's key keeps it from being done twice.
///
/// Clones share one state. It takes a lock for a moment.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    pub(crate) read: Position,
    pub(crate) accepted: Position,
    pub(crate) tasks: u64,
    pub(crate) known: u64,
    pub(crate) bad: u64,
}

impl Progress {
    /// Every line up to here was read.
    pub fn read(&self) -> Position {
        self.state().read
    }

    /// Every line up to here is dealt with: it is a task that was accepted, a bad line, or one before
    /// [`from_line`](crate::Lines::from_line). Begin with the line after it to go on.
    pub fn accepted(&self) -> Position {
        self.state().accepted
    }

    /// Number of lines or rows that were accepted as tasks by this run.
    pub fn tasks(&self) -> u64 {
        self.state().tasks
    }

    /// Number of lines or rows that an earlier run had submitted, which are passed over. Always 0
    /// without [`resume`](crate::Lines::resume).
    pub fn known(&self) -> u64 {
        self.state().known
    }

    /// Number of bad lines or rows that were read.
    pub fn bad(&self) -> u64 {
        self.state().bad
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // No code of the user's runs under it, so what it holds is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State {
            read,
            accepted,
            tasks,
            known,
            bad,
        } = *self.state();
        f.debug_struct("Progress")
            .field("read", &read)
            .field("accepted", &accepted)
            .field("tasks", &tasks)
            .field("known", &known)
            .field("bad", &bad)
            .finish()
    }
}
