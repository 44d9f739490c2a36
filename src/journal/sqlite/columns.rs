//! The columns of each table, turned into rows.

use rusqlite::{Error, Row};

use crate::journal::rows::{
    blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow, stage::StageRow,
    task::TaskRow, undo::UndoRow,
};

/// `SELECT`s the columns that [`task_row`] expects.
pub(super) const TASK: &str =
    "SELECT id, key, stage, state, stuck, more, sum, context, context_sum FROM task";

pub(super) fn task_row(row: &Row<'_>) -> Result<(TaskRow, Blob), Error> {
    let task = TaskRow {
        id: row.get::<_, i64>(0)? as u64,
        key: row.get::<_, Option<String>>(1)?.map(Into::into),
        stage: row.get(2)?,
        state: row.get::<_, String>(3)?.into(),
        stuck: row.get(4)?,
        details: row.get(5)?,
        checksum: row.get(6)?,
    };
    let context = Blob {
        bytes: row.get(7)?,
        checksum: row.get(8)?,
    };
    Ok((task, context))
}

/// `SELECT`s the columns that [`undo_row`] expects.
pub(super) const UNDO: &str = "SELECT task, undo, more, sum, value, value_sum FROM undo";
/// The same for the undos of tasks that are done.
pub(super) const KEPT_UNDO: &str = "SELECT task, undo, more, sum, value, value_sum FROM kept_undo";

pub(super) fn undo_row(row: &Row<'_>) -> Result<(UndoRow, Blob), Error> {
    let undo = UndoRow {
        task: row.get::<_, i64>(0)? as u64,
        undo: row.get(1)?,
        state: row.get(2)?,
        checksum: row.get(3)?,
    };
    let value = Blob {
        bytes: row.get(4)?,
        checksum: row.get(5)?,
    };
    Ok((undo, value))
}

/// `SELECT`s the columns that [`outcome_block_row`] expects.
pub(super) const OUTCOMES: &str = "SELECT number, at, count, body, sum FROM outcomes";
/// The same for a number of blocks after one of them.
pub(super) const OUTCOMES_AFTER: &str =
    "SELECT number, at, count, body, sum FROM outcomes WHERE number > ?1 ORDER BY number LIMIT ?2";

/// The same for the blocks up to one of them, the newest first.
pub(super) const OUTCOMES_BACK: &str =
    "SELECT number, at, count, body, sum FROM outcomes WHERE number <= ?1 ORDER BY number DESC";

pub(super) fn outcome_block_row(row: &Row<'_>) -> Result<OutcomeBlockRow, Error> {
    Ok(OutcomeBlockRow {
        number: row.get::<_, i64>(0)? as u64,
        at: row.get::<_, i64>(1)? as u64,
        count: row.get::<_, i64>(2)? as u64,
        body: row.get(3)?,
        checksum: row.get(4)?,
    })
}

/// `SELECT`s the columns that [`keyed_outcome_row`] expects.
pub(super) const KEPT: &str =
    "SELECT key, task, at, end, digest, undos, outcome, output, sum FROM kept";
/// The same for one key.
pub(super) const KEPT_BY_KEY: &str =
    "SELECT key, task, at, end, digest, undos, outcome, output, sum FROM kept WHERE key = ?1";

pub(super) fn keyed_outcome_row(row: &Row<'_>) -> Result<KeyedOutcomeRow, Error> {
    Ok(KeyedOutcomeRow {
        key: row.get::<_, String>(0)?.into(),
        task: row.get::<_, i64>(1)? as u64,
        at: row.get::<_, i64>(2)? as u64,
        end: row.get::<_, String>(3)?.into(),
        digest: row.get::<_, Option<i64>>(4)?.map(|digest| digest as u64),
        undos: row.get(5)?,
        outcome: row.get(6)?,
        output: row.get(7)?,
        checksum: row.get(8)?,
    })
}

/// `SELECT`s the columns that [`stage_row`] expects.
pub(super) const STAGE: &str = "SELECT number, name, version, sum FROM stage ORDER BY number";

pub(super) fn stage_row(row: &Row<'_>) -> Result<StageRow, Error> {
    Ok(StageRow {
        number: row.get(0)?,
        name: row.get(1)?,
        version: row.get(2)?,
        checksum: row.get(3)?,
    })
}
