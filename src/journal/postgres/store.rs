//! The database as a [`Store`].

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_postgres::Row;

use super::{
    changes::{Param, parts},
    claims::{PostgresClaimer, own_numbers, stage_rows, with_undos},
    columns::{
        ANSWERS, IN_FLIGHT, KEPT, KEPT_AFTER, KEPT_UNDO, OLDEST_OUTCOMES, ORPHAN, OUTCOMES,
        REVISION_OF_KEPT, STAGES, STUCK_ELSEWHERE, TASK, TASK_BY_ID, TASK_OF_KEY, UNDO,
        keyed_outcome_row, outcome_block_row, owners, task_row, undo_row,
    },
    error::Trouble,
    node::{Choices, Node},
    server::{Schema, Server},
    session::{Connected, Session},
    text::{escaped, unescaped},
};
use crate::{
    journal::{
        command::{Answer, Decision},
        corrupt::Corrupt,
        error::JournalError,
        lease::Lease,
        rows::{
            blob::Blob, keyed_outcome::KeyedOutcomeRow, meta::meta_checksum,
            outcome_block::OutcomeBlockRow, stage::StageRow, task::TaskRow, undo::UndoRow,
        },
        store::{
            Begin, Begun, Claimer, Elsewhere, Lost, Owners, Reopen, RowOp, Store, StoreError,
            Summary, TaskRows, Writes,
        },
    },
    task::StageIx,
};

/// The rows that are read at once.
const PAGE: i64 = 1_000;

/// The time that a change of a commit may take besides.
const ROW: Duration = Duration::from_micros(200);

/// The journal of a pipeline in a database.
pub(in crate::journal) struct Postgres {
    pub(super) server: Server,
    pub(super) choices: Choices,
    pub(super) session: Session,
    pub(super) node: Option<Node>,
    /// Nobody knows what came of a commit.
    has_failed: bool,
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
        Ok(Self::on(server, choices, session))
    }

    fn on(server: Server, choices: Choices, session: Session) -> Self {
        Postgres {
            server,
            choices,
            session,
            node: None,
            has_failed: false,
        }
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

    pub(super) fn rows(
        &mut self,
        statement: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
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
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // On an arbiter nobody may wait: there the lease runs out.
        if Handle::try_current().is_err() {
            self.close(match self.has_failed {
                true => Writes::Failed,
                false => Writes::Succeeded,
            });
        }
    }
}

pub(super) fn closed() -> StoreError {
    StoreError::Failed("the journal is closed".to_owned())
}

impl Store for Postgres {
    fn begin(&mut self, begin: Begin<'_>) -> Result<Begun, StoreError> {
        self.enter(&begin)
    }

    fn reopen(&self) -> Option<Reopen> {
        let (server, choices) = (self.server.clone(), self.choices.clone());
        Some(Arc::new(move || {
            let session = Session::new(server.clone(), choices.answer);
            let session = session.map_err(|error| StoreError::Failed(error.to_string()))?;
            Ok(Box::new(Postgres::on(server.clone(), choices.clone(), session)) as Box<dyn Store>)
        }))
    }

    fn claimer(&mut self) -> Result<Option<Box<dyn Claimer>>, StoreError> {
        let node = self.node.as_ref().ok_or_else(closed)?;
        let session = Session::new(self.server.clone(), self.choices.answer);
        let session = session.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Some(Box::new(PostgresClaimer {
            session,
            schema: node.schema.clone(),
            node: node.id,
            lease: self.choices.lease,
            number: 0,
            since: 1,
        })))
    }

    fn count_outcomes(&mut self) -> Result<Option<u64>, StoreError> {
        let rows = self.rows(
            "SELECT coalesce(sum(count), 0)::bigint FROM @.outcomes",
            &[],
        )?;
        let count = rows.first().map(|row| row.try_get::<_, i64>(0));
        Ok(count.transpose()?.map(|count| count as u64))
    }

    fn task_elsewhere(&mut self, key: &str) -> Result<Option<Elsewhere>, StoreError> {
        let rows = self.rows(TASK_OF_KEY, &[&escaped(key)])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let task = row.try_get::<_, i64>(0)? as u64;
        Ok(Some(match row.try_get(1)? {
            true => Elsewhere::Stuck(task),
            false => Elsewhere::InFlight(task),
        }))
    }

    fn owners_of(&self, task: u64) -> Option<Owners> {
        let node = self.node.as_ref()?;
        node.owners.get(&task).copied()
    }

    fn oldest_outcomes(&mut self, limit: usize) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(OLDEST_OUTCOMES, &[&limit])?;
        rows.iter().map(outcome_block_row).collect()
    }

    fn tell(&mut self, number: i64, task: u64, decision: Decision) -> Result<bool, StoreError> {
        let (task, what) = (task as i64, decision.as_str());
        let rows = self.rows("SELECT @.tell($1, $2, $3)", &[&number, &task, &what])?;
        let there = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(there.unwrap_or_default())
    }

    fn in_flight(&mut self, keys: &[Box<str>]) -> Result<Vec<Box<str>>, StoreError> {
        let escaped: Vec<_> = keys.iter().map(|key| escaped(key)).collect();
        let rows = self.rows(IN_FLIGHT, &[&escaped])?;
        let key = |row: &Row| Ok(unescaped(row.try_get(0)?).into());
        rows.iter().map(key).collect()
    }

    fn answers(&mut self, numbers: &[i64]) -> Result<Vec<(i64, Answer)>, StoreError> {
        let rows = self.rows(ANSWERS, &[&numbers])?;
        let answer = |row: &Row| {
            let answer = Answer::read(&unescaped(row.try_get(1)?));
            Ok((row.try_get(0)?, answer))
        };
        rows.iter().map(answer).collect()
    }

    fn stuck_elsewhere(&mut self) -> Result<Vec<TaskRow>, StoreError> {
        let me = self.node.as_ref().ok_or_else(closed)?.id;
        let rows = self.rows(STUCK_ELSEWHERE, &[&me])?;
        let rows = rows.iter().map(|row| Ok(task_row(row)?.0));
        rows.collect()
    }

    fn task_row(&mut self, task: u64) -> Result<Option<(TaskRow, i32)>, StoreError> {
        let rows = self.rows(TASK_BY_ID, &[&(task as i64)])?;
        let row = |row: &Row| Ok((task_row(row)?.0, row.try_get(11)?));
        rows.first().map(row).transpose()
    }

    fn stages_of(&mut self, revision: i32) -> Result<Vec<StageRow>, StoreError> {
        stage_rows(&self.rows(STAGES, &[&revision])?)
    }

    fn numbers_of_kept(
        &mut self,
        key: &str,
        task: u64,
    ) -> Result<Option<HashMap<StageIx, StageIx>>, StoreError> {
        let own = self.node.as_ref().ok_or_else(closed)?.revision;
        let rows = self.rows(REVISION_OF_KEPT, &[&escaped(key), &(task as i64)])?;
        match rows.first().map(|row| row.try_get(0)).transpose()? {
            Some(its) if its != own => {
                let (its, own) = (self.stages_of(its)?, self.stages_of(own)?);
                Ok(Some(own_numbers(&its, &own)))
            }
            _ => Ok(None),
        }
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        Some(self.node.as_ref()?.lease.clone())
    }

    fn facts(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.rows("SELECT name, value, sum FROM @.word ORDER BY name", &[])?;
        let verified = |row: &Row| {
            let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let value = unescaped(&value);
            if meta_checksum(&name, &value) != row.try_get::<_, i32>(2)? as u32 {
                let what = format!("the row {name:?} of the table word");
                return Err(Corrupt::new(what, "checksum mismatch").into());
            }
            Ok((name, value))
        };
        rows.iter().map(verified).collect()
    }

    fn summary(&mut self) -> Result<Summary, StoreError> {
        let mut summary = Summary {
            meta: self.facts()?,
            ..Summary::default()
        };
        summary.stages = self.stages_of(self.node.as_ref().ok_or_else(closed)?.revision)?;
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
        if let Some(row) = self.rows(ORPHAN, &[])?.first() {
            let (task, undo) = (row.try_get::<_, i64>(0)? as u64, row.try_get::<_, i64>(1)?);
            let what = format_args!("undo {undo} of task {task}");
            return Err(Corrupt::new(what, "its task is missing").into());
        }
        let me = self.node.as_ref().ok_or_else(closed)?.id;
        let mut from = i64::MIN;
        loop {
            let page = self.rows(TASK, &[&from, &PAGE, &me])?;
            let is_last = page.len() < PAGE as usize;
            let last = match page.last() {
                Some(row) if !is_last => row.try_get(0)?,
                _ => i64::MAX,
            };
            let undos = self.undos(UNDO, from, last)?;
            if let Some(node) = &mut self.node {
                for row in &page {
                    let task: i64 = row.try_get(0)?;
                    node.owners.insert(task as u64, owners(row)?);
                }
            }
            for task in with_undos(&page, undos)? {
                each(task);
            }
            if is_last {
                return Ok(());
            }
            from = last + 1;
        }
    }

    fn commit(&mut self, ops: &[RowOp]) -> Result<Vec<Lost>, StoreError> {
        let number = self.node.as_ref().ok_or_else(closed)?.commits + 1;
        self.has_failed = true;
        // A large one takes longer.
        let answer = self.choices.answer + ROW * u32::try_from(ops.len()).unwrap_or(u32::MAX);
        self.session.answers_within(answer);
        let lost = self.commit_parts(number, &parts(ops));
        self.session.answers_within(self.choices.answer);
        let lost = lost?;
        self.has_failed = false;
        if let Some(node) = &mut self.node {
            node.commits = number;
            node.confirmed.store(number, Ordering::SeqCst);
        }
        Ok(lost)
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
        let rows = self.rows(KEPT, &[&escaped(key)])?;
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
                    "the journal could not be left, so its tasks go on elsewhere only once the lease has run out: {}",
                    StoreError::from(trouble)
                );
            }
        }
    }
}
