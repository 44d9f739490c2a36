//! The tasks of a snapshot, each with its undos.

use tokio_postgres::Row;

use super::{
    columns::{UNDOS, owners, task_row, undo_row},
    snapshot::{PAGE, Snapshot, sorted},
    text::escaped,
};
use crate::journal::{
    corrupt::Corrupt,
    rows::undo::UndoRow,
    store::{Owners, StoreError, TaskRows},
};

/// The tasks that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Only {
    All,
    /// At most so many of those that aren't stuck.
    UnderWay(usize),
    Stuck,
    Task(u64),
}

/// A task with the node that has it.
pub(in crate::journal) struct FoundTask {
    pub(in crate::journal) rows: TaskRows,
    /// 0 is nobody.
    pub(in crate::journal) owner: i32,
    pub(in crate::journal) owners: Owners,
}

type EachTask<'a> = &'a mut dyn FnMut(Result<FoundTask, Corrupt>);

impl Snapshot {
    /// The number of the task with a key, if it has left nothing but its outcome by now, `None`.
    pub(in crate::journal) fn task_of_key(&mut self, key: &str) -> Result<Option<u64>, StoreError> {
        // A stuck task keeps its key, though another one may have it once its outcome is gone.
        let statement =
            "SELECT t.id FROM @.task t WHERE t.key = $1 ORDER BY t.stuck, t.id DESC LIMIT 1";
        let rows = self.rows(statement, &[&escaped(key)])?;
        let id = rows
            .first()
            .map(|row| row.try_get::<_, i64>(0))
            .transpose()?;
        Ok(id.map(|id| id as u64))
    }

    /// Reads tasks, in the order of their numbers. Damaged ones are reported, and the others are read all the
    /// same.
    pub(in crate::journal) fn tasks(
        &mut self,
        only: Only,
        each: EachTask<'_>,
    ) -> Result<(), StoreError> {
        let (filter, most) = match only {
            Only::All => (String::new(), i64::MAX),
            Only::UnderWay(most) => (
                "AND NOT stuck".to_owned(),
                i64::try_from(most).unwrap_or(i64::MAX),
            ),
            Only::Stuck => ("AND stuck".to_owned(), i64::MAX),
            Only::Task(id) => (format!("AND id = {}", id as i64), 1),
        };
        let statement = format!(
            "SELECT id, key, stage, state, stuck, more, sum, context, context_sum, killed, owners, revision, \
             unowned, owner FROM @.task WHERE id >= $1 {filter} ORDER BY id LIMIT $2"
        );
        let (mut from, mut left) = (i64::MIN, most);
        while left > 0 {
            let limit = left.min(PAGE);
            let page = self.rows(&statement, &[&from, &limit])?;
            let is_last = page.len() < limit as usize || left == limit;
            let last = match page.last() {
                Some(row) if only != Only::All || !is_last => row.try_get(0)?,
                _ => i64::MAX,
            };
            let undos = match only {
                // Also those without a task.
                Only::All => self.rows(UNDOS_BETWEEN, &[&from, &last])?,
                _ => {
                    let ids: Result<Vec<i64>, _> = page.iter().map(|row| row.try_get(0)).collect();
                    self.rows(UNDOS, &[&ids?])?
                }
            };
            merge(&page, &undos, each)?;
            if is_last || last == i64::MAX {
                return Ok(());
            }
            (from, left) = (last + 1, left - limit);
        }
        Ok(())
    }
}

const UNDOS_BETWEEN: &str = "SELECT task, undo, more, sum, value, value_sum FROM @.undo \
                             WHERE task BETWEEN $1 AND $2 ORDER BY task, undo";

/// Gives each task its undos. Both are in the order of tasks.
fn merge(tasks: &[Row], undos: &[Row], each: EachTask<'_>) -> Result<(), StoreError> {
    let mut read = Vec::with_capacity(undos.len());
    for row in undos {
        match sorted(undo_row(row))? {
            Ok(undo) => read.push(undo),
            Err(corrupt) => each(Err(corrupt)),
        }
    }
    let mut undos = read.into_iter().peekable();
    for row in tasks {
        let id: i64 = row.try_get(0)?;
        while let Some((undo, _)) = undos.next_if(|(undo, _)| (undo.task as i64) < id) {
            each(Err(orphan(&undo)));
        }
        let own =
            std::iter::from_fn(|| undos.next_if(|(undo, _)| undo.task as i64 == id)).collect();
        let found = (|| {
            let (task, context) = task_row(row)?;
            Ok(FoundTask {
                rows: (task, context, own),
                owner: row.try_get(13)?,
                owners: owners(row)?,
            })
        })();
        each(sorted(found)?);
    }
    for (undo, _) in undos {
        each(Err(orphan(&undo)));
    }
    Ok(())
}

fn orphan(undo: &UndoRow) -> Corrupt {
    let what = format_args!("undo {} of task {}", undo.undo, undo.task);
    Corrupt::new(what, "its task is missing")
}
