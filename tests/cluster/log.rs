//! The log of effects, outside the database: a file for each process, a line for each thing that it did.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

/// A line that says that something returned is written afterwards, any other one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Line {
    /// A task is about to be submitted.
    Ask { number: u64 },
    /// Its `submit` returned. `known` says that the task was another submit's.
    Submitted { number: u64, task: u64, known: bool },
    /// A stage was called.
    Start(Start),
    /// It is about to register an undo.
    Wants(Undo),
    /// Its `on_cancel` returned, and the effect was made.
    Did(Undo),
    /// Its `on_cancel` was refused.
    Refused(Undo),
    /// The stage's `cancel` took the effect back.
    Undone(Undo),
    /// An outcome, from the stream of outcomes.
    Out { task: u64, text: String },
    /// An outcome, from `outcome_of` in the end.
    Kept { number: u64, told: Told },
    /// `outcome_of` knew of none in the end.
    Nothing { number: u64 },
    /// The pipeline has suspended itself, for this reason.
    Suspended(String),
    /// The process has ended as it was told to.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) number: u64,
    pub(crate) task: u64,
    pub(crate) stage: u16,
    pub(crate) attempt: u32,
}

/// An undo that a stage registers. No other one is equal to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Undo {
    pub(crate) number: u64,
    pub(crate) stage: u16,
    pub(crate) process: u32,
    pub(crate) attempt: u32,
    pub(crate) nth: u32,
}

/// An outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) task: u64,
    pub(crate) is_done: bool,
    /// All of it, as it is shown.
    pub(crate) text: String,
    /// The undos that are stuck, as they are shown.
    pub(crate) stuck: Vec<String>,
}

/// A line, and its time in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) line: Line,
}

/// A file that any thread writes lines to.
#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

/// The time in microseconds since 1970.
pub(crate) fn time() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    time.unwrap().as_micros() as u64
}

impl Log {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Log(Arc::new(file)))
    }

    /// Writes a line: once this has returned, no kill takes it back.
    pub(crate) fn note(&self, line: Line) {
        let entry = Entry { at: time(), line };
        // A kill can cut a write short, and the next line must not be taken for its rest.
        let mut text = vec![b'\n'];
        let written = serde_json::to_writer(&mut text, &entry)
            .map_err(io::Error::other)
            .and_then(|()| {
                text.push(b'\n');
                (&*self.0).write_all(&text)
            });
        if let Err(error) = written {
            // Nothing may follow from what is not in the log.
            eprintln!("the log can't be written: {error}");
            std::process::abort();
        }
    }
}

/// The lines of a file. A line that a kill has cut short did not happen.
pub(crate) fn entries(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
