//! The database of a pipeline that may run, for those who look on.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{database::JournalDatabase, file_reader::unreadable, past_pages::PastPages};
use crate::{
    journal::{
        error::JournalError,
        lease::{Lease, now},
        postgres::server::{Schema, Server},
        stats::JournalStats,
    },
    ledger::{
        cluster::JournalCluster,
        past::{PastCursor, PastOutcome, PastPage},
        read_journal::{JournalKind, JournalSize, ReadJournal, UnreadableJournal},
    },
};

/// The longest time to wait for an answer: somebody looks at a page.
const ANSWER: Duration = Duration::from_secs(10);

/// Connects for each question.
pub(in crate::journal) struct DatabaseReader {
    pub(in crate::journal) server: Server,
    pub(in crate::journal) schema: Schema,
    /// The node that this process is.
    pub(in crate::journal) node: i32,
    /// Its listener knows the pipeline, which nobody here may keep.
    pub(in crate::journal) lease: Weak<Lease>,
    pub(in crate::journal) stats: Arc<JournalStats>,
}

impl DatabaseReader {
    fn read<T>(
        &self,
        read: impl FnOnce(&mut JournalDatabase) -> Result<T, JournalError>,
    ) -> Result<T, UnreadableJournal> {
        let journal = JournalDatabase::open(self.server.clone(), self.schema.clone(), Some(ANSWER));
        let read = journal.and_then(|mut journal| read(&mut journal));
        read.map_err(unreadable)
    }
}

impl ReadJournal for DatabaseReader {
    fn kind(&self) -> JournalKind {
        JournalKind::Database
    }

    fn place(&self) -> String {
        let (server, schema) = (self.server.path(), self.schema.name());
        format!("{}, schema {schema:?}", server.display())
    }

    fn page(
        &self,
        before: Option<PastCursor>,
        limit: usize,
    ) -> Result<PastPage, UnreadableJournal> {
        let mut pages = PastPages::new(before, limit);
        self.read(|journal| journal.newest_outcomes(&mut pages))?;
        Ok(pages.finish())
    }

    fn outcome_of(&self, key: &str) -> Result<Option<PastOutcome>, UnreadableJournal> {
        let found = self.read(|journal| journal.outcome_of(key))?;
        Ok(found.map(|found| {
            let mut outcome = found.outcome;
            outcome.key = found.key.map(Into::into);
            PastOutcome {
                outcome,
                at: found.at,
                output: found.output.map(|output| output.bytes().to_vec()),
            }
        }))
    }

    fn size(&self) -> Result<JournalSize, UnreadableJournal> {
        self.read(|journal| {
            let alive = journal.nodes_alive()?;
            Ok(JournalSize {
                bytes: journal.bytes()?,
                outcomes_kept: journal.outcomes_kept()?,
                nodes_alive: Some(alive),
            })
        })
    }

    fn cluster(&self) -> Result<Option<JournalCluster>, UnreadableJournal> {
        let cluster = self.read(JournalDatabase::cluster)?;
        Ok(Some(JournalCluster {
            this: self.node,
            lease_left: self.lease_left().unwrap_or_default(),
            ..cluster
        }))
    }

    fn lease_left(&self) -> Option<Duration> {
        self.lease.upgrade().map(|lease| lease.left(now()))
    }

    fn commit_times(&self) -> Option<(Histogram<u64>, u64)> {
        self.stats.commits()
    }
}
