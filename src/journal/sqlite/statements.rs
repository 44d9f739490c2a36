//! The statements that write row changes.

use rusqlite::{CachedStatement, Connection, Error, params};

use crate::journal::{rows::meta::meta_checksum, store::RowOp};

/// The statements of one commit, each prepared when it is first needed.
///
/// The frequent ones are kept here: looking them up in the connection's cache for each row would be
/// a good part of the work.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    insert_task: Option<CachedStatement<'c>>,
    update_task: Option<CachedStatement<'c>>,
    delete_task: Option<CachedStatement<'c>>,
    delete_undos: Option<CachedStatement<'c>>,
    put_undo: Option<CachedStatement<'c>>,
    update_undo: Option<CachedStatement<'c>>,
    put_keyed_outcome: Option<CachedStatement<'c>>,
}

/// Prepares a statement, unless that has happened before.
fn prepared<'s, 'c>(
    place: &'s mut Option<CachedStatement<'c>>,
    connection: &'c Connection,
    sql: &str,
) -> Result<&'s mut CachedStatement<'c>, Error> {
    Ok(match place {
        Some(statement) => statement,
        None => place.insert(connection.prepare_cached(sql)?),
    })
}

/// SQLite's integers are signed: the bits stay the same.
fn signed(number: u64) -> i64 {
    number as i64
}

fn delete_kept_undos(connection: &Connection, task: u64) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM kept_undo WHERE task = ?1")?
        .execute([signed(task)])?;
    Ok(())
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Statements {
            connection,
            insert_task: None,
            update_task: None,
            delete_task: None,
            delete_undos: None,
            put_undo: None,
            update_undo: None,
            put_keyed_outcome: None,
        }
    }

    /// Writes one change, in the transaction that is open.
    pub(super) fn write(&mut self, op: &RowOp) -> Result<(), Error> {
        let connection = self.connection;
        match op {
            // The one process that has the file knows all keys.
            RowOp::TakeKey { .. } => {}
            // Nobody else takes it.
            RowOp::Release { .. } => {}
            RowOp::InsertTask(row, context) => {
                prepared(
                    &mut self.insert_task,
                    connection,
                    "INSERT INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    signed(row.id),
                    row.key,
                    row.stage,
                    &*row.state,
                    row.stuck,
                    row.details,
                    row.checksum,
                    context.bytes,
                    context.checksum,
                ])?;
            }
            RowOp::UpdateTask(row, context) => {
                let context = context.as_ref();
                prepared(
                    &mut self.update_task,
                    connection,
                    "UPDATE task SET stage = ?2, state = ?3, stuck = ?4, more = ?5, sum = ?6, \
                         context = coalesce(?7, context), context_sum = coalesce(?8, context_sum) WHERE id = ?1",
                )?
                .execute(params![
                    signed(row.id),
                    row.stage,
                    &*row.state,
                    row.stuck,
                    row.details,
                    row.checksum,
                    context.map(|context| &context.bytes),
                    context.map(|context| context.checksum),
                ])?;
            }
            RowOp::DeleteTask { task, has_undos } => {
                prepared(
                    &mut self.delete_task,
                    connection,
                    "DELETE FROM task WHERE id = ?1",
                )?
                .execute([signed(*task)])?;
                if *has_undos {
                    prepared(
                        &mut self.delete_undos,
                        connection,
                        "DELETE FROM undo WHERE task = ?1",
                    )?
                    .execute([signed(*task)])?;
                }
            }
            RowOp::PutUndo(row, value) => {
                prepared(
                    &mut self.put_undo,
                    connection,
                    "REPLACE INTO undo VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    signed(row.task),
                    row.undo,
                    row.state,
                    row.checksum,
                    value.bytes,
                    value.checksum,
                ])?;
            }
            RowOp::UpdateUndo(row) => {
                prepared(
                    &mut self.update_undo,
                    connection,
                    "UPDATE undo SET more = ?3, sum = ?4 WHERE task = ?1 AND undo = ?2",
                )?
                .execute(params![
                    signed(row.task),
                    row.undo,
                    row.state,
                    row.checksum
                ])?;
            }
            RowOp::PutOutcomes(row) => {
                connection
                    .prepare_cached("REPLACE INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![
                        signed(row.number),
                        signed(row.at),
                        signed(row.count),
                        row.body,
                        row.checksum,
                    ])?;
            }
            RowOp::PutKeyedOutcome(row) => {
                prepared(
                    &mut self.put_keyed_outcome,
                    connection,
                    "REPLACE INTO kept VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    row.key,
                    signed(row.task),
                    signed(row.at),
                    row.end,
                    row.digest.map(signed),
                    row.undos,
                    row.outcome,
                    row.output,
                    row.checksum,
                ])?;
            }
            RowOp::DeleteOutcomes { block, at, keys } => {
                connection
                    .prepare_cached("DELETE FROM outcomes WHERE number = ?1")?
                    .execute([signed(*block)])?;
                let mut delete = connection
                    .prepare_cached("DELETE FROM kept WHERE key = ?1 AND task = ?2 AND at = ?3")?;
                for (key, task) in keys {
                    if delete.execute(params![key, signed(*task), signed(*at)])? > 0 {
                        delete_kept_undos(connection, *task)?;
                    }
                }
            }
            RowOp::DeleteKey { key, task } => {
                connection
                    .prepare_cached("DELETE FROM kept WHERE key = ?1 AND task = ?2")?
                    .execute(params![key, signed(*task)])?;
                delete_kept_undos(connection, *task)?;
            }
            RowOp::KeepUndos { task } => {
                connection
                    .prepare_cached("REPLACE INTO kept_undo SELECT * FROM undo WHERE task = ?1")?
                    .execute([signed(*task)])?;
                prepared(
                    &mut self.delete_undos,
                    connection,
                    "DELETE FROM undo WHERE task = ?1",
                )?
                .execute([signed(*task)])?;
            }
            RowOp::ReviveUndos { task } => {
                connection
                    .prepare_cached("REPLACE INTO undo SELECT * FROM kept_undo WHERE task = ?1")?
                    .execute([signed(*task)])?;
                delete_kept_undos(connection, *task)?;
            }
            RowOp::UpdateKeptUndo(row) => {
                connection
                    .prepare_cached(
                        "UPDATE kept_undo SET more = ?3, sum = ?4 WHERE task = ?1 AND undo = ?2",
                    )?
                    .execute(params![signed(row.task), row.undo, row.state, row.checksum])?;
            }
            RowOp::ReplaceStages(stages) => {
                connection.execute("DELETE FROM stage", [])?;
                for stage in stages {
                    connection
                        .prepare_cached("INSERT INTO stage VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![
                            stage.number,
                            stage.name,
                            stage.version,
                            stage.checksum
                        ])?;
                }
            }
            RowOp::SetMeta(name, value) => {
                connection
                    .prepare_cached("REPLACE INTO word VALUES (?1, ?2, ?3)")?
                    .execute(params![name, value, meta_checksum(name, value)])?;
            }
        }
        Ok(())
    }
}
