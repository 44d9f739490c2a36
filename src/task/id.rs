//! The number of a task, and the key of its work in a stage.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A task's number within its pipeline: unique, and in the order of acceptance for the tasks of one
/// producer. With a single one, 1, 2, 3 and so on; several producers get their numbers in blocks, so
/// that theirs interleave, with gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl TaskId {
    /// A process that shares its journal with others gives out the numbers of one series: those with the same
    /// bits above these.
    pub(crate) const SERIES_BITS: u32 = 36;

    /// The series of this number.
    pub(crate) fn series(self) -> u64 {
        self.0 >> Self::SERIES_BITS
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name for one task's work in one stage, for systems that ask for an idempotency key.
///
/// Stable over retries; it changes once one of that stage's undos has run, because from
/// then on the work is new work. Prints as `pipeline/task/stage/generation`.
///
/// With a journal it is unique among all runs on that journal, and a new journal never repeats the keys of an
/// old one: it has a random number of 64 bits, and the key prints as
/// `pipeline-0123456789abc/task/stage/generation`. Journals of earlier checkouts have none and go on without.
/// Without a journal tasks are counted anew in each run, so it is unique within one run: add something of
/// your own where an effect outlives the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its name, with its journal's number.
    pub(crate) pipeline: Arc<str>,
    pub(crate) task: TaskId,
    pub(crate) stage: Arc<str>,
    pub(crate) generation: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.pipeline, self.task, self.stage, self.generation
        )
    }
}
