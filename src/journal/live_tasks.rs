//! All tasks that the writer knows, and the row changes that a batch of entries makes of them.
//! Pure: no file, and the time is a parameter.

mod by_key;

use std::{
    collections::{HashMap, hash_map},
    hash::BuildHasherDefault,
    mem,
};

use super::{
    entry::Entry,
    rows::{
        blob::Blob,
        keyed_outcome::{KeyedOutcome, KeyedOutcomeRow},
        meta,
        outcome_block::{OutcomeBlock, OutcomeBlockRow},
        task::TaskRow,
        undo::UndoRow,
    },
    store::{RowOp, Take},
    task_id_hash::TaskIdHasher,
    task_state::TaskState,
    transitions::Applied,
    undo_state::UndoState,
};
use crate::task::{End, Outcome, StageIx, TaskId};

/// Every task without an outcome, every stuck task, and the changes that are not written yet.
///
/// Entries go in one by one with [`apply`](Self::apply), and come out as the row changes of one
/// commit with [`drain`](Self::drain): a task that changes three times in a batch is written once.
#[derive(Default)]
pub(super) struct LiveTasks {
    last_stage: StageIx,
    /// Each task is in a box, because a hash table is half empty.
    tasks: HashMap<u64, Box<LiveTask>, BuildHasherDefault<TaskIdHasher>>,
    /// The tasks with keys that have no outcome yet, and stuck ones: theirs stays taken until a person has
    /// dealt with them.
    keys: HashMap<Box<str>, u64>,
    last_id: u64,
    last_block: u64,
    /// The number of outcomes that are kept.
    pub(super) outcomes: u64,
    /// The undos of done tasks with keys are kept.
    pub(super) keep_undos: bool,
    /// A task is another process's once it is accepted.
    pub(super) hands_on: bool,
    /// Those that are in the commit under way.
    handed_on: Vec<u64>,
    batch: Batch,
}

/// The changes since the last commit.
#[derive(Default)]
struct Batch {
    /// The tasks whose rows have to be written.
    dirty: Vec<u64>,
    /// The tasks among them whose rows have to be encoded first.
    stale: Vec<u64>,
    /// New and changed undos: task, number, and the value of a new one.
    undos: Vec<(u64, usize, Option<Vec<u8>>)>,
    /// The undos of tasks that left in this batch, and are kept.
    kept_undos: HashMap<u64, Vec<UndoState>>,
    /// Tasks that are another process's once everything of them is written.
    released: Vec<u64>,
    deletes: Vec<RowOp>,
    outcomes: OutcomeBlock,
    keyed_outcomes: Vec<KeyedOutcomeRow>,
}

/// A task, and the part of it that is not written yet.
struct LiveTask {
    state: TaskState,
    /// It is in [`Batch::dirty`].
    dirty: bool,
    /// It is in [`Batch::stale`]: `row` is missing or out of date.
    stale: bool,
    row: Option<TaskRow>,
    /// The context to write with the row, if there is a new one.
    context: Option<Vec<u8>>,
    /// The last stage's output, of a task with a key.
    output: Option<Vec<u8>>,
    /// It is to take its key with its row.
    takes: Option<Take>,
    /// The store has a row of it.
    written: bool,
}

impl LiveTask {
    fn new(state: TaskState, written: bool) -> Box<Self> {
        Box::new(LiveTask {
            state,
            dirty: false,
            stale: false,
            row: None,
            context: None,
            output: None,
            takes: None,
            written,
        })
    }
}

impl LiveTasks {
    pub(super) fn new(last_stage: StageIx, last_id: u64, last_block: u64, outcomes: u64) -> Self {
        LiveTasks {
            last_stage,
            last_id,
            last_block,
            outcomes,
            ..LiveTasks::default()
        }
    }

    /// Adds a task that is in the store.
    pub(super) fn restore(&mut self, id: u64, state: TaskState) {
        if let Some(key) = &state.details.key {
            self.keys.insert(key.clone(), id);
        }
        self.tasks.insert(id, LiveTask::new(state, true));
    }

    /// Applies an entry. Returns the outcome if it gives one to a task with a key.
    pub(super) fn apply(
        &mut self,
        task: u64,
        mut entry: Entry,
        now: u64,
    ) -> Result<Option<KeyedOutcome>, String> {
        let live = match (self.tasks.entry(task), &entry) {
            (hash_map::Entry::Occupied(live), _) => live.into_mut(),
            (
                hash_map::Entry::Vacant(place),
                Entry::Accepted {
                    key,
                    digest,
                    label,
                    deadline_left,
                    work_timeout,
                    ..
                },
            ) => {
                if let Some(key) = key {
                    self.keys.insert(key.clone(), task);
                }
                self.last_id = self.last_id.max(task);
                let (key, label) = (key.clone(), label.clone());
                let mut state = TaskState::accepted(key, label, *deadline_left, *work_timeout, now);
                state.details.digest = *digest;
                let takes = state.details.key.is_some().then_some(Take::New);
                let live = place.insert(LiveTask::new(state, false));
                live.takes = takes;
                live
            }
            // A shutdown gave the task up while something was still at work on it.
            (hash_map::Entry::Vacant(_), _) => return Ok(None),
        };
        if live.state.is_stuck() && !matches!(entry, Entry::Resolved | Entry::Retried) {
            return Ok(None);
        }
        let details = &live.state.details;
        let outcome = match &mut entry {
            Entry::Done => Some(Outcome::done(TaskId(task), details.names())),
            Entry::Ended(outcome) => {
                details.name(outcome);
                Some(Outcome::clone(outcome))
            }
            _ => None,
        };
        let applied = live
            .state
            .apply(entry, self.last_stage, now)
            .map_err(|bad| format!("task {task}: {bad}"))?;
        let task_row_changed = match applied {
            Applied::Task | Applied::Stuck => true,
            Applied::Context(context) => {
                live.context = Some(context);
                true
            }
            Applied::LastOutput(output) => {
                if live.state.details.key.is_some() {
                    live.output = Some(output);
                }
                false
            }
            Applied::NewUndo { undo, value } => {
                self.batch.undos.push((task, undo, Some(value)));
                false
            }
            Applied::Undo { undo, task_row } => {
                self.batch.undos.push((task, undo, None));
                task_row
            }
            Applied::All => {
                let undos = 0..live.state.undos.len();
                self.batch
                    .undos
                    .extend(undos.map(|undo| (task, undo, None)));
                true
            }
            Applied::Released => {
                self.batch.released.push(task);
                false
            }
            Applied::Left => return Ok(self.remove(task, outcome)),
        };
        if task_row_changed {
            if !mem::replace(&mut live.dirty, true) {
                self.batch.dirty.push(task);
            }
            if !mem::replace(&mut live.stale, true) {
                self.batch.stale.push(task);
            }
        }
        let key = live.state.details.key.clone();
        let digest = live.state.details.digest;
        Ok(outcome.and_then(|outcome| self.add_outcome(key, digest, outcome, None)))
    }

    /// Removes a task that leaves, with this outcome unless it was resolved.
    fn remove(&mut self, task: u64, outcome: Option<Outcome>) -> Option<KeyedOutcome> {
        let live = self.tasks.remove(&task)?;
        let is_done = outcome.as_ref().is_some_and(Outcome::is_done);
        let TaskState { details, undos, .. } = live.state;
        let mut has_undos = !undos.is_empty();
        let mut kept = None;
        if self.keep_undos && is_done && details.key.is_some() {
            kept = Some(undos.len() as u32);
            if mem::take(&mut has_undos) {
                self.batch.deletes.push(RowOp::KeepUndos { task });
                self.batch.kept_undos.insert(task, undos);
            }
        }
        // A task that came and went within one batch is in no table.
        if live.written || has_undos {
            self.batch
                .deletes
                .push(RowOp::DeleteTask { task, has_undos });
        }
        // The last stage's output counts only if it was in time.
        let (key, output) = (details.key, live.output.filter(|_| is_done));
        if let Some(key) = &key {
            self.keys.remove(key);
        }
        let keyed =
            outcome.and_then(|outcome| self.add_outcome(key, details.digest, outcome, output));
        keyed.map(|keyed| KeyedOutcome {
            undos: kept,
            ..keyed
        })
    }

    fn add_outcome(
        &mut self,
        key: Option<Box<str>>,
        digest: Option<u64>,
        outcome: Outcome,
        output: Option<Vec<u8>>,
    ) -> Option<KeyedOutcome> {
        let task = outcome.task.0;
        let keyed = key.map(|key| {
            self.batch.outcomes.keys.push((key.clone(), task));
            KeyedOutcome {
                key,
                outcome: outcome.clone(),
                output,
                digest,
                undos: None,
            }
        });
        match outcome.end {
            End::Done => {
                let labels = outcome.label.map(|label| (task, label));
                self.batch.outcomes.labels.extend(labels);
                self.batch.outcomes.done.push(task);
            }
            _ => self.batch.outcomes.rest.push(outcome),
        }
        keyed
    }

    /// Gives a restored task, which a restart has set aside, its outcome.
    pub(super) fn quarantine(&mut self, outcome: Outcome, now: u64) -> Result<(), String> {
        let live = self.tasks.get(&outcome.task.0);
        let details = live.map(|live| &live.state.details);
        let key = details.and_then(|details| details.key.clone());
        let digest = details.and_then(|details| details.digest);
        match self.add_outcome(key, digest, outcome, None) {
            Some(keyed) => self.write_keyed_outcome(&keyed, now),
            None => Ok(()),
        }
    }

    /// Adds the row by which an outcome is found by its task's key.
    pub(super) fn write_keyed_outcome(
        &mut self,
        keyed: &KeyedOutcome,
        now: u64,
    ) -> Result<(), String> {
        let row = KeyedOutcomeRow::new(keyed, now)?;
        self.batch.keyed_outcomes.push(row);
        Ok(())
    }

    /// Stores the highest task number, for when no other row shows it any more.
    pub(super) fn store_last_id(&self) -> RowOp {
        RowOp::SetMeta(meta::LAST_TASK, self.last_id.to_string())
    }

    /// Encodes the rows that have changed.
    ///
    /// [`drain`](Self::drain) would do it too. Doing it earlier, while the commit before still
    /// runs, leaves less to do between two commits.
    pub(super) fn encode_rows(&mut self) -> Result<(), String> {
        for id in self.batch.stale.drain(..) {
            if let Some(live) = self.tasks.get_mut(&id) {
                live.stale = false;
                live.row = Some(TaskRow::of(id, &live.state)?);
            }
        }
        Ok(())
    }

    /// Moves the changes since the last time to `ops`.
    pub(super) fn drain(&mut self, now: u64, ops: &mut Vec<RowOp>) -> Result<(), String> {
        self.encode_rows()?;
        for id in self.batch.dirty.drain(..) {
            let Some(live) = self.tasks.get_mut(&id) else {
                continue;
            };
            live.dirty = false;
            let Some(row) = live.row.take() else {
                continue;
            };
            if let (Some(take), Some(key)) = (live.takes.take(), &live.state.details.key) {
                ops.push(RowOp::TakeKey {
                    key: key.clone(),
                    task: id,
                    digest: live.state.details.digest,
                    take,
                });
                if take == Take::Back {
                    ops.push(RowOp::ReviveUndos { task: id });
                }
            }
            let context = live.context.take();
            let context = context.map(|context| Blob::context(id, context));
            ops.push(match mem::replace(&mut live.written, true) {
                true => RowOp::UpdateTask(row, context),
                false => RowOp::InsertTask(
                    row,
                    context.unwrap_or_else(|| Blob::context(id, Vec::new())),
                ),
            });
            if self.hands_on {
                self.handed_on.push(id);
            }
        }
        for (task, undo, value) in self.batch.undos.drain(..) {
            let undos = match self.tasks.get(&task) {
                Some(live) => Some(&live.state.undos),
                None => self.batch.kept_undos.get(&task),
            };
            if let Some(state) = undos.and_then(|undos| undos.get(undo)) {
                ops.push(undo_op(task, undo as u32, state, value)?);
            }
        }
        self.batch.kept_undos.clear();
        for task in mem::take(&mut self.batch.released) {
            self.forget(task);
            ops.push(RowOp::Release { task });
        }
        ops.append(&mut self.batch.deletes);
        let block = mem::take(&mut self.batch.outcomes);
        if !block.done.is_empty() || !block.rest.is_empty() {
            self.last_block += 1;
            let row = OutcomeBlockRow::new(self.last_block, now, &block)?;
            self.outcomes += row.count;
            ops.push(RowOp::PutOutcomes(row));
        }
        let keyed = self.batch.keyed_outcomes.drain(..);
        ops.extend(keyed.map(RowOp::PutKeyedOutcome));
        Ok(())
    }
}

fn undo_op(
    task: u64,
    undo: u32,
    state: &UndoState,
    value: Option<Vec<u8>>,
) -> Result<RowOp, String> {
    let row = UndoRow::of(task, undo, state)?;
    Ok(match value {
        Some(value) => RowOp::PutUndo(row, Blob::undo(task, undo, value)),
        None => RowOp::UpdateUndo(row),
    })
}
