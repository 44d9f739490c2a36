//! How changes of rows are written.

use rusqlite::{CachedStatement, Connection, Error, params};

use crate::journal::{rows::word_sum, store::Op};

/// The statements that a commit needs, each prepared once.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    put_task: Option<CachedStatement<'c>>,
    change_task: Option<CachedStatement<'c>>,
    drop_task: Option<CachedStatement<'c>>,
    drop_undos: Option<CachedStatement<'c>>,
    put_undo: Option<CachedStatement<'c>>,
    change_undo: Option<CachedStatement<'c>>,
    put_kept: Option<CachedStatement<'c>>,
}

/// The statement in this place, prepared by now.
fn ready<'s, 'c>(
    place: &'s mut Option<CachedStatement<'c>>,
    connection: &'c Connection,
    sql: &str,
) -> Result<&'s mut CachedStatement<'c>, Error> {
    Ok(match place {
        Some(prepared) => prepared,
        None => place.insert(connection.prepare_cached(sql)?),
    })
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Statements {
            connection,
            put_task: None,
            change_task: None,
            drop_task: None,
            drop_undos: None,
            put_undo: None,
            change_undo: None,
            put_kept: None,
        }
    }

    pub(super) fn write(&mut self, op: &Op) -> Result<(), Error> {
        let connection = self.connection;
        // Integers are signed there; the bits are the same.
        let signed = |number: u64| number as i64;
        match op {
            Op::Task(row, context) => {
                ready(
                    &mut self.put_task,
                    connection,
                    "REPLACE INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    signed(row.id),
                    row.key,
                    row.stage,
                    &*row.state,
                    row.stuck,
                    row.more,
                    row.sum,
                    context.bytes,
                    context.sum,
                ])?;
            }
            Op::State(row) => {
                ready(
                    &mut self.change_task,
                    connection,
                    "UPDATE task SET stage = ?2, state = ?3, stuck = ?4, more = ?5, sum = ?6 \
                     WHERE id = ?1",
                )?
                .execute(params![
                    signed(row.id),
                    row.stage,
                    &*row.state,
                    row.stuck,
                    row.more,
                    row.sum,
                ])?;
            }
            Op::Gone { task, undos } => {
                ready(
                    &mut self.drop_task,
                    connection,
                    "DELETE FROM task WHERE id = ?1",
                )?
                .execute([signed(*task)])?;
                if *undos {
                    ready(
                        &mut self.drop_undos,
                        connection,
                        "DELETE FROM undo WHERE task = ?1",
                    )?
                    .execute([signed(*task)])?;
                }
            }
            Op::Undo(row, value) => {
                ready(
                    &mut self.put_undo,
                    connection,
                    "REPLACE INTO undo VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    signed(row.task),
                    row.undo,
                    row.more,
                    row.sum,
                    value.bytes,
                    value.sum,
                ])?;
            }
            Op::UndoState(row) => {
                ready(
                    &mut self.change_undo,
                    connection,
                    "UPDATE undo SET more = ?3, sum = ?4 WHERE task = ?1 AND undo = ?2",
                )?
                .execute(params![
                    signed(row.task),
                    row.undo,
                    row.more,
                    row.sum
                ])?;
            }
            Op::Block(row) => {
                connection
                    .prepare_cached("REPLACE INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![
                        signed(row.number),
                        signed(row.at),
                        signed(row.count),
                        row.body,
                        row.sum,
                    ])?;
            }
            Op::Kept(row) => {
                ready(
                    &mut self.put_kept,
                    connection,
                    "REPLACE INTO kept VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    row.key,
                    signed(row.task),
                    signed(row.at),
                    row.outcome,
                    row.output,
                    row.sum,
                ])?;
            }
            Op::Forget { block, keys } => {
                connection
                    .prepare_cached("DELETE FROM outcomes WHERE number = ?1")?
                    .execute([signed(*block)])?;
                let mut forget =
                    connection.prepare_cached("DELETE FROM kept WHERE key = ?1 AND task = ?2")?;
                for (key, task) in keys {
                    forget.execute(params![key, signed(*task)])?;
                }
            }
            Op::Stages(stages) => {
                connection.execute("DELETE FROM stage", [])?;
                for stage in stages {
                    connection
                        .prepare_cached("INSERT INTO stage VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![stage.number, stage.name, stage.version, stage.sum])?;
                }
            }
            Op::Word(name, value) => {
                connection
                    .prepare_cached("REPLACE INTO word VALUES (?1, ?2, ?3)")?
                    .execute(params![name, value, word_sum(name, value)])?;
            }
        }
        Ok(())
    }
}
