//! The file of a pipeline that may run, for those who look on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

use super::past_pages::PastPages;
use crate::{
    journal::{
        error::JournalError,
        sqlite::{database::Sqlite, path::beside},
        stats::JournalStats,
        store::{Store, StoreError, Writes},
    },
    ledger::{
        cluster::JournalCluster,
        past::{PastCursor, PastOutcome, PastPage},
        read_journal::{JournalKind, JournalSize, ReadJournal, UnreadableJournal},
    },
};

/// Opens the file for each question.
pub(in crate::journal) struct FileReader {
    pub(in crate::journal) path: PathBuf,
    pub(in crate::journal) stats: Arc<JournalStats>,
}

impl FileReader {
    /// Reads, and closes the file again.
    fn read<T>(
        &self,
        read: impl FnOnce(&Sqlite) -> Result<T, StoreError>,
    ) -> Result<T, UnreadableJournal> {
        let mut store = Sqlite::open_read_only(&self.path).map_err(unreadable)?;
        let read = read(&store);
        // A reader must not copy the log into the file, as a clean close does.
        store.close(Writes::Failed);
        read.map_err(|error| unreadable(JournalError::store(&self.path, error)))
    }
}

pub(super) fn unreadable(error: JournalError) -> UnreadableJournal {
    UnreadableJournal(error.to_string())
}

fn bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

impl ReadJournal for FileReader {
    fn kind(&self) -> JournalKind {
        JournalKind::File
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn page(
        &self,
        before: Option<PastCursor>,
        limit: usize,
    ) -> Result<PastPage, UnreadableJournal> {
        let mut pages = PastPages::new(before, limit);
        self.read(|store| {
            let from = before.map_or(u64::MAX, |before| before.block);
            store.newest_outcome_blocks(from, &mut |row| pages.take_in(&row))
        })?;
        Ok(pages.finish())
    }

    fn outcome_of(&self, key: &str) -> Result<Option<PastOutcome>, UnreadableJournal> {
        self.read(|store| {
            let Some(row) = store.read_keyed_outcome(key)? else {
                return Ok(None);
            };
            let mut outcome = row.outcome()?;
            outcome.key.get_or_insert_with(|| (&*row.key).into());
            Ok(Some(PastOutcome {
                outcome,
                at: UNIX_EPOCH + Duration::from_millis(row.at),
                output: row.output,
            }))
        })
    }

    fn size(&self) -> Result<JournalSize, UnreadableJournal> {
        let file = self.path.metadata();
        let file = file.map_err(|error| unreadable(JournalError::io(&self.path, error)))?;
        Ok(JournalSize {
            bytes: file.len() + bytes(&beside(&self.path, "-wal")),
            outcomes_kept: self.stats.outcomes(),
            nodes_alive: None,
        })
    }

    fn cluster(&self) -> Result<Option<JournalCluster>, UnreadableJournal> {
        Ok(None)
    }

    fn commit_times(&self) -> Option<(Histogram<u64>, u64)> {
        self.stats.commits()
    }
}
