//! The database as a [`Store`].

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use tokio_postgres::Row;

use super::{
    changes::{Param, Part, parts},
    columns::{
        KEPT, KEPT_AFTER, KEPT_UNDO, OUTCOMES, STAGE, TASK, UNDO, keyed_outcome_row,
        outcome_block_row, stage_row, task_row, undo_row,
    },
    commit::send,
    error::Trouble,
    lease::{Entered, Renewal, enter},
    schema::{self, FORMAT, Found},
    server::{Schema, Server},
    session::{Connected, Pauses, Session},
};
use crate::journal::{
    corrupt::Corrupt,
    error::JournalError,
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, meta::meta_checksum,
        outcome_block::OutcomeBlockRow, undo::UndoRow,
    },
    store::{RowOp, Store, StoreError, Summary, TaskRows, Writes},
};

/// The rows that are read at once.
const PAGE: i64 = 1_000;

/// The choices for a journal in a database.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Choices {
    /// Default: `batrun_` and the pipeline's name.
    pub(in crate::journal) schema: Option<String>,
    pub(in crate::journal) lease: Duration,
    /// The longest time for which a commit is tried while the database is away.
    pub(in crate::journal) patience: Duration,
    /// The longest time to wait for an answer.
    pub(in crate::journal) answer: Duration,
    /// The longest time to wait for the node before.
    pub(in crate::journal) wait: Duration,
}

/// The journal of a pipeline in a database.
pub(in crate::journal) struct Postgres {
    server: Server,
    choices: Choices,
    session: Session,
    node: Option<Node>,
}

/// A node that lives, as far as it knows.
struct Node {
    schema: Schema,
    id: i32,
    /// The number of its commits that have happened.
    commits: i64,
    renewal: Renewal,
}

/// A node's row.
struct NodeRow {
    commits: i64,
    lives: bool,
}

impl Postgres {
    /// Connects to the server. The schema is looked at once the pipeline is known.
    pub(in crate::journal) fn connect(
        server: Server,
        choices: Choices,
    ) -> Result<Self, JournalError> {
        let path = server.path();
        let session = Session::new(server.clone(), choices.answer);
        let mut session = session.map_err(|error| JournalError::io(&path, error))?;
        session
            .run(async |_: &mut Connected| Ok(()))
            .map_err(|trouble| JournalError::store(&path, trouble.into()))?;
        Ok(Postgres {
            server,
            choices,
            session,
            node: None,
        })
    }

    /// Runs on the connection, also while the database is away for a while.
    fn read<T>(
        &mut self,
        work: impl AsyncFn(&Connected, &Schema) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let schema = &self.node.as_ref().ok_or_else(closed)?.schema;
        let read = self
            .session
            .run_patiently(self.choices.patience, async |connected: &mut Connected| {
                work(connected, schema).await
            });
        Ok(read?)
    }

    fn rows(&mut self, statement: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.read(async |connected, schema| {
            let statement = schema.in_it(statement);
            Ok(connected.client.query(&statement, params).await?)
        })
    }

    /// The undos of these tasks, of both the first and the last one, too.
    fn undos(
        &mut self,
        statement: &str,
        first: i64,
        last: i64,
    ) -> Result<Vec<(UndoRow, Blob)>, StoreError> {
        let rows = self.rows(statement, &[&first, &last])?;
        rows.iter().map(undo_row).collect()
    }

    /// The row of this node; `None` if there is none any more.
    fn own_row(&mut self) -> Result<Option<NodeRow>, StoreError> {
        let id = self.node.as_ref().ok_or_else(closed)?.id;
        let statement = "SELECT commits, state = 'live' FROM @.node WHERE id = $1";
        let rows = self.rows(statement, &[&id])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(NodeRow {
            commits: row.try_get(0)?,
            lives: row.try_get(1)?,
        }))
    }

    /// Makes the commit with this number once.
    fn commit_parts(&mut self, number: i64, parts: &[Part<'_>]) -> Result<(), StoreError> {
        let mut pauses = Pauses::new(self.choices.patience);
        loop {
            let node = self.node.as_ref().ok_or_else(closed)?;
            let (schema, id) = (&node.schema, node.id);
            let sent = self.session.run(async |connected: &mut Connected| {
                send(connected, schema, (id, number), parts).await
            });
            match sent {
                Ok(()) => return Ok(()),
                Err(Trouble::Refused(why)) => return Err(StoreError::Failed(why)),
                Err(Trouble::Fenced) => {}
                Err(trouble) => pauses.after(trouble)?,
            }
            // It may have happened: an answer was lost, or an attempt before this one was slow.
            match self.own_row()? {
                Some(row) if row.commits == number => return Ok(()),
                Some(row) if row.lives && row.commits == number - 1 => {}
                Some(row) if row.lives => {
                    let commits = row.commits;
                    return Err(StoreError::Failed(format!(
                        "the database has lost commits that it had confirmed: it knows {commits}, and \
                         {} were confirmed; has it been restored, or has a copy taken its place?",
                        number - 1
                    )));
                }
                _ => return Err(Trouble::Fenced.into()),
            }
        }
    }

    /// Makes this process the node that has the journal, once no other one lives.
    fn enter(&mut self, schema: &Schema) -> Result<i32, StoreError> {
        let (begin, lease) = (Instant::now(), self.choices.lease);
        loop {
            let entered = self
                .session
                .run(async |connected: &mut Connected| enter(connected, schema, lease).await);
            match entered? {
                Entered::Node(id) => return Ok(id),
                Entered::Held(left) => {
                    let waited = begin.elapsed();
                    let more = self.choices.wait.saturating_sub(waited);
                    if more.is_zero() {
                        return Err(StoreError::Held { waited });
                    }
                    // Rather often: it may leave before that.
                    let most = Duration::from_millis(250);
                    thread::sleep(left.clamp(Duration::from_millis(5), most).min(more));
                }
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // On an arbiter nobody may wait: there the lease runs out.
        if Handle::try_current().is_err() {
            self.close(Writes::Failed);
        }
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the journal is closed".to_owned())
}

impl Store for Postgres {
    fn begin(&mut self, pipeline: &str) -> Result<(), StoreError> {
        let schema = match &self.choices.schema {
            Some(name) => Schema::named(name),
            None => Schema::of(pipeline),
        };
        let schema = schema.map_err(StoreError::Failed)?;
        let found = self
            .session
            .run(async |connected: &mut Connected| schema::open(&connected.client, &schema).await);
        match found? {
            Found::Journal => {}
            Found::NotAJournal => return Err(StoreError::NotAJournal),
            Found::Format(found) => {
                return Err(StoreError::Format {
                    found,
                    known: FORMAT,
                });
            }
        }
        let id = self.enter(&schema)?;
        let renewal = Renewal::start(
            &self.server,
            &schema,
            id,
            (self.choices.lease, self.choices.answer),
        );
        self.node = Some(Node {
            renewal: renewal.map_err(|error| StoreError::Failed(error.to_string()))?,
            schema,
            id,
            commits: 0,
        });
        Ok(())
    }

    fn summary(&mut self) -> Result<Summary, StoreError> {
        let mut summary = Summary::default();
        for row in self.rows("SELECT name, value, sum FROM @.word ORDER BY name", &[])? {
            let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let value = super::text::unescaped(&value);
            if meta_checksum(&name, &value) != row.try_get::<_, i32>(2)? as u32 {
                let what = format!("the row {name:?} of the table word");
                return Err(Corrupt::new(what, "checksum mismatch").into());
            }
            summary.meta.push((name, value));
        }
        for row in self.rows(STAGE, &[])? {
            let stage = stage_row(&row)?;
            stage.verify()?;
            summary.stages.push(stage);
        }
        loop {
            let blocks = self.outcome_blocks(summary.last_block, PAGE as usize)?;
            for row in &blocks {
                summary.last_task = summary.last_task.max(row.block()?.last_task());
                summary.outcomes = summary.outcomes.saturating_add(row.count);
                summary.last_block = summary.last_block.max(row.number);
            }
            if blocks.len() < PAGE as usize {
                return Ok(summary);
            }
        }
    }

    fn tasks(&mut self, each: &mut dyn FnMut(TaskRows)) -> Result<(), StoreError> {
        let mut from = i64::MIN;
        loop {
            let page = self.rows(TASK, &[&from, &PAGE])?;
            let is_last = page.len() < PAGE as usize;
            let tasks: Result<Vec<_>, _> = page.iter().map(task_row).collect();
            let tasks = tasks?;
            let last = match tasks.last() {
                Some((task, _)) if !is_last => task.id as i64,
                _ => i64::MAX,
            };
            let mut undos = self.undos(UNDO, from, last)?.into_iter().peekable();
            for (task, context) in tasks {
                let own = std::iter::from_fn(|| {
                    undos.next_if(|(undo, _)| undo.task as i64 <= task.id as i64)
                });
                let own: Vec<_> = own.collect();
                if let Some((undo, _)) = own.iter().find(|(undo, _)| undo.task != task.id) {
                    return Err(orphan(undo).into());
                }
                each((task, context, own));
            }
            if let Some((undo, _)) = undos.next() {
                return Err(orphan(&undo).into());
            }
            if is_last {
                return Ok(());
            }
            from = last + 1;
        }
    }

    fn commit(&mut self, ops: &[RowOp]) -> Result<(), StoreError> {
        let number = self.node.as_ref().ok_or_else(closed)?.commits + 1;
        self.commit_parts(number, &parts(ops))?;
        if let Some(node) = &mut self.node {
            node.commits = number;
        }
        Ok(())
    }

    fn keyed_outcomes(&mut self, each: &mut dyn FnMut(KeyedOutcomeRow)) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.rows(KEPT_AFTER, &[&after, &PAGE])?;
            for row in &page {
                let row = keyed_outcome_row(row)?;
                row.verify()?;
                each(row);
            }
            after = match page.last() {
                Some(last) if page.len() == PAGE as usize => Some(last.try_get(0)?),
                _ => return Ok(()),
            };
        }
    }

    fn kept_undos(&mut self, task: u64) -> Result<Vec<(UndoRow, Blob)>, StoreError> {
        self.undos(KEPT_UNDO, task as i64, task as i64)
    }

    fn all_kept_undos(&mut self, each: &mut dyn FnMut(UndoRow)) -> Result<(), StoreError> {
        let undos = self.undos(KEPT_UNDO, i64::MIN, i64::MAX)?;
        undos.into_iter().for_each(|(undo, _)| each(undo));
        Ok(())
    }

    fn keyed_outcome(&mut self, key: &str) -> Result<Option<KeyedOutcomeRow>, StoreError> {
        let rows = self.rows(KEPT, &[&super::text::escaped(key)])?;
        rows.first().map(keyed_outcome_row).transpose()
    }

    fn outcome_blocks(
        &mut self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(OUTCOMES, &[&(after as i64), &limit])?;
        rows.iter().map(outcome_block_row).collect()
    }

    fn close(&mut self, writes: Writes) {
        let Some(node) = self.node.take() else {
            return;
        };
        node.renewal.stop();
        // After a failed write its state isn't known, and the lease runs out by itself.
        if writes == Writes::Succeeded {
            let leave = "UPDATE @.node SET state = 'left' WHERE id = $1 AND state = 'live'";
            let leave = node.schema.in_it(leave);
            let left = self.session.run(async |connected: &mut Connected| {
                Ok(connected.client.execute(&leave, &[&node.id]).await?)
            });
            if let Err(trouble) = left {
                crate::logging::warning!(
                    "the journal could not be left, so the next start waits for the lease to run out: {}",
                    StoreError::from(trouble)
                );
            }
        }
    }
}

fn orphan(undo: &UndoRow) -> Corrupt {
    let what = format_args!("undo {} of task {}", undo.undo, undo.task);
    Corrupt::new(what, "its task is missing")
}
