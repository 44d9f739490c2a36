//! The tasks of nodes that have gone.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::Row;

use super::{
    changes::Param,
    columns::{STAGES, TASKS, UNDOS, owners, stage_row, task_row, undo_row},
    server::Schema,
    session::{Connected, Session},
    text::escaped,
};
use crate::{
    journal::{
        command::{Answer, Command, Decision},
        rows::{blob::Blob, stage::StageRow, undo::UndoRow},
        store::{Claimer, Load, Owners, StoreError, TaskRows},
    },
    task::StageIx,
};

/// Claims tasks for a node, on a connection of its own.
pub(super) struct PostgresClaimer {
    pub(super) session: Session,
    pub(super) schema: Schema,
    pub(super) node: i32,
    pub(super) lease: Duration,
    /// The number of the last claim.
    pub(super) number: i64,
    /// The number of the first claim of which it isn't settled what came of it.
    pub(super) since: i64,
}

/// The longest time between two looks for tasks of nodes that have gone.
const LOOK: Duration = Duration::from_secs(1);

impl Claimer for PostgresClaimer {
    fn pause(&self) -> Duration {
        LOOK.min(self.lease / 5)
    }

    fn claim(&mut self, load: Load) -> Result<Vec<(TaskRows, Owners)>, StoreError> {
        let (schema, node) = (&self.schema, self.node);
        // The answer may be lost, or the connection before the rows are read; and a claim that was given up may
        // still arrive.
        self.number += 1;
        let (number, since) = (self.number, self.since);
        let [room, queued] = [load.room, load.queued].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let (tasks, undos) = self.session.run(async |connected: &mut Connected| {
            let client = &connected.client;
            let claim = schema.in_it("SELECT * FROM @.claim($1, $2, $3, $4, $5)");
            let claimed = client
                .query(&claim, &[&node, &room, &queued, &number, &since])
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
        self.since = self.number + 1;
    }

    fn stages_of(&mut self, revision: i32) -> Result<Vec<StageRow>, StoreError> {
        let schema = &self.schema;
        let rows = self.session.run(async |connected: &mut Connected| {
            let client = &connected.client;
            Ok(client.query(&schema.in_it(STAGES), &[&revision]).await?)
        })?;
        stage_rows(&rows)
    }

    fn idle(&mut self, busy: bool) -> Result<(u64, u64), StoreError> {
        let (schema, node) = (&self.schema, self.node);
        let row = self.session.run(async |connected: &mut Connected| {
            let idle = schema.in_it("SELECT nodes, room FROM @.idle($1, $2)");
            Ok(connected.client.query_one(&idle, &[&node, &busy]).await?)
        })?;
        let number = |at| row.try_get::<_, i64>(at).map(|number| number as u64);
        Ok((number(0)?, number(1)?))
    }

    fn is_waiting(&mut self, most: u64) -> Result<bool, StoreError> {
        let schema = &self.schema;
        let most = i64::try_from(most).unwrap_or(i64::MAX).saturating_sub(1);
        let row = self.session.run(async |connected: &mut Connected| {
            let waiting = schema.in_it(
                "SELECT EXISTS (SELECT FROM @.task WHERE owner = 0 OFFSET $1::bigint LIMIT 1)",
            );
            Ok(connected.client.query_one(&waiting, &[&most]).await?)
        })?;
        Ok(row.try_get(0)?)
    }

    fn told(&mut self) -> Result<Vec<Command>, StoreError> {
        let (schema, node) = (&self.schema, self.node);
        let rows = self.session.run(async |connected: &mut Connected| {
            let told = schema.in_it("SELECT id, task, what, gone FROM @.told($1)");
            Ok(connected.client.query(&told, &[&node]).await?)
        })?;
        let mut commands = Vec::new();
        for row in &rows {
            if let Some(decision) = Decision::named(row.try_get(2)?) {
                commands.push(Command {
                    number: row.try_get(0)?,
                    task: row.try_get::<_, i64>(1)? as u64,
                    decision,
                    gone: row.try_get(3)?,
                });
            }
        }
        Ok(commands)
    }

    fn answer(&mut self, command: Command, answer: &Answer) -> Result<bool, StoreError> {
        let (schema, node) = (&self.schema, self.node);
        let text = answer.text(command.decision);
        let text = escaped(&text);
        let row = self.session.run(async |connected: &mut Connected| {
            let answer = schema.in_it("SELECT @.answer($1, $2, $3)");
            let values: [Param<'_>; 3] = [&node, &command.number, &text];
            Ok(connected.client.query_one(&answer, &values).await?)
        })?;
        Ok(row.try_get(0)?)
    }

    fn stranded(&mut self) -> Result<u64, StoreError> {
        let schema = &self.schema;
        let row = self.session.run(async |connected: &mut Connected| {
            let stranded = schema.in_it("SELECT @.stranded()");
            Ok(connected.client.query_one(&stranded, &[]).await?)
        })?;
        Ok(row.try_get::<_, i64>(0)? as u64)
    }
}

/// The stages of a revision, verified.
pub(super) fn stage_rows(rows: &[Row]) -> Result<Vec<StageRow>, StoreError> {
    let stages: Result<Vec<_>, _> = rows.iter().map(stage_row).collect();
    let stages = stages?;
    for stage in &stages {
        stage.verify()?;
    }
    Ok(stages)
}

/// This process's own numbers of stages of another revision, as far as it has them.
pub(super) fn own_numbers(its: &[StageRow], own: &[StageRow]) -> HashMap<StageIx, StageIx> {
    let own_number = |its: &StageRow| {
        let own = own
            .iter()
            .find(|own| own.name == its.name && own.version == its.version)?;
        Some((its.number, own.number))
    };
    its.iter().filter_map(own_number).collect()
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
