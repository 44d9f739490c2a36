//! A database for those who look on while nodes run.

use super::{database::JournalDatabase, past_pages::PastPages};
use crate::{journal::error::JournalError, ledger::cluster::JournalTakeover};

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

    /// The tasks that nodes have from others, and the number of those that nobody has.
    pub(super) fn takeovers(&mut self) -> Result<(Vec<JournalTakeover>, u64), JournalError> {
        let rows = self.snapshot.takeovers();
        let (mut takeovers, mut waiting) = (Vec::new(), 0);
        for row in rows.map_err(|error| self.store_error(error))? {
            match row.owner {
                0 => waiting += row.tasks,
                node => takeovers.push(JournalTakeover {
                    node,
                    from: row.accepted_by,
                    killed: row.killed,
                    tasks: row.tasks,
                }),
            }
        }
        Ok((takeovers, waiting))
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
