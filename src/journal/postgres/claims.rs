//! The tasks of nodes that have gone.

use std::time::Duration;

use tokio_postgres::Row;

use super::{
    columns::{STAGE, TASKS, UNDOS, owners, stage_row, task_row, undo_row},
    server::Schema,
    session::{Connected, Session},
};
use crate::journal::{
    rows::{blob::Blob, stage::StageRow, undo::UndoRow},
    store::{Claimer, Owners, StoreError, TaskRows},
};

/// Claims tasks for a node, on a connection of its own.
pub(super) struct PostgresClaimer {
    pub(super) session: Session,
    pub(super) schema: Schema,
    pub(super) node: i32,
    pub(super) lease: Duration,
    /// The number of the next claim.
    pub(super) number: i32,
    /// It was made already, and what came of it is not settled.
    pub(super) again: bool,
}

/// The longest time between two looks for tasks of nodes that have gone.
const LOOK: Duration = Duration::from_secs(1);

impl Claimer for PostgresClaimer {
    fn pause(&self) -> Duration {
        LOOK.min(self.lease / 5)
    }

    fn claim(&mut self, room: usize) -> Result<Vec<(TaskRows, Owners)>, StoreError> {
        let (schema, node) = (&self.schema, self.node);
        let (number, again) = (self.number, self.again);
        // The answer may be lost, or the connection before the rows are read.
        self.again = true;
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let (tasks, undos) = self.session.run(async |connected: &mut Connected| {
            let client = &connected.client;
            let claim = schema.in_it("SELECT * FROM @.claim($1, $2, $3, $4)");
            let claimed = client
                .query(&claim, &[&node, &room, &number, &again])
                .await?;
            let ids: Result<Vec<i64>, _> = claimed.iter().map(|row| row.try_get(0)).collect();
            let ids = ids?;
            if ids.is_empty() {
                return Ok(Default::default());
            }
            let tasks = client.query(&schema.in_it(TASKS), &[&ids]).await?;
            let undos = client.query(&schema.in_it(UNDOS), &[&ids]).await?;
            Ok((tasks, undos))
        })?;
        let undos: Result<Vec<_>, _> = undos.iter().map(undo_row).collect();
        let rows = with_undos(&tasks, undos?)?;
        let owners: Result<Vec<_>, _> = tasks.iter().map(owners).collect();
        Ok(rows.into_iter().zip(owners?).collect())
    }

    fn settle(&mut self) {
        self.number += 1;
        self.again = false;
    }

    fn stages(&mut self) -> Result<Vec<StageRow>, StoreError> {
        let schema = &self.schema;
        let rows = self.session.run(async |connected: &mut Connected| {
            Ok(connected.client.query(&schema.in_it(STAGE), &[]).await?)
        })?;
        let stages: Result<Vec<_>, _> = rows.iter().map(stage_row).collect();
        let stages = stages?;
        for stage in &stages {
            stage.verify()?;
        }
        Ok(stages)
    }
}

/// Gives each task its undos. Both are in the order of tasks.
pub(super) fn with_undos(
    tasks: &[Row],
    undos: Vec<(UndoRow, Blob)>,
) -> Result<Vec<TaskRows>, StoreError> {
    let mut undos = undos.into_iter().peekable();
    let mut all = Vec::with_capacity(tasks.len());
    for row in tasks {
        let (task, context) = task_row(row)?;
        // Undos of others in between are those of other nodes' tasks.
        while undos
            .next_if(|(undo, _)| (undo.task as i64) < task.id as i64)
            .is_some()
        {}
        let own = std::iter::from_fn(|| undos.next_if(|(undo, _)| undo.task == task.id));
        let own = own.collect();
        all.push((task, context, own));
    }
    Ok(all)
}
