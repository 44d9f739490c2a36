//! A pipeline's journal, for those who look after it.

use std::{fmt, sync::Arc, time::Duration};

use super::times::{TimeHistogram, histogram};
use crate::ledger::{
    cluster::JournalCluster,
    past::{PastCursor, PastOutcome, PastPage},
    read_journal::{JournalKind, JournalSize, ReadJournal, UnreadableJournal},
};

/// The journal of a pipeline, to look into while it runs and after its end; made by
/// [`Control::journal`](crate::Control::journal). Cheap to clone, and keeps nothing open: the journal is opened for
/// each question, and closed again.
///
/// **All questions block**, on the disk or on the database, so ask them on a thread that may wait.
///
/// ```
/// # use batrun::{Control, report::UnreadableJournal};
/// # fn example(control: &Control) -> Result<(), UnreadableJournal> {
/// if let Some(journal) = control.journal() {
///     let newest = journal.outcomes(None, 50)?;
///     for past in &newest.outcomes {
///         println!("{:?} {}", past.at, past.outcome);
///     }
///     let older = journal.outcomes(newest.next, 50)?;
/// #   let _ = older;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JournalReader(Arc<dyn ReadJournal>);

/// The most outcomes of a page.
const MOST: usize = 200;

impl JournalReader {
    #[cfg_attr(not(feature = "journal"), allow(dead_code))]
    pub(crate) fn new(journal: Arc<dyn ReadJournal>) -> Self {
        JournalReader(journal)
    }

    /// The place in which it is kept. Doesn't block.
    pub fn kind(&self) -> JournalKind {
        self.0.kind()
    }

    /// The path of its file, or its database without the password. Doesn't block.
    pub fn place(&self) -> String {
        self.0.place()
    }

    /// The outcomes that are kept, the newest first: those older than the cursor, or the newest ones without one. At
    /// most `limit` of them, and never more than 200. A damaged block of outcomes counts as one.
    ///
    /// # Errors
    /// The journal can't be read now.
    pub fn outcomes(
        &self,
        before: Option<PastCursor>,
        limit: usize,
    ) -> Result<PastPage, UnreadableJournal> {
        self.0.page(before, limit.clamp(1, MOST))
    }

    /// The outcome of the task that has this [key](crate::submit::Submit::key), if it is kept.
    ///
    /// # Errors
    /// The journal can't be read now, or the outcome is damaged.
    pub fn outcome_of(&self, key: &str) -> Result<Option<PastOutcome>, UnreadableJournal> {
        self.0.outcome_of(key)
    }

    /// The size of the journal. Reads how many outcomes each commit had, so ask seldom.
    ///
    /// # Errors
    /// The journal can't be read now.
    pub fn size(&self) -> Result<JournalSize, UnreadableJournal> {
        self.0.size()
    }

    /// The processes that share the journal; `None` if it is a file, which is one process's. Looks at each task in
    /// the database, so ask seldom.
    ///
    /// # Errors
    /// The journal can't be read now.
    pub fn cluster(&self) -> Result<Option<JournalCluster>, UnreadableJournal> {
        self.0.cluster()
    }

    /// The distribution of the times that commits of this process took. Doesn't block.
    pub fn commit_times(&self) -> TimeHistogram {
        let (times, sum) = self.0.commit_times().unwrap_or_else(|| (histogram(), 0));
        TimeHistogram::new(times, sum)
    }

    /// The time until the lease of this process runs out, as it sees it; `None` for a file, and once the pipeline has
    /// ended. Doesn't block.
    pub fn lease_left(&self) -> Option<Duration> {
        self.0.lease_left()
    }
}

impl fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader")
            .field("kind", &self.kind())
            .field("place", &self.place())
            .finish()
    }
}
