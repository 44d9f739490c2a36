//! Starts a pipeline on a journal.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use super::{
    chunked_vec::ChunkedVec,
    plan::{PipelineSpec, Recovered},
    planner::{LastExit, Planner},
    stage_map::StageMap,
    task_reader::{MAX_TASK_ID, TaskReader},
};
use crate::{
    journal::{
        error::JournalError,
        key_index::{Kept, KeyChange, KeyIndex},
        ledger::JournalLedger,
        live_tasks::LiveTasks,
        options::Journal,
        rows::{
            meta::{ENDED, ID, LAST_TASK, ON_PURPOSE, PIPELINE, STILL_RUNNING},
            undo::UndoRow,
        },
        store::{RowOp, Store, StoreError, Summary},
        time::wall_clock,
        writer::handle::Writer,
    },
    task::{StageIx, TaskId},
};

impl Journal {
    /// Reads the journal, plans how each task goes on, and makes the journal this pipeline's
    /// ledger. Blocks while it reads the whole file.
    ///
    /// Everything that the plan changes is written in one commit, before any task goes on.
    pub(crate) fn start(
        self,
        spec: PipelineSpec,
    ) -> Result<(JournalLedger, Recovered), JournalError> {
        let Journal {
            mut store,
            path,
            retention,
            rules,
        } = self;
        let failed = |error| JournalError::store(&path, error);
        let corrupt = |why: String| JournalError::corrupt(&path, why);
        store.begin(&spec.pipeline).map_err(failed)?;
        let summary = store.summary().map_err(failed)?;
        let mut ops = Vec::new();
        let mut journal_id = meta(&summary, ID).map(str::to_owned);
        match meta(&summary, PIPELINE) {
            Some(found) if found != spec.pipeline => {
                return Err(JournalError::OtherPipeline {
                    path: path.clone(),
                    found: found.to_owned(),
                    wanted: spec.pipeline,
                });
            }
            Some(_) => {}
            None => {
                ops.push(RowOp::SetMeta(PIPELINE, spec.pipeline.clone()));
                let id = new_id();
                ops.push(RowOp::SetMeta(ID, id.clone()));
                journal_id = Some(id);
            }
        }
        let last_id = last_task_id(&summary).map_err(corrupt)?;
        let last_exit = match meta(&summary, ENDED) {
            Some(ON_PURPOSE) => LastExit::OnPurpose,
            _ => LastExit::Killed,
        };
        ops.push(RowOp::SetMeta(ENDED, STILL_RUNNING.to_owned()));
        let stages = StageMap::new(&summary.stages, &spec);
        if stages.changed {
            ops.push(RowOp::ReplaceStages(stages.rows.clone()));
        }
        let last_stage = (spec.stages.len() - 1) as StageIx;
        let now = wall_clock();
        let mut tasks = LiveTasks::new(last_stage, last_id, summary.last_block, summary.outcomes);
        tasks.keep_undos = spec.keep_undos;
        let mut reader = TaskReader {
            planner: Planner {
                now,
                last_exit,
                spec: &spec,
                stages: &stages,
            },
            tasks,
            ops,
            recovered: Recovered {
                tasks: ChunkedVec::new(),
                stuck: Vec::new(),
                quarantined: Vec::new(),
                last_id: TaskId(last_id),
                journal_id,
            },
        };
        read_all(&mut *store, &mut reader, failed, corrupt)?;
        if stages.changed {
            renumber_kept_undos(&mut *store, &stages, &mut reader.ops, failed, corrupt)?;
        }
        let keys = Arc::new(index(&mut *store, failed, corrupt)?);
        let TaskReader {
            mut tasks,
            mut ops,
            recovered,
            ..
        } = reader;
        for outcome in &recovered.quarantined {
            tasks.quarantine(outcome.clone(), now).map_err(corrupt)?;
            if let Some(key) = &outcome.key {
                let (task, at, end) = (outcome.task, now, outcome.end.kind());
                keys.apply([KeyChange::Kept((&**key).into(), Kept { task, at, end })]);
            }
        }
        tasks.drain(now, &mut ops).map_err(corrupt)?;
        store.commit(&ops).map_err(failed)?;
        let writer = Writer::start(store, path.clone(), tasks, retention, (rules, keys.clone()))
            .map_err(|error| JournalError::io(&path, error))?;
        let names = spec.stages.into_iter().map(|(name, _)| name).collect();
        let ledger = JournalLedger::new(writer, spec.codecs, keys, names, recovered.last_id);
        Ok((ledger, recovered))
    }
}

/// 64 random bits, in 13 digits of five bits each.
fn new_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    // Its keys come from the operating system.
    let bits = RandomState::new().build_hasher().finish();
    let digit = |n| char::from(DIGITS[(bits >> (5 * n)) as usize % DIGITS.len()]);
    (0..13).rev().map(digit).collect()
}

fn read_all(
    store: &mut dyn Store,
    reader: &mut TaskReader<'_>,
    failed: impl Fn(StoreError) -> JournalError,
    corrupt: impl Fn(String) -> JournalError,
) -> Result<(), JournalError> {
    let mut result = Ok(());
    let read = store.tasks(&mut |task| {
        if result.is_ok() {
            result = reader.read(task);
        }
    });
    read.map_err(failed)?;
    result.map_err(corrupt)
}

/// The keys of all tasks whose outcome is kept.
fn index(
    store: &mut dyn Store,
    failed: impl Fn(StoreError) -> JournalError,
    corrupt: impl Fn(String) -> JournalError,
) -> Result<KeyIndex, JournalError> {
    let index = KeyIndex::default();
    let mut result = Ok(());
    let read = store.keyed_outcomes(&mut |row| match row.end() {
        Ok(end) => {
            let (task, at) = (TaskId(row.task), row.at);
            let kept = Kept { task, at, end };
            index.apply([KeyChange::Kept(row.key, kept)]);
        }
        Err(why) => result = Err(why.to_string()),
    });
    read.map_err(failed)?;
    result.map_err(corrupt)?;
    Ok(index)
}

/// Writes the undos that are kept with the new numbers of their stages.
fn renumber_kept_undos(
    store: &mut dyn Store,
    stages: &StageMap,
    ops: &mut Vec<RowOp>,
    failed: impl Fn(StoreError) -> JournalError,
    corrupt: impl Fn(String) -> JournalError,
) -> Result<(), JournalError> {
    let mut result = Ok(());
    let renumbered = |row: UndoRow| {
        let mut undo = row.state().map_err(|corrupt| corrupt.to_string())?;
        undo.stage = stages.renumber(undo.stage)?;
        UndoRow::of(row.task, row.undo, &undo)
    };
    let read = store.all_kept_undos(&mut |row| match renumbered(row) {
        Ok(row) => ops.push(RowOp::UpdateKeptUndo(row)),
        Err(why) => result = Err(why),
    });
    read.map_err(failed)?;
    result.map_err(corrupt)
}

/// A fact about the journal itself.
fn meta<'a>(summary: &'a Summary, name: &str) -> Option<&'a str> {
    let mut meta = summary.meta.iter();
    let found = meta.find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// The highest number of a task that left the journal. The error says what is corrupt.
fn last_task_id(summary: &Summary) -> Result<u64, String> {
    let last_id = match meta(summary, LAST_TASK).map(str::parse::<u64>) {
        None => summary.last_task,
        // Outcomes that were deleted since had numbers too.
        Some(Ok(id)) => summary.last_task.max(id),
        Some(Err(_)) => return Err("the number of the last task is not a number".to_owned()),
    };
    if last_id.max(summary.last_block) > MAX_TASK_ID {
        return Err("the number of the last task is impossible".to_owned());
    }
    Ok(last_id)
}
