//! The columns of each table, turned into rows.

use tokio_postgres::{Error, Row};

use super::text::unescaped;
use crate::journal::{
    corrupt::Corrupt,
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow,
        stage::StageRow, task::TaskRow, undo::UndoRow,
    },
    store::{Owners, StoreError},
};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        StoreError::from(super::error::Trouble::from(error))
    }
}

/// A node's own tasks.
pub(super) const TASK: &str = "SELECT id, key, stage, state, stuck, more, sum, context, context_sum, killed, owners, \
                               revision, unowned FROM @.task WHERE id >= $1 AND owner + 0 = $3 ORDER BY id LIMIT $2";
/// These tasks.
pub(super) const TASKS: &str = "SELECT id, key, stage, state, stuck, more, sum, context, context_sum, killed, owners, \
                                revision, unowned FROM @.task WHERE id = ANY ($1) ORDER BY id";

/// One task.
pub(super) const TASK_BY_ID: &str = "SELECT id, key, stage, state, stuck, more, sum, context, context_sum, killed, \
                                         owners, revision, unowned FROM @.task WHERE id = $1";
/// The stuck tasks of other nodes.
pub(super) const STUCK_ELSEWHERE: &str = "SELECT id, key, stage, state, stuck, more, sum, context, context_sum, killed, \
                                          owners, revision, unowned FROM @.task WHERE stuck AND owner <> $1 ORDER BY id";

pub(super) fn task_row(row: &Row) -> Result<(TaskRow, Blob), StoreError> {
    let id = row.try_get::<_, i64>(0)? as u64;
    let stage: Option<i32> = row.try_get(2)?;
    let task = TaskRow {
        id,
        key: row
            .try_get::<_, Option<&str>>(1)?
            .map(|key| unescaped(key).into()),
        stage: stage
            .map(|stage| within(stage.into(), format_args!("task {id}")))
            .transpose()?,
        state: row.try_get::<_, String>(3)?.into(),
        stuck: row.try_get(4)?,
        details: row.try_get(5)?,
        checksum: row.try_get::<_, i32>(6)? as u32,
    };
    let context = Blob {
        bytes: row.try_get(7)?,
        checksum: row.try_get::<_, i32>(8)? as u32,
    };
    Ok((task, context))
}

pub(super) const UNDO: &str = "SELECT task, undo, more, sum, value, value_sum FROM @.undo \
                               WHERE task BETWEEN $1 AND $2 ORDER BY task, undo";
/// The nodes that a task was of before.
pub(super) fn owners(row: &Row) -> Result<Owners, StoreError> {
    let count: i32 = row.try_get(10)?;
    Ok(Owners {
        killed: row.try_get(9)?,
        count: within(count.into(), "the owners of a task")?,
        revision: row.try_get(11)?,
        unowned: row.try_get(12)?,
    })
}

/// An undo whose task is missing.
pub(super) const ORPHAN: &str = "SELECT task, undo FROM @.undo u \
                                 WHERE NOT EXISTS (SELECT FROM @.task t WHERE t.id = u.task) LIMIT 1";
/// The undos of these tasks.
pub(super) const UNDOS: &str = "SELECT task, undo, more, sum, value, value_sum FROM @.undo \
                                WHERE task = ANY ($1) ORDER BY task, undo";
pub(super) const KEPT_UNDO: &str = "SELECT task, undo, more, sum, value, value_sum FROM @.kept_undo \
                                    WHERE task BETWEEN $1 AND $2 ORDER BY task, undo";

pub(super) fn undo_row(row: &Row) -> Result<(UndoRow, Blob), StoreError> {
    let task = row.try_get::<_, i64>(0)? as u64;
    let undo = UndoRow {
        task,
        undo: within(row.try_get(1)?, format_args!("an undo of task {task}"))?,
        state: row.try_get(2)?,
        checksum: row.try_get::<_, i32>(3)? as u32,
    };
    let value = Blob {
        bytes: row.try_get(4)?,
        checksum: row.try_get::<_, i32>(5)? as u32,
    };
    Ok((undo, value))
}

pub(super) const OUTCOMES: &str = "SELECT number, at, count, body, sum FROM @.outcomes \
                                   WHERE number > $1 ORDER BY number LIMIT $2";

pub(super) const OLDEST_OUTCOMES: &str =
    "SELECT number, at, count, body, sum FROM @.outcomes ORDER BY at, number LIMIT $1";

pub(super) fn outcome_block_row(row: &Row) -> Result<OutcomeBlockRow, StoreError> {
    Ok(OutcomeBlockRow {
        number: row.try_get::<_, i64>(0)? as u64,
        at: row.try_get::<_, i64>(1)? as u64,
        count: row.try_get::<_, i64>(2)? as u64,
        body: row.try_get(3)?,
        checksum: row.try_get::<_, i32>(4)? as u32,
    })
}

/// The task that has this key and isn't over, and if it is stuck: then its outcome is there, and it is, too.
pub(super) const TASK_OF_KEY: &str = "SELECT k.task, coalesce(t.stuck, false) FROM @.key k \
     LEFT JOIN @.task t ON t.id = k.task \
     WHERE k.key = $1 AND (k.outcome IS NULL OR t.id IS NOT NULL)";

/// Those that follow a key, and the one with it.
pub(super) const KEPT_AFTER: &str = "SELECT key, task, at, \"end\", digest, undos, outcome, output, sum FROM @.key \
     WHERE outcome IS NOT NULL AND ($1::text IS NULL OR key > $1) ORDER BY key LIMIT $2";
pub(super) const KEPT: &str = "SELECT key, task, at, \"end\", digest, undos, outcome, output, sum FROM @.key \
     WHERE key = $1 AND outcome IS NOT NULL";

pub(super) fn keyed_outcome_row(row: &Row) -> Result<KeyedOutcomeRow, StoreError> {
    let key: Box<str> = unescaped(row.try_get(0)?).into();
    let undos: Option<i64> = row.try_get(5)?;
    let place = format_args!("the outcome with the key {key:?}").to_string();
    Ok(KeyedOutcomeRow {
        key,
        task: row.try_get::<_, i64>(1)? as u64,
        at: row.try_get::<_, i64>(2)? as u64,
        end: row.try_get::<_, String>(3)?.into(),
        digest: row
            .try_get::<_, Option<i64>>(4)?
            .map(|digest| digest as u64),
        undos: undos.map(|undos| within(undos, place)).transpose()?,
        outcome: row.try_get(6)?,
        output: row.try_get(7)?,
        checksum: row.try_get::<_, i32>(8)? as u32,
    })
}

/// The stages of a revision.
pub(super) const STAGES: &str =
    "SELECT number, name, version, sum FROM @.stage WHERE revision = $1 ORDER BY number";

/// Those of these keys whose tasks are in flight, and not stuck.
pub(super) const IN_FLIGHT: &str = "SELECT key FROM @.key WHERE key = ANY ($1) AND outcome IS NULL";

/// The answers to these decisions.
pub(super) const ANSWERS: &str =
    "SELECT id, answer FROM @.command WHERE id = ANY ($1) AND answer IS NOT NULL";

/// The revision of the undos that are kept of a task, by its key's row.
pub(super) const REVISION_OF_KEPT: &str =
    "SELECT revision FROM @.key WHERE key = $1 AND task = $2 AND revision IS NOT NULL";

pub(super) fn stage_row(row: &Row) -> Result<StageRow, StoreError> {
    let number: i32 = row.try_get(0)?;
    let place = format_args!("stage {number}").to_string();
    Ok(StageRow {
        number: within(number.into(), &place)?,
        name: unescaped(row.try_get(1)?),
        version: within(row.try_get(2)?, &place)?,
        checksum: row.try_get::<_, i32>(3)? as u32,
    })
}

/// A number in the range of its type, or the row is damaged.
fn within<T: TryFrom<i64>>(number: i64, what: impl std::fmt::Display) -> Result<T, StoreError> {
    let too_large = |_| Corrupt::new(what, format_args!("{number} is impossible"));
    Ok(T::try_from(number).map_err(too_large)?)
}
