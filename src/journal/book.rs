//! What the writer knows of every live task, and the rows that a batch of changes makes. Pure but
//! for what it is told of the time.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    live::{Effect, Live, Mark},
    note::Note,
    rows::{Blob, Block, BlockRow, KeptRow, TaskRow, UndoRow},
    store::Op,
};
use crate::{
    TaskId,
    task::{End, Outcome, StageIx},
};

#[derive(Default)]
pub(super) struct Book {
    last_stage: StageIx,
    /// Each in a box: a table is half empty, and larger for a while when it grows.
    live: HashMap<u64, Box<Held>, BuildHasherDefault<ByNumber>>,
    keys: HashMap<Box<str>, u64>,
    last_id: u64,
    last_block: u64,
    /// How many outcomes are kept.
    pub(super) outcomes: u64,
    /// The tasks that this batch has changed.
    touched: Vec<u64>,
    /// Those among them whose row is not made yet.
    stale: Vec<u64>,
    /// Undos that this batch has made or changed: task and number, with the value of a new one.
    undos: Vec<(u64, usize, Option<Vec<u8>>)>,
    gone: Vec<Op>,
    block: Block,
    kept: Vec<KeptRow>,
}

/// Tasks are numbered one after the other, by us: that spreads them as it is.
#[derive(Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the highest bits too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A live task, and what of it is not written yet.
struct Held {
    live: Live,
    /// Its row is to be written, this context with it.
    dirty: bool,
    /// It is not made yet, or not any more what is in `row`.
    stale: bool,
    row: Option<TaskRow>,
    context: Option<Vec<u8>>,
    /// What the last stage returned, of a task that has a key.
    output: Option<Vec<u8>>,
    /// It is in the file.
    written: bool,
}

/// A task with a key that has its outcome now.
pub(super) struct Ended {
    pub(super) key: Box<str>,
    pub(super) outcome: Outcome,
    pub(super) output: Option<Vec<u8>>,
}

impl Book {
    pub(super) fn new(last_stage: StageIx, last_id: u64, last_block: u64, outcomes: u64) -> Self {
        Book {
            last_stage,
            last_id,
            last_block,
            outcomes,
            ..Book::default()
        }
    }

    /// Takes in a task that is in the file.
    pub(super) fn put(&mut self, id: u64, live: Live) {
        if let Some(key) = &live.more.key
            && !live.is_stuck()
        {
            self.keys.insert(key.clone(), id);
        }
        self.live.insert(
            id,
            Box::new(Held {
                live,
                dirty: false,
                stale: false,
                row: None,
                context: None,
                output: None,
                written: true,
            }),
        );
    }

    /// The live task that has this key.
    pub(super) fn with_key(&self, key: &str) -> Option<TaskId> {
        self.keys.get(key).map(|id| TaskId(*id))
    }

    /// Takes a change in. Says so where it gives a task with a key its outcome.
    pub(super) fn take(
        &mut self,
        task: u64,
        note: Note,
        now: u64,
    ) -> Result<Option<Ended>, String> {
        let held = match (self.live.entry(task), &note) {
            (Entry::Occupied(held), _) => held.into_mut(),
            (
                Entry::Vacant(place),
                Note::Accepted {
                    key,
                    left,
                    work_timeout,
                    ..
                },
            ) => {
                if let Some(key) = key {
                    self.keys.insert(key.clone(), task);
                }
                self.last_id = self.last_id.max(task);
                place.insert(Box::new(Held {
                    live: Live::accepted(key.clone(), *left, *work_timeout, now),
                    dirty: false,
                    stale: false,
                    row: None,
                    context: None,
                    output: None,
                    written: false,
                }))
            }
            // It was given up, and somebody was still at work on it.
            (Entry::Vacant(_), _) => return Ok(None),
        };
        if held.live.is_stuck() && !matches!(note, Note::Resolved) {
            return Ok(None);
        }
        let outcome = match &note {
            Note::Done => Some(Outcome::done(TaskId(task))),
            Note::Ended(outcome) => Some(Outcome::clone(outcome)),
            _ => None,
        };
        let effect = held
            .live
            .take(note, self.last_stage, now)
            .map_err(|odd| format!("task {task}: {odd}"))?;
        let changed = match effect {
            Effect::Row | Effect::Stuck => true,
            Effect::Context(context) => {
                held.context = Some(context);
                true
            }
            Effect::Output(output) => {
                if held.live.more.key.is_some() {
                    held.output = Some(output);
                }
                false
            }
            Effect::Undo(undo, value) => {
                self.undos.push((task, undo, Some(value)));
                false
            }
            Effect::Undone(undo, row) => {
                self.undos.push((task, undo, None));
                row
            }
            Effect::Gone => {
                let Some(held) = self.live.remove(&task) else {
                    return Ok(None);
                };
                if held.written || !held.live.undos.is_empty() {
                    let undos = !held.live.undos.is_empty();
                    self.gone.push(Op::Gone { task, undos });
                }
                let (key, output) = (held.live.more.key, held.output);
                // What the last stage returned counts only if it was in time.
                let is_done = outcome.as_ref().is_some_and(Outcome::is_done);
                let output = output.filter(|_| is_done);
                return Ok(outcome.and_then(|outcome| self.file(key, outcome, output)));
            }
        };
        if changed {
            if !std::mem::replace(&mut held.dirty, true) {
                self.touched.push(task);
            }
            if !std::mem::replace(&mut held.stale, true) {
                self.stale.push(task);
            }
        }
        let key = held.live.more.key.clone();
        Ok(outcome.and_then(|outcome| self.file(key, outcome, None)))
    }

    /// A task that was put is set aside, with this outcome.
    pub(super) fn quarantined(&mut self, outcome: Outcome, now: u64) -> Result<(), String> {
        let held = self.live.get(&outcome.task.0);
        let key = held.and_then(|held| held.live.more.key.clone());
        match self.file(key, outcome, None) {
            Some(ended) => self.keep(&ended, now),
            None => Ok(()),
        }
    }

    /// Keeps an outcome.
    fn file(
        &mut self,
        key: Option<Box<str>>,
        outcome: Outcome,
        output: Option<Vec<u8>>,
    ) -> Option<Ended> {
        let task = outcome.task.0;
        let ended = key.map(|key| {
            self.keys.remove(&key);
            self.block.keys.push((key.clone(), task));
            Ended {
                key,
                outcome: outcome.clone(),
                output,
            }
        });
        match outcome.end {
            End::Done => self.block.done.push(task),
            _ => self.block.rest.push(outcome),
        }
        ended
    }

    /// The outcome of a task with a key gets a row of its own.
    pub(super) fn keep(&mut self, ended: &Ended, now: u64) -> Result<(), String> {
        let row = KeptRow::new(
            ended.key.clone(),
            ended.outcome.task.0,
            now,
            &ended.outcome,
            ended.output.clone(),
        )?;
        self.kept.push(row);
        Ok(())
    }

    /// The highest number that a task has had, for when nothing else in the file says so.
    pub(super) fn last_task(&self) -> Op {
        Op::Word("last task", self.last_id.to_string())
    }

    /// Makes the rows of what has changed, so that less is left to do once they can be written.
    pub(super) fn prepare(&mut self) -> Result<(), String> {
        for id in self.stale.drain(..) {
            if let Some(held) = self.live.get_mut(&id) {
                held.stale = false;
                held.row = Some(TaskRow::of(id, &held.live)?);
            }
        }
        Ok(())
    }

    /// What is to be written of all that was taken in since the last time.
    pub(super) fn rows(&mut self, now: u64, ops: &mut Vec<Op>) -> Result<(), String> {
        self.prepare()?;
        for id in self.touched.drain(..) {
            let Some(held) = self.live.get_mut(&id) else {
                continue;
            };
            held.dirty = false;
            let Some(row) = held.row.take() else {
                continue;
            };
            ops.push(match held.context.take() {
                Some(context) => Op::Task(row, Blob::context(id, context)),
                None => Op::State(row),
            });
            held.written = true;
        }
        for (task, undo, value) in self.undos.drain(..) {
            let Some(held) = self.live.get(&task) else {
                continue;
            };
            let Some(mark) = held.live.undos.get(undo) else {
                continue;
            };
            ops.push(undo_op(task, undo, mark, value)?);
        }
        ops.append(&mut self.gone);
        let block = std::mem::take(&mut self.block);
        if !block.done.is_empty() || !block.rest.is_empty() {
            self.last_block += 1;
            let row = BlockRow::new(self.last_block, now, &block)?;
            self.outcomes += row.count;
            ops.push(Op::Block(row));
        }
        ops.extend(self.kept.drain(..).map(Op::Kept));
        Ok(())
    }
}

fn undo_op(task: u64, undo: usize, mark: &Mark, value: Option<Vec<u8>>) -> Result<Op, String> {
    let row = UndoRow::of(task, undo as u32, mark)?;
    Ok(match value {
        Some(value) => Op::Undo(row, Blob::undo(task, undo as u32, value)),
        None => Op::UndoState(row),
    })
}
