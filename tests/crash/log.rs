//! The log of effects: what the outside world has seen, a line each.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use batrun::{
    Outcome,
    error::FailureKind,
    state::{End, Rollback, StopCause},
};
use serde::{Deserialize, Serialize};

/// A line of it. A line that says that something returned is written afterwards, any other one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Line {
    /// A process begins.
    Boot {
        run: u32,
        rolls_back: bool,
        /// It tries stuck tasks again by itself.
        retries: bool,
    },
    /// A task is about to be submitted.
    Ask { number: u64 },
    /// Its `submit` returned.
    Submitted { number: u64, task: u64 },
    /// A stage was called.
    Start(Start),
    /// It is about to register an undo.
    Wants(Undo),
    /// Its `on_cancel` returned.
    Has(Undo),
    /// The effect that this undo takes back.
    Did(Undo),
    /// The undo is about to be withdrawn.
    Leaves(Undo),
    /// Its `withdraw` returned.
    Left(Undo),
    /// The call is about to return its result.
    Passes { number: u64 },
    /// The call is about to fail, or to panic.
    Fails { number: u64, for_good: bool },
    /// The stage's `cancel` was called.
    Back {
        undo: Undo,
        task: u64,
        attempt: u32,
        generation: u32,
    },
    /// It took the effect back.
    Undone(Undo),
    /// It did not.
    NotUndone(Undo),
    /// It is about to be cancelled by its key.
    Stops { number: u64 },
    /// A `cancel` returned.
    Stop { number: u64, took: bool },
    /// It is about to be taken back, or its undos that are left to be tried again.
    Reopens { number: u64, how: Reopen },
    /// That is recorded.
    Reopened { number: u64, task: u64, how: Reopen },
    /// That was refused.
    Stays { number: u64, how: Reopen },
    /// Its key is about to be forgotten.
    Forgets { number: u64 },
    /// Its key is forgotten.
    Forgot { number: u64 },
    /// That was refused.
    Keeps { number: u64 },
    /// An outcome, from a ticket or the stream of outcomes.
    Out { task: u64, told: Told },
    /// An outcome, from `outcome_of`: the one that counts.
    Now { number: u64, task: u64, told: Told },
    /// The same, in the end.
    Kept { number: u64, task: u64, told: Told },
    /// `outcome_of` knew of none.
    Nothing { number: u64 },
    /// It is in the list of stuck tasks in the end.
    Stuck { task: u64 },
    /// The last process saw everything done.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) number: u64,
    pub(crate) task: u64,
    pub(crate) stage: u16,
    pub(crate) attempt: u32,
    /// The last part of `task.key()`.
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reopen {
    TakeBack,
    Retry,
}

/// An undo that a stage registers. No other one is equal to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    pub(crate) number: u64,
    pub(crate) stage: u16,
    pub(crate) run: u32,
    pub(crate) attempt: u32,
    pub(crate) nth: u32,
}

/// An outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) end: How,
    pub(crate) went: Went,
    /// All of it, as it is shown.
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Done,
    Error,
    Permanent,
    Panic,
    Interrupted,
    Quarantined,
    TimedOut,
    User,
    Recovery,
    TakenBack,
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Went {
    /// This many undos ran.
    Back(usize),
    /// These are left, as they are shown.
    Stuck(Vec<String>),
}

impl Told {
    pub(crate) fn of<O>(outcome: &Outcome<O>) -> Self {
        let end = match &outcome.end {
            End::Done => How::Done,
            End::TakenBack => How::TakenBack,
            End::TimedOut { .. } => How::TimedOut,
            End::Cancelled { cause, .. } => match cause {
                StopCause::User => How::User,
                StopCause::Recovery => How::Recovery,
                _ => How::Other,
            },
            End::Failed { failure, .. } => match failure.kind() {
                FailureKind::Error => How::Error,
                FailureKind::Permanent => How::Permanent,
                FailureKind::Panic => How::Panic,
                FailureKind::Interrupted => How::Interrupted,
                FailureKind::Quarantined => How::Quarantined,
                _ => How::Other,
            },
            _ => How::Other,
        };
        let went = match &outcome.rollback {
            Rollback::Complete { undos } => Went::Back(*undos),
            Rollback::Stuck(stuck) => {
                Went::Stuck(stuck.undos.iter().map(|left| left.undo.clone()).collect())
            }
            _ => Went::Back(0),
        };
        let text = outcome.to_string();
        Told { end, went, text }
    }
}

/// A file that any thread writes lines to.
#[derive(Clone)]
pub(crate) struct Log {
    file: Arc<File>,
    /// Each line is synced to the disk.
    synced: bool,
}

impl Log {
    pub(crate) fn open(path: &Path, synced: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Log {
            file: Arc::new(file),
            synced,
        })
    }

    /// Writes a line: once this has returned, no kill takes it back.
    pub(crate) fn note(&self, line: &Line) {
        // A kill can cut a write short where the page ends. The next line, perhaps of another
        // thread, must not be taken for its rest.
        let mut text = vec![b'\n'];
        let written = serde_json::to_writer(&mut text, line)
            .map_err(io::Error::other)
            .and_then(|()| {
                text.push(b'\n');
                (&*self.file).write_all(&text)
            })
            .and_then(|()| match self.synced {
                true => self.file.sync_data(),
                false => Ok(()),
            });
        if let Err(error) = written {
            // Nothing may follow from what is not in the log.
            eprintln!("the log can't be written: {error}");
            std::process::abort();
        }
    }
}

/// The lines of a log. A line that a kill has cut short did not happen.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
