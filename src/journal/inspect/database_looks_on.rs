//! A database for those who look on while nodes run.

use super::{
    database::{ALL, JournalDatabase, at},
    past_pages::PastPages,
};
use crate::{
    journal::{error::JournalError, postgres::looks_on::TakeoverRow},
    ledger::cluster::{JournalCluster, JournalTakeover},
};

/// The tasks of a node, or of nobody, that are counted. More than that is many.
const COUNTED_TO: i64 = 10_000;
/// The takeovers that are listed.
const TAKEOVERS: i64 = 100;

impl JournalDatabase {
    /// Fills a page with the newest outcomes.
    pub(super) fn newest_outcomes(&mut self, pages: &mut PastPages) -> Result<(), JournalError> {
        loop {
            let place = pages.place();
            let from = place.map(|place| (place.at, place.block));
            // One more shows whether there is more.
            let blocks = self.snapshot.newest_blocks(from, pages.left() + 1);
            for row in blocks.map_err(|error| self.store_error(error))? {
                if !pages.take_in(&row) {
                    return Ok(());
                }
            }
            // The block at the place comes each time.
            if pages.place() == place {
                return Ok(());
            }
        }
    }

    /// The nodes that have got tasks of others which have gone, the last takeover first. They are remembered for 30
    /// days, and as far as the last 1,000 pairs of nodes.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn takeovers(&mut self) -> Result<Vec<JournalTakeover>, JournalError> {
        self.newest_takeovers(ALL)
    }

    fn newest_takeovers(&mut self, most: i64) -> Result<Vec<JournalTakeover>, JournalError> {
        let rows = self.snapshot.takeovers(most);
        let rows = rows.map_err(|error| self.store_error(error))?;
        let takeover = |row: TakeoverRow| JournalTakeover {
            node: row.by_node,
            name: row.by_name,
            from: row.from_node,
            from_name: row.from_name,
            killed: row.killed,
            tasks: row.tasks,
            at: at(row.at),
        };
        Ok(rows.into_iter().map(takeover).collect())
    }

    /// The nodes for those who look often. However many tasks and takeovers there are, it takes no longer.
    pub(in crate::journal) fn cluster(&mut self) -> Result<JournalCluster, JournalError> {
        let waiting = self.snapshot.waiting(COUNTED_TO);
        Ok(JournalCluster {
            nodes: self.nodes_counted_to(COUNTED_TO)?,
            takeovers: self.newest_takeovers(TAKEOVERS)?,
            waiting: waiting.map_err(|error| self.store_error(error))?,
            stranded: self.stranded_counted_to(COUNTED_TO)?,
            counted_to: COUNTED_TO as u64,
            ..JournalCluster::default()
        })
    }

    pub(super) fn nodes_alive(&mut self) -> Result<u64, JournalError> {
        let alive = self.snapshot.nodes_alive();
        alive.map_err(|error| self.store_error(error))
    }

    /// The size of all tables, with their indexes.
    pub(super) fn bytes(&mut self) -> Result<u64, JournalError> {
        let bytes = self.snapshot.bytes();
        bytes.map_err(|error| self.store_error(error))
    }
}
