//! The state of the tables in a database.

use std::time::Duration;

use super::{
    database::{JournalDatabase, at},
    database_view::{JournalHorizon, JournalStandby, JournalTable, JournalUpkeep},
};
use crate::journal::error::JournalError;

impl JournalDatabase {
    /// The sizes of the tables, and what keeps them from being cleaned.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn upkeep(&mut self) -> Result<JournalUpkeep, JournalError> {
        let read = (|| {
            let tables = self.snapshot.tables()?.into_iter().map(|row| JournalTable {
                name: row.name,
                bytes: row.bytes,
                rows: row.rows,
                dead_rows: row.dead,
                vacuumed: row.vacuumed.map(at),
            });
            let oldest = self.snapshot.horizon()?.map(|row| JournalHorizon {
                holder: row.holder,
                transactions: row.transactions,
                since: row.since.map(Duration::from_millis),
            });
            let standbys = self.snapshot.standbys()?.into_iter();
            let standbys = standbys.map(|row| JournalStandby {
                name: row.name,
                sync: row.sync,
                bytes_behind: row.bytes,
                behind: row.lag.map(Duration::from_millis),
            });
            Ok(JournalUpkeep {
                tables: tables.collect(),
                oldest,
                standbys: standbys.collect(),
            })
        })();
        read.map_err(|error| self.store_error(error))
    }
}
