//! Starts a pipeline on a journal.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use super::{
    chunked_vec::ChunkedVec,
    plan::{PipelineSpec, Recovered},
    planner::{Before, LastExit, Planner},
    stage_map::{StageMap, stage_maps},
    takeover::Takeover,
    task_reader::{MAX_TASK_ID, TaskReader},
};
#[cfg(feature = "postgres")]
use crate::journal::{inspect::database_reader::DatabaseReader, postgres::server::Schema};
use crate::{
    journal::{
        error::JournalError,
        inspect::file_reader::FileReader,
        key_index::{Kept, KeyChange, KeyIndex},
        key_rules::Ended,
        lease::Lease,
        ledger::JournalLedger,
        live_tasks::LiveTasks,
        options::{Journal, Source},
        rows::{
            meta::{ENDED, ID, LAST_TASK, ON_PURPOSE, PIPELINE, STILL_RUNNING},
            undo::UndoRow,
        },
        store::{Begin, RowOp, Store, StoreError, Summary, TaskRows},
        time::wall_clock,
        writer::handle::Writer,
    },
    ledger::read_journal::ReadJournal,
    logging,
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
    ) -> Result<(JournalLedger, Recovered, Option<Takeover>), JournalError> {
        let Journal {
            mut store,
            path,
            retention,
            rules,
            source,
        } = self;
        let failed = |error| JournalError::store(&path, error);
        let corrupt = |why: String| JournalError::corrupt(&path, why);
        let begun = store.begin(Begin {
            pipeline: &spec.pipeline,
            stages: &spec.stage_rows(),
            reuses_keys: rules.taken_by == Ended::Done,
        });
        let begun = begun.map_err(failed)?;
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
        let mut last_id = last_task_id(&summary).map_err(corrupt)?;
        let mut last_block = summary.last_block;
        if let Some(after) = begun.after {
            (last_id, last_block) = (after, after);
        }
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
        let lease = store.lease();
        let now = lease
            .as_ref()
            .map_or_else(wall_clock, |lease| lease.wall_clock());
        let mut tasks = LiveTasks::new(last_stage, last_id, last_block, summary.outcomes);
        tasks.keep_undos = spec.keep_undos;
        let mut shared = Vec::new();
        if lease.is_some() && !begun.joined {
            shared = read_shared(&mut *store, last_exit).map_err(failed)?;
        }
        let revisions = shared.iter().filter_map(|(_, revision, _)| *revision);
        let maps = stage_maps(revisions, &spec, |revision| store.stages_of(revision));
        let maps = maps.map_err(failed)?;
        let mut reader = TaskReader {
            planner: Planner {
                now,
                last_exit,
                spec: &spec,
                stages: &stages,
            },
            keep: &mut |id, state| tasks.restore(id, state),
            ops,
            undo_ops: Vec::new(),
            recovered: Recovered {
                tasks: ChunkedVec::new(),
                stuck: Vec::new(),
                quarantined: Vec::new(),
                last_id: TaskId(last_id),
                journal_id,
            },
        };
        if lease.is_none() {
            read_all(&mut *store, &mut reader, last_exit, failed, corrupt)?;
        }
        for (rows, revision, before) in shared {
            let stages = revision.and_then(|revision| maps.get(&revision));
            reader.read_with(stages, rows, before).map_err(corrupt)?;
        }
        if stages.changed {
            renumber_kept_undos(&mut *store, &stages, &mut reader.ops, failed, corrupt)?;
        }
        let keys = Arc::new(index(&mut *store, failed, corrupt)?);
        let TaskReader {
            mut ops,
            mut undo_ops,
            mut recovered,
            ..
        } = reader;
        ops.append(&mut undo_ops);
        if begun.after.is_some() {
            // Those of others don't count.
            recovered.last_id = TaskId(last_id);
        }
        for outcome in &recovered.quarantined {
            tasks.quarantine(outcome.clone(), now).map_err(corrupt)?;
            if let Some(key) = &outcome.key {
                let (task, at, end) = (outcome.task, now, outcome.end.kind());
                keys.apply([KeyChange::Kept((&**key).into(), Kept { task, at, end })]);
            }
        }
        tasks.drain(now, &mut ops).map_err(corrupt)?;
        store.commit(&ops).map_err(failed)?;
        let mut claimer = store.claimer().map_err(failed)?;
        if let Some(claimer) = &mut claimer {
            warn_of_stranded(&spec.pipeline, claimer.stranded().map_err(failed)?);
        }
        let reader = reader_of(source, &spec, last_id, lease.as_ref());
        let writer = Writer::start(
            store,
            path.clone(),
            tasks,
            retention,
            (rules, keys.clone()),
            spec.stats.clone(),
        );
        let writer = writer.map_err(|error| JournalError::io(&path, error))?;
        let names = spec.stages.iter().map(|(name, _)| name.clone()).collect();
        let codecs = spec.codecs.clone();
        let ledger = JournalLedger::new(
            writer,
            codecs,
            keys,
            names,
            recovered.last_id,
            lease.clone(),
            reader,
        );
        let takeover = claimer.zip(lease).map(|(claimer, lease)| Takeover {
            claimer,
            spec,
            lease,
            waited: 0,
            decided: HashMap::new(),
        });
        Ok((ledger, recovered, takeover))
    }
}

/// Looks into the journal beside the pipeline. The node is in the numbers of tasks.
fn reader_of(
    source: Source,
    spec: &PipelineSpec,
    #[cfg_attr(not(feature = "postgres"), allow(unused))] last_id: u64,
    #[cfg_attr(not(feature = "postgres"), allow(unused))] lease: Option<&Arc<Lease>>,
) -> Option<Arc<dyn ReadJournal>> {
    let stats = spec.stats.clone();
    match source {
        Source::Nowhere => None,
        Source::File(path) => Some(Arc::new(FileReader { path, stats })),
        #[cfg(feature = "postgres")]
        Source::Database(server, schema) => {
            let schema = match schema {
                Some(name) => Schema::named(&name),
                None => Schema::of(&spec.pipeline),
            };
            Some(Arc::new(DatabaseReader {
                server,
                // The pipeline has begun there.
                schema: schema.ok()?,
                node: TaskId(last_id).series() as i32,
                lease: lease.map(Arc::downgrade).unwrap_or_default(),
                stats,
            }))
        }
    }
}

fn warn_of_stranded(pipeline: &str, stranded: u64) {
    if stranded > 0 {
        let more = if stranded < 1_000 { "" } else { " or more" };
        logging::warning!(
            "pipeline {pipeline}: {stranded} tasks{more} wait for a process with other stages, or other versions \
             of them, and none that has them is running"
        );
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
    last_exit: LastExit,
    failed: impl Fn(StoreError) -> JournalError,
    corrupt: impl Fn(String) -> JournalError,
) -> Result<(), JournalError> {
    let mut result = Ok(());
    let read = store.tasks(&mut |task| {
        if result.is_ok() {
            result = reader.read(task, last_exit.into());
        }
    });
    read.map_err(failed)?;
    result.map_err(corrupt)
}

/// A task of a store that several processes use, with the revision of its rows.
type SharedTask = (TaskRows, Option<i32>, Before);

/// Reads all tasks that are this process's. Only then does the store know how each one's process ended.
fn read_shared(store: &mut dyn Store, last_exit: LastExit) -> Result<Vec<SharedTask>, StoreError> {
    let mut tasks = Vec::new();
    store.tasks(&mut |task| tasks.push(task))?;
    let with_owner = |task: TaskRows| {
        let owners = store.owners_of(task.0.id);
        let revision = owners.map(|owners| owners.revision);
        let before = owners.map_or(Before::from(last_exit), Before::of);
        (task, revision, before)
    };
    Ok(tasks.into_iter().map(with_owner).collect())
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
