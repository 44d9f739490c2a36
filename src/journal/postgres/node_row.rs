//! The rows of nodes, as somebody beside them reads them.

use tokio_postgres::Row;

use super::text::unescaped;
use crate::journal::store::StoreError;

/// True of a node `n` that lives: its lease hasn't run out, or the server was just started, which gives each lease
/// its whole time again.
pub(super) const LIVES: &str = "n.state = 'live' AND (n.lease_until >= clock_timestamp() \
                                OR pg_postmaster_start_time() >= clock_timestamp() - n.lease)";

/// All but node 0, which is nobody. Their tasks are counted as far as `$1`.
pub(super) const NODES: &str = "SELECT n.id, n.state, n.name, n.revision, n.commits, \
         (extract(epoch FROM n.lease) * 1000)::bigint, \
         (extract(epoch FROM n.lease_until - clock_timestamp()) * 1000)::bigint, \
         (extract(epoch FROM n.began) * 1000)::bigint, n.room, n.queued, \
         (SELECT count(*) FROM (SELECT FROM @.task t WHERE t.owner = n.id LIMIT $1) counted), \
         pg_postmaster_start_time() >= clock_timestamp() - n.lease \
     FROM @.node n WHERE n.id > 0 ORDER BY n.id";

/// A node.
pub(in crate::journal) struct NodeRow {
    pub(in crate::journal) id: i32,
    pub(in crate::journal) state: String,
    pub(in crate::journal) name: String,
    pub(in crate::journal) revision: i32,
    pub(in crate::journal) commits: u64,
    /// The lease's length, the time until it runs out, and the time at which the node began, in milliseconds.
    pub(in crate::journal) lease: u64,
    pub(in crate::journal) left: i64,
    pub(in crate::journal) began: u64,
    pub(in crate::journal) room: u64,
    pub(in crate::journal) queued: u64,
    pub(in crate::journal) tasks: u64,
    /// The server was just started: the lease has its whole time.
    pub(in crate::journal) spared: bool,
}

impl NodeRow {
    pub(super) fn of(row: &Row) -> Result<Self, StoreError> {
        let number = |at| row.try_get::<_, i64>(at).map(|number| number.max(0) as u64);
        Ok(NodeRow {
            id: row.try_get(0)?,
            state: row.try_get(1)?,
            name: unescaped(row.try_get(2)?),
            revision: row.try_get(3)?,
            commits: number(4)?,
            lease: number(5)?,
            left: row.try_get(6)?,
            began: number(7)?,
            room: number(8)?,
            queued: number(9)?,
            tasks: number(10)?,
            spared: row.try_get(11)?,
        })
    }
}
