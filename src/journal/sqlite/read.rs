//! Reading rows. Damaged ones are reported, and the others are read all the same.

use rusqlite::{Error, OptionalExtension, Row, Rows, params};

use super::{
    columns::{
        KEPT_BY_KEY, OUTCOMES_AFTER, OUTCOMES_BACK, STAGE, TASK, UNDO, keyed_outcome_row,
        outcome_block_row, stage_row, task_row, undo_row,
    },
    database::Sqlite,
};
use crate::journal::{
    corrupt::Corrupt,
    rows::{
        keyed_outcome::KeyedOutcomeRow, meta::meta_checksum, outcome_block::OutcomeBlockRow,
        stage::StageRow, undo::UndoRow,
    },
    store::{StoreError, TaskRows},
};

/// The rows that could be read, and the damage of the others.
type Sorted<T> = (Vec<T>, Vec<Corrupt>);

/// Receives the rows of each task, or the damage found in their place.
type EachTask<'a> = &'a mut dyn FnMut(Result<TaskRows, Corrupt>);

impl Sqlite {
    /// The facts about the journal itself, see `rows::meta`.
    pub(in crate::journal) fn meta(&self) -> Result<Sorted<(String, String)>, StoreError> {
        let mut meta = self
            .connection()?
            .prepare("SELECT name, value, sum FROM word")?;
        let mut rows = meta.query([])?;
        let mut sorted = Sorted::default();
        while let Some(row) = rows.next()? {
            let (name, value): (String, String) = (row.get(0)?, row.get(1)?);
            if meta_checksum(&name, &value) == row.get::<_, u32>(2)? {
                sorted.0.push((name, value));
            } else {
                let what = format!("the row {name:?} of the table word");
                sorted.1.push(Corrupt::new(what, "checksum mismatch"));
            }
        }
        Ok(sorted)
    }

    pub(in crate::journal) fn stages(&self) -> Result<Sorted<StageRow>, StoreError> {
        let mut stages = self.connection()?.prepare(STAGE)?;
        let mut sorted = Sorted::default();
        for stage in stages.query_map([], stage_row)? {
            let stage = stage?;
            match stage.verify() {
                Ok(()) => sorted.0.push(stage),
                Err(corrupt) => sorted.1.push(corrupt),
            }
        }
        Ok(sorted)
    }

    /// Reads every task, or the one with this number, each with its undos.
    pub(in crate::journal) fn read_tasks(
        &self,
        only: Option<u64>,
        each: EachTask<'_>,
    ) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let filter = |column| {
            only.map_or(String::new(), |id| {
                format!("WHERE {column} = {}", id as i64)
            })
        };
        let mut tasks = connection.prepare(&format!("{TASK} {} ORDER BY id", filter("id")))?;
        let mut undos =
            connection.prepare(&format!("{UNDO} {} ORDER BY task, undo", filter("task")))?;
        // Both are in the order of tasks, so one pass over each of them is enough.
        let mut tasks = tasks.query([])?;
        let mut undos = undos.query([])?;
        let mut next = next_row(&mut undos, undo_row, each)?;
        while let Some((task, context)) = next_row(&mut tasks, task_row, each)? {
            let mut own = Vec::new();
            while let Some(undo) = next.take_if(|(undo, _)| undo.task <= task.id) {
                if undo.0.task < task.id {
                    each(Err(orphan(&undo.0)));
                } else {
                    own.push(undo);
                }
                next = next_row(&mut undos, undo_row, each)?;
            }
            each(Ok((task, context, own)));
        }
        while let Some((undo, _)) = next {
            each(Err(orphan(&undo)));
            next = next_row(&mut undos, undo_row, each)?;
        }
        Ok(())
    }

    /// The outcome of the task that had this key.
    pub(in crate::journal) fn read_keyed_outcome(
        &self,
        key: &str,
    ) -> Result<Option<KeyedOutcomeRow>, StoreError> {
        let mut kept = self.connection()?.prepare_cached(KEPT_BY_KEY)?;
        Ok(kept.query_row([key], keyed_outcome_row).optional()?)
    }

    /// At most `limit` blocks of outcomes that follow the block `after`.
    pub(in crate::journal) fn read_outcome_blocks(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        let mut blocks = self.connection()?.prepare_cached(OUTCOMES_AFTER)?;
        let blocks = blocks.query_map(params![after as i64, limit as i64], outcome_block_row)?;
        Ok(blocks.collect::<Result<_, _>>()?)
    }

    /// Calls `each` with the blocks of outcomes from this number down, until it returns false.
    pub(in crate::journal) fn newest_outcome_blocks(
        &self,
        from: u64,
        each: &mut dyn FnMut(OutcomeBlockRow) -> bool,
    ) -> Result<(), StoreError> {
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let mut blocks = self.connection()?.prepare(OUTCOMES_BACK)?;
        for row in blocks.query_map([from], outcome_block_row)? {
            if !each(row?) {
                break;
            }
        }
        Ok(())
    }

    /// The number of outcomes that are kept.
    pub(in crate::journal) fn count_outcomes(&self) -> Result<u64, StoreError> {
        let outcomes: i64 = self.connection()?.query_row(
            "SELECT coalesce(sum(count), 0) FROM outcomes",
            [],
            |row| row.get(0),
        )?;
        Ok(outcomes.max(0) as u64)
    }
}

/// The next row that has the right types. Those before it are reported.
fn next_row<T>(
    rows: &mut Rows<'_>,
    read: fn(&Row<'_>) -> Result<T, Error>,
    each: EachTask<'_>,
) -> Result<Option<T>, StoreError> {
    while let Some(row) = rows.next()? {
        match read(row).map_err(StoreError::from) {
            Ok(row) => return Ok(Some(row)),
            Err(StoreError::Corrupt(Corrupt { why, .. })) => {
                let task: i64 = row.get(0).unwrap_or_default();
                each(Err(Corrupt::new(format_args!("a row of task {task}"), why)));
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(None)
}

fn orphan(undo: &UndoRow) -> Corrupt {
    let what = format_args!("undo {} of task {}", undo.undo, undo.task);
    Corrupt::new(what, "its task is missing")
}
