//! The SQLite file as a [`Store`].

use super::{
    columns::{KEPT, KEPT_UNDO, OUTCOMES, keyed_outcome_row, outcome_block_row, undo_row},
    database::Sqlite,
    statements::Statements,
};
use crate::journal::{
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow, undo::UndoRow,
    },
    store::{Lost, RowOp, Store, StoreError, Summary, TaskRows, Writes},
};

impl Store for Sqlite {
    fn summary(&mut self) -> Result<Summary, StoreError> {
        let (meta, corrupt) = self.meta()?;
        let (stages, corrupt_stages) = self.stages()?;
        if let Some(corrupt) = corrupt.into_iter().chain(corrupt_stages).next() {
            return Err(corrupt.into());
        }
        let mut summary = Summary {
            meta,
            stages,
            ..Summary::default()
        };
        let connection = self.connection()?;
        let mut blocks = connection.prepare(OUTCOMES)?;
        for row in blocks.query_map([], outcome_block_row)? {
            let row = row?;
            summary.last_task = summary.last_task.max(row.block()?.last_task());
            summary.outcomes = summary.outcomes.saturating_add(row.count);
            summary.last_block = summary.last_block.max(row.number);
        }
        Ok(summary)
    }

    fn keyed_outcomes(&mut self, each: &mut dyn FnMut(KeyedOutcomeRow)) -> Result<(), StoreError> {
        // Later they are looked up one by one, and a row with a damaged key would not be found: a
        // second task would be accepted with that key.
        let mut kept = self.connection()?.prepare(KEPT)?;
        for row in kept.query_map([], keyed_outcome_row)? {
            let row = row?;
            row.verify()?;
            each(row);
        }
        Ok(())
    }

    fn kept_undos(&mut self, task: u64) -> Result<Vec<(UndoRow, Blob)>, StoreError> {
        let of_task = format!("{KEPT_UNDO} WHERE task = ?1 ORDER BY undo");
        let mut undos = self.connection()?.prepare_cached(&of_task)?;
        let undos = undos.query_map([task as i64], undo_row)?;
        Ok(undos.collect::<Result<_, _>>()?)
    }

    fn all_kept_undos(&mut self, each: &mut dyn FnMut(UndoRow)) -> Result<(), StoreError> {
        let mut undos = self.connection()?.prepare(KEPT_UNDO)?;
        for row in undos.query_map([], undo_row)? {
            each(row?.0);
        }
        Ok(())
    }

    fn tasks(&mut self, each: &mut dyn FnMut(TaskRows)) -> Result<(), StoreError> {
        let mut first_corrupt = None;
        self.read_tasks(None, &mut |task| match task {
            Ok(task) if first_corrupt.is_none() => each(task),
            Ok(_) => {}
            Err(corrupt) => drop(first_corrupt.get_or_insert(corrupt)),
        })?;
        // The whole file went through the cache, and little of it will be read again.
        self.connection()?.execute_batch("PRAGMA shrink_memory")?;
        first_corrupt.map_or(Ok(()), |corrupt| Err(corrupt.into()))
    }

    fn commit(&mut self, ops: &[RowOp]) -> Result<Vec<Lost>, StoreError> {
        let connection = self.connection()?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.refuse_foreign_commits()?;
        let mut statements = Statements::new(connection);
        for op in ops {
            statements.write(op)?;
        }
        // They go back to the connection's cache.
        drop(statements);
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.refuse_missing_files()?;
        Ok(Vec::new())
    }

    fn keyed_outcome(&mut self, key: &str) -> Result<Option<KeyedOutcomeRow>, StoreError> {
        self.read_keyed_outcome(key)
    }

    fn outcome_blocks(
        &mut self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        self.read_outcome_blocks(after, limit)
    }

    fn close(&mut self, writes: Writes) {
        self.close_file(writes);
    }
}
