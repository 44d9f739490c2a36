//! The parts of a snapshot that are for those who look on while nodes run.

use super::{
    changes::Param, columns::outcome_block_row, node_row::LIVES, snapshot::Snapshot,
    text::unescaped,
};
use crate::journal::{rows::outcome_block::OutcomeBlockRow, store::StoreError};

/// Tasks that a node has got from another one that has gone.
pub(in crate::journal) struct TakeoverRow {
    pub(in crate::journal) by_node: i32,
    pub(in crate::journal) by_name: String,
    pub(in crate::journal) from_node: i32,
    pub(in crate::journal) from_name: String,
    pub(in crate::journal) killed: bool,
    pub(in crate::journal) tasks: u64,
    /// In milliseconds since 1970.
    pub(in crate::journal) at: u64,
}

impl Snapshot {
    /// The newest takeovers, the last one first.
    pub(in crate::journal) fn takeovers(
        &mut self,
        most: i64,
    ) -> Result<Vec<TakeoverRow>, StoreError> {
        let takeovers = "SELECT by_node, by_name, from_node, from_name, killed, tasks, \
                 (extract(epoch FROM at) * 1000)::bigint \
             FROM @.takeover ORDER BY at DESC, by_node, from_node LIMIT $1";
        let mut all = Vec::new();
        for row in self.rows(takeovers, &[&most])? {
            let number = |at| row.try_get::<_, i64>(at).map(|number| number.max(0) as u64);
            all.push(TakeoverRow {
                by_node: row.try_get(0)?,
                by_name: unescaped(row.try_get(1)?),
                from_node: row.try_get(2)?,
                from_name: unescaped(row.try_get(3)?),
                killed: row.try_get(4)?,
                tasks: number(5)?,
                at: number(6)?,
            });
        }
        Ok(all)
    }

    /// The number of tasks that nobody has, as far as `most`.
    pub(in crate::journal) fn waiting(&mut self, most: i64) -> Result<u64, StoreError> {
        let waiting = "SELECT count(*) FROM (SELECT FROM @.task WHERE owner = 0 LIMIT $1) counted";
        self.number(waiting, &[&most])
    }

    /// The newest blocks of outcomes, from the one with this time and number on: as many as it takes for so many
    /// outcomes beside those of that one, as far as their rows say the truth.
    pub(in crate::journal) fn newest_blocks(
        &mut self,
        from: Option<(u64, u64)>,
        outcomes: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        // The block at the place itself may have nothing older, whatever it counts.
        let newest = "SELECT number, at, count, body, sum FROM ( \
                 SELECT *, sum(fresh) OVER (ORDER BY at DESC, number DESC) - fresh AS before FROM ( \
                     SELECT *, CASE WHEN at = $1 AND number = $2 THEN 0 ELSE count END AS fresh \
                         FROM @.outcomes WHERE at <= $1 AND (at < $1 OR number <= $2) \
                         ORDER BY at DESC, number DESC LIMIT $3::bigint + 1 \
                 ) newest \
             ) counted WHERE before < $3 ORDER BY at DESC, number DESC";
        let (at, number) = match from {
            Some((at, number)) => (i64::try_from(at).unwrap_or(i64::MAX), number as i64),
            None => (i64::MAX, i64::MAX),
        };
        let outcomes = i64::try_from(outcomes).unwrap_or(i64::MAX);
        let rows = self.rows(newest, &[&at, &number, &outcomes])?;
        rows.iter().map(outcome_block_row).collect()
    }

    pub(in crate::journal) fn nodes_alive(&mut self) -> Result<u64, StoreError> {
        let alive = format!("SELECT count(*) FROM @.node n WHERE n.id > 0 AND {LIVES}");
        self.number(&alive, &[])
    }

    /// The size of all tables, with their indexes.
    pub(in crate::journal) fn bytes(&mut self) -> Result<u64, StoreError> {
        let schema = self.schema.name().to_owned();
        let bytes = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relkind = 'r'";
        let rows = self.rows(bytes, &[&schema])?;
        let bytes = rows.first().map(|row| row.try_get::<_, i64>(0));
        Ok(bytes.transpose()?.unwrap_or_default().max(0) as u64)
    }

    fn number(&mut self, statement: &str, params: &[Param<'_>]) -> Result<u64, StoreError> {
        let rows = self.rows(statement, params)?;
        let number = rows.first().map(|row| row.try_get::<_, i64>(0));
        Ok(number.transpose()?.unwrap_or_default().max(0) as u64)
    }
}
