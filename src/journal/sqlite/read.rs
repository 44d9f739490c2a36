//! How rows are read: those that are none are told of, and the others follow.

use rusqlite::{Error, OptionalExtension, Row, Rows, params};

use super::Sqlite;
use crate::journal::{
    rows::{Blob, BlockRow, Corrupt, KeptRow, StageRow, TaskRow, UndoRow, word_sum},
    store::{StoreError, TaskRead},
};

/// Those that could be read, and why the others could not.
type Read<T> = (Vec<T>, Vec<Corrupt>);

impl Sqlite {
    /// The words about the journal itself.
    pub(in crate::journal) fn words(&self) -> Result<Read<(String, String)>, StoreError> {
        let mut words = self
            .connection()?
            .prepare("SELECT name, value, sum FROM word")?;
        let mut rows = words.query([])?;
        let mut read = Read::default();
        while let Some(row) = rows.next()? {
            let (name, value) = (text(row, 0)?, text(row, 1)?);
            if word_sum(&name, &value) == row.get::<_, u32>(2)? {
                read.0.push((name, value));
            } else {
                let what = format!("the word {name:?}");
                read.1.push(Corrupt::new(what, "its checksum differs"));
            }
        }
        Ok(read)
    }

    pub(in crate::journal) fn stages(&self) -> Result<Read<StageRow>, StoreError> {
        let mut stages = self
            .connection()?
            .prepare("SELECT number, name, version, sum FROM stage ORDER BY number")?;
        let mut rows = stages.query([])?;
        let mut read = Read::default();
        while let Some(row) = rows.next()? {
            let stage = StageRow {
                number: row.get(0)?,
                name: text(row, 1)?,
                version: row.get(2)?,
                sum: row.get(3)?,
            };
            match stage.check() {
                Ok(()) => read.0.push(stage),
                Err(corrupt) => read.1.push(corrupt),
            }
        }
        Ok(read)
    }

    /// Reads every task, or the one with this number. What is no row is told of in its place.
    pub(in crate::journal) fn read_tasks(
        &self,
        only: Option<u64>,
        each: &mut dyn FnMut(Result<TaskRead, Corrupt>),
    ) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let of = |column| {
            only.map_or(String::new(), |id| {
                format!("WHERE {column} = {}", id as i64)
            })
        };
        let mut tasks = connection.prepare(&format!(
            "SELECT id, key, stage, state, stuck, more, sum, context, context_sum FROM task {} \
             ORDER BY id",
            of("id")
        ))?;
        let mut undos = connection.prepare(&format!(
            "SELECT task, undo, more, sum, value, value_sum FROM undo {} ORDER BY task, undo",
            of("task")
        ))?;
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

    pub(in crate::journal) fn kept_for(&self, key: &str) -> Result<Option<KeptRow>, StoreError> {
        let mut kept = self.connection()?.prepare_cached(
            "SELECT key, task, at, outcome, output, sum FROM kept WHERE key = ?1",
        )?;
        Ok(kept.query_row([key], kept_row).optional()?)
    }

    pub(in crate::journal) fn blocks_after(
        &self,
        after: u64,
        most: usize,
    ) -> Result<Vec<BlockRow>, StoreError> {
        let mut blocks = self.connection()?.prepare_cached(
            "SELECT number, at, count, body, sum FROM outcomes WHERE number > ?1 \
             ORDER BY number LIMIT ?2",
        )?;
        let blocks = blocks.query_map(params![after as i64, most as i64], block_row)?;
        Ok(blocks.collect::<Result<_, _>>()?)
    }

    /// How many outcomes are kept, and the last block's number.
    pub(in crate::journal) fn outcomes(&self) -> Result<(u64, u64), StoreError> {
        let (outcomes, last): (i64, i64) = self.connection()?.query_row(
            "SELECT coalesce(sum(count), 0), coalesce(max(number), 0) FROM outcomes",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok((outcomes.max(0) as u64, last.max(0) as u64))
    }
}

/// The next row that is one; of those before it, why they are none.
fn next_row<T>(
    rows: &mut Rows<'_>,
    read: fn(&Row<'_>) -> Result<T, Error>,
    each: &mut dyn FnMut(Result<TaskRead, Corrupt>),
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
    let what = format!("undo {} of task {}", undo.undo, undo.task);
    Corrupt::new(what, "it has no task")
}

fn text(row: &Row<'_>, at: usize) -> Result<String, Error> {
    row.get(at)
}

fn task_row(row: &Row<'_>) -> Result<(TaskRow, Blob), Error> {
    let task = TaskRow {
        id: row.get::<_, i64>(0)? as u64,
        key: row.get::<_, Option<String>>(1)?.map(Into::into),
        stage: row.get(2)?,
        state: text(row, 3)?.into(),
        stuck: row.get(4)?,
        more: row.get(5)?,
        sum: row.get(6)?,
    };
    let context = Blob {
        bytes: row.get(7)?,
        sum: row.get(8)?,
    };
    Ok((task, context))
}

fn undo_row(row: &Row<'_>) -> Result<(UndoRow, Blob), Error> {
    let undo = UndoRow {
        task: row.get::<_, i64>(0)? as u64,
        undo: row.get(1)?,
        more: row.get(2)?,
        sum: row.get(3)?,
    };
    let value = Blob {
        bytes: row.get(4)?,
        sum: row.get(5)?,
    };
    Ok((undo, value))
}

pub(super) fn kept_row(row: &Row<'_>) -> Result<KeptRow, Error> {
    Ok(KeptRow {
        key: text(row, 0)?.into(),
        task: row.get::<_, i64>(1)? as u64,
        at: row.get::<_, i64>(2)? as u64,
        outcome: row.get(3)?,
        output: row.get(4)?,
        sum: row.get(5)?,
    })
}

pub(super) fn block_row(row: &Row<'_>) -> Result<BlockRow, Error> {
    Ok(BlockRow {
        number: row.get::<_, i64>(0)? as u64,
        at: row.get::<_, i64>(1)? as u64,
        count: row.get::<_, i64>(2)? as u64,
        body: row.get(3)?,
        sum: row.get(4)?,
    })
}
