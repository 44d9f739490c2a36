//! The state of a journal's tables and of what keeps them from being cleaned, as far as the user may read it.

use tokio_postgres::Row;

use super::snapshot::Snapshot;
use crate::journal::store::StoreError;

/// A table's size.
pub(in crate::journal) struct TableRow {
    pub(in crate::journal) name: String,
    /// With its indexes.
    pub(in crate::journal) bytes: u64,
    pub(in crate::journal) rows: u64,
    pub(in crate::journal) dead: u64,
    /// The last time at which it was vacuumed, in milliseconds since 1970.
    pub(in crate::journal) vacuumed: Option<u64>,
}

/// The oldest holder of a snapshot: rows that died since then can't be cleaned away.
pub(in crate::journal) struct HorizonRow {
    pub(in crate::journal) holder: String,
    /// The number of transactions since then.
    pub(in crate::journal) transactions: u64,
    /// In milliseconds. A replication slot has no time.
    pub(in crate::journal) since: Option<u64>,
}

/// A standby.
pub(in crate::journal) struct StandbyRow {
    pub(in crate::journal) name: String,
    /// `None` if the user may not read any more about it.
    pub(in crate::journal) sync: Option<String>,
    pub(in crate::journal) bytes: Option<u64>,
    /// In milliseconds.
    pub(in crate::journal) lag: Option<u64>,
}

const TABLES: &str = "SELECT c.relname::text, pg_total_relation_size(c.oid), coalesce(s.n_live_tup, 0), \
         coalesce(s.n_dead_tup, 0), \
         (extract(epoch FROM greatest(s.last_autovacuum, s.last_vacuum)) * 1000)::bigint \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
     WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY 2 DESC, 1";

const HORIZON: &str = "SELECT holder, age(xmin)::bigint, (extract(epoch FROM since) * 1000)::bigint FROM ( \
         SELECT format('a transaction of process %s (%s, %s)', pid, \
                coalesce(nullif(application_name, ''), usename::text, 'unnamed'), coalesce(state, backend_type)) holder, \
             coalesce(backend_xmin, backend_xid) xmin, clock_timestamp() - xact_start since \
             FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                 AND (datname = current_database() OR datname IS NULL) \
         UNION ALL SELECT format('the replication slot %s', slot_name), xmin, NULL FROM pg_replication_slots \
         UNION ALL SELECT format('the prepared transaction %s', gid), transaction, clock_timestamp() - prepared \
             FROM pg_prepared_xacts WHERE database = current_database() \
     ) held WHERE xmin IS NOT NULL ORDER BY 2 DESC LIMIT 1";

const STANDBYS: &str = "SELECT coalesce(nullif(application_name, ''), 'unnamed'), sync_state, \
         pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, \
         (extract(epoch FROM replay_lag) * 1000)::bigint \
     FROM pg_stat_replication ORDER BY 1";

impl Snapshot {
    pub(in crate::journal) fn tables(&mut self) -> Result<Vec<TableRow>, StoreError> {
        let schema = self.schema.name().to_owned();
        let mut tables = Vec::new();
        for row in self.rows(TABLES, &[&schema])? {
            tables.push(TableRow {
                name: row.try_get(0)?,
                bytes: positive(&row, 1)?.unwrap_or_default(),
                rows: positive(&row, 2)?.unwrap_or_default(),
                dead: positive(&row, 3)?.unwrap_or_default(),
                vacuumed: positive(&row, 4)?,
            });
        }
        Ok(tables)
    }

    /// `None` if nobody holds one, as far as the user may see.
    pub(in crate::journal) fn horizon(&mut self) -> Result<Option<HorizonRow>, StoreError> {
        let rows = self.rows(HORIZON, &[])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(HorizonRow {
            holder: row.try_get(0)?,
            transactions: positive(row, 1)?.unwrap_or_default(),
            since: positive(row, 2)?,
        }))
    }

    pub(in crate::journal) fn standbys(&mut self) -> Result<Vec<StandbyRow>, StoreError> {
        let mut standbys = Vec::new();
        for row in self.rows(STANDBYS, &[])? {
            standbys.push(StandbyRow {
                name: row.try_get(0)?,
                sync: row.try_get(1)?,
                bytes: positive(&row, 2)?,
                lag: positive(&row, 3)?,
            });
        }
        Ok(standbys)
    }
}

fn positive(row: &Row, at: usize) -> Result<Option<u64>, StoreError> {
    Ok(row
        .try_get::<_, Option<i64>>(at)?
        .map(|number| number.max(0) as u64))
}
