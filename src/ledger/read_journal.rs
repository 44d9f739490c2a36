//! The seam for looking into a journal beside the pipeline that writes it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    cluster::JournalCluster,
    past::{PastCursor, PastOutcome, PastPage},
};

/// The place in which a journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalKind {
    /// A file of this machine.
    File,
    /// A database that several processes may share.
    Database,
}

/// The size of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalSize {
    /// The bytes of its file with its log, or of its tables with their indexes.
    pub bytes: u64,
    /// The number of outcomes that are kept.
    pub outcomes_kept: u64,
    /// The number of nodes that live; `None` for a file.
    pub nodes_alive: Option<u64>,
}

/// A journal that can't be read, with a text for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableJournal(pub(crate) String);

/// Looks into a journal. It is opened for each question, and closed again: as long as a reader is there, old rows and
/// the log of a file are kept. All calls block.
pub(crate) trait ReadJournal: Send + Sync {
    fn kind(&self) -> JournalKind;

    /// The file, or the database without its password.
    fn place(&self) -> String;

    fn page(&self, before: Option<PastCursor>, limit: usize)
    -> Result<PastPage, UnreadableJournal>;

    fn outcome_of(&self, key: &str) -> Result<Option<PastOutcome>, UnreadableJournal>;

    fn size(&self) -> Result<JournalSize, UnreadableJournal>;

    /// None for a file.
    fn cluster(&self) -> Result<Option<JournalCluster>, UnreadableJournal>;

    /// The time until this process's lease runs out; `None` for a file, or once the process has left.
    fn lease_left(&self) -> Option<Duration> {
        None
    }

    /// The times that commits took, in nanoseconds, and their sum.
    fn commit_times(&self) -> Option<(Histogram<u64>, u64)>;
}
