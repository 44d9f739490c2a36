//! Rows in memory: a disk for tests, which fails when it is told to and forgets, at a power cut, what
//! was not synced.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
};

use super::{
    Durability,
    rows::{Blob, BlockRow, Corrupt, KeptRow, StageRow, TaskRow, UndoRow},
    store::{Contents, Op, Store, StoreError, TaskRead},
};
use crate::guard;

/// A disk in memory, for tests of pipelines that have a journal: what is written to it survives its
/// [`Journal`](crate::Journal), and it fails when it is told to.
///
/// ```
/// use batrun::{Durability, prelude::*, testing::Disk};
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let disk = Disk::new();
///     let double = || stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(n * 2));
///     let pipeline = Pipeline::new("numbers").journal(disk.journal(Durability::Power)?);
///     let handle = pipeline.stage(double()).start().await?;
///     let ticket = handle.submit(7).key("seven").await?;
///     assert_eq!(ticket.outcome().await?.output, Some(14));
///     handle.shutdown(Shutdown::Abort).await?;
///
///     let pipeline = Pipeline::new("numbers").journal(disk.journal(Durability::Power)?);
///     let handle = pipeline.stage(double()).start().await?;
///     let kept = handle.outcome_of("seven").await?;
///     assert_eq!(kept.and_then(|outcome| outcome.output), Some(14));
///     Ok(())
/// }
/// ```
#[derive(Clone, Default)]
pub struct Disk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// What a power cut leaves.
    synced: Tables,
    /// What a kill leaves besides.
    written: Vec<Vec<Op>>,
    /// The journal that has it: an earlier one may not write any more.
    holder: u64,
    held: bool,
    fault: Option<Fault>,
    /// It has failed: nobody may write to it until it is opened again.
    failed: bool,
    after_failure: u64,
    syncs: u64,
    /// Writes wait here, but for so many.
    stopped: bool,
    let_through: u64,
    waiting: usize,
    /// After so many more syncs the power fails.
    cut_after: Option<u64>,
}

/// What a [`Disk`] does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// It takes nothing.
    Write,
    /// It is full: it takes a part, which is no whole commit.
    Full,
    /// It takes everything, and can't say whether it is safe.
    Sync,
}

#[derive(Clone, Copy)]
struct Fault {
    what: DiskFault,
    after: u64,
}

#[derive(Clone, Default)]
struct Tables {
    words: BTreeMap<String, String>,
    stages: Vec<StageRow>,
    tasks: BTreeMap<u64, (TaskRow, Blob)>,
    undos: BTreeMap<(u64, u32), (UndoRow, Blob)>,
    blocks: BTreeMap<u64, BlockRow>,
    kept: BTreeMap<Box<str>, KeptRow>,
}

impl Tables {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Task(row, context) => {
                self.tasks.insert(row.id, (row.clone(), context.clone()));
            }
            Op::State(row) => {
                if let Some(task) = self.tasks.get_mut(&row.id) {
                    let key = task.0.key.clone();
                    task.0 = TaskRow { key, ..row.clone() };
                }
            }
            Op::Gone { task, .. } => {
                self.tasks.remove(task);
                self.undos.retain(|(of, _), _| of != task);
            }
            Op::Undo(row, value) => {
                let at = (row.task, row.undo);
                self.undos.insert(at, (row.clone(), value.clone()));
            }
            Op::UndoState(row) => {
                if let Some(undo) = self.undos.get_mut(&(row.task, row.undo)) {
                    undo.0 = row.clone();
                }
            }
            Op::Block(row) => {
                self.blocks.insert(row.number, row.clone());
            }
            Op::Kept(row) => {
                self.kept.insert(row.key.clone(), row.clone());
            }
            Op::Forget { block, keys } => {
                self.blocks.remove(block);
                for (key, task) in keys {
                    if self.kept.get(key).is_some_and(|row| row.task == *task) {
                        self.kept.remove(key);
                    }
                }
            }
            Op::Stages(stages) => self.stages = stages.clone(),
            Op::Word(name, value) => {
                self.words.insert((*name).to_owned(), value.clone());
            }
        }
    }
}

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the journal on it.
    ///
    /// # Errors
    /// [`JournalError::Held`](crate::JournalError::Held) while another one has it.
    pub fn journal(&self, durability: Durability) -> Result<super::Journal, super::JournalError> {
        let mut state = guard::lock(&self.0.state);
        if state.held {
            return Err(super::JournalError::Held {
                path: "(a disk in memory)".into(),
            });
        }
        state.held = true;
        state.failed = false;
        state.holder += 1;
        let store = Memory {
            disk: self.clone(),
            holder: state.holder,
            durability,
        };
        drop(state);
        Ok(super::Journal::on(Box::new(store), "(a disk in memory)"))
    }

    /// This goes wrong once so many commits more are written.
    pub fn fail(&self, what: DiskFault, after: u64) {
        guard::lock(&self.0.state).fault = Some(Fault { what, after });
    }

    /// The power fails: what was not synced is gone, and whoever has the disk can't write any more.
    /// It can be opened again.
    pub fn cut(&self) {
        let mut state = guard::lock(&self.0.state);
        state.written.clear();
        self.leave(&mut state);
    }

    /// The process is killed: what was written stays, and whoever has the disk can't write any more.
    /// It can be opened again.
    pub fn kill(&self) {
        let mut state = guard::lock(&self.0.state);
        for ops in std::mem::take(&mut state.written) {
            ops.iter().for_each(|op| state.synced.apply(op));
        }
        self.leave(&mut state);
    }

    fn leave(&self, state: &mut State) {
        state.held = false;
        state.holder += 1;
        state.fault = None;
        state.cut_after = None;
        state.stopped = false;
        state.let_through = 0;
        self.0.moved.notify_all();
    }

    /// Writes wait, before they are synced, until [`go_on`](Self::go_on).
    pub fn stop(&self) {
        guard::lock(&self.0.state).stopped = true;
    }

    /// Lets one write through.
    pub fn step(&self) {
        guard::lock(&self.0.state).let_through += 1;
        self.0.moved.notify_all();
    }

    /// Ends a [`stop`](Self::stop).
    pub fn go_on(&self) {
        guard::lock(&self.0.state).stopped = false;
        self.0.moved.notify_all();
    }

    /// The power fails, as at [`cut`](Self::cut), once so many commits more are written.
    pub fn cut_after(&self, commits: u64) {
        guard::lock(&self.0.state).cut_after = Some(commits);
    }

    /// Whether a write waits.
    pub fn is_waiting(&self) -> bool {
        guard::lock(&self.0.state).waiting > 0
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        guard::lock(&self.0.state).syncs
    }

    /// How many writes came after one had failed: none should.
    pub fn writes_after_failure(&self) -> u64 {
        guard::lock(&self.0.state).after_failure
    }
}

struct Memory {
    disk: Disk,
    holder: u64,
    durability: Durability,
}

impl Memory {
    fn tables(&self) -> Tables {
        let state = guard::lock(&self.disk.0.state);
        let mut tables = state.synced.clone();
        for ops in &state.written {
            ops.iter().for_each(|op| tables.apply(op));
        }
        tables
    }
}

impl Store for Memory {
    fn contents(&mut self) -> Result<Contents, StoreError> {
        let tables = self.tables();
        let mut last_task = 0;
        for row in tables.blocks.values() {
            last_task = last_task.max(row.block()?.last_task());
        }
        Ok(Contents {
            last_task,
            outcomes: tables.blocks.values().map(|row| row.count).sum(),
            last_block: tables.blocks.keys().last().copied().unwrap_or(0),
            words: tables.words.into_iter().collect(),
            stages: tables.stages,
        })
    }

    fn tasks(&mut self, each: &mut dyn FnMut(TaskRead)) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for (id, (task, context)) in tables.tasks {
            let later = tables.undos.split_off(&(id + 1, 0));
            let own = std::mem::replace(&mut tables.undos, later);
            if let Some(((of, undo), _)) = own.first_key_value()
                && *of != id
            {
                let what = format!("undo {undo} of task {of}");
                return Err(Corrupt::new(what, "it has no task").into());
            }
            each((task, context, own.into_values().collect()));
        }
        if let Some((task, undo)) = tables.undos.keys().next() {
            let what = format!("undo {undo} of task {task}");
            return Err(Corrupt::new(what, "it has no task").into());
        }
        Ok(())
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let disk = self.disk.clone();
        let mut state = guard::lock(&disk.0.state);
        state.after_failure += u64::from(state.failed && state.holder == self.holder);
        state.waiting += 1;
        disk.0.moved.notify_all();
        while state.stopped && state.let_through == 0 && state.holder == self.holder {
            state = disk
                .0
                .moved
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.let_through = state.let_through.saturating_sub(1);
        let failed = |why: &str| Err(StoreError::Failed(why.to_owned()));
        if state.holder != self.holder {
            return failed("the disk is gone");
        }
        if state.failed {
            return failed("the disk has failed");
        }
        if let Some(left) = state.cut_after {
            if left == 0 {
                state.written.clear();
                disk.leave(&mut state);
                return failed("the power has failed");
            }
            state.cut_after = Some(left - 1);
        }
        if let Some(fault) = &mut state.fault {
            if fault.after == 0 {
                let what = fault.what;
                state.fault = None;
                state.failed = true;
                return match what {
                    DiskFault::Write => failed("input/output error"),
                    DiskFault::Full => failed("database or disk is full"),
                    DiskFault::Sync => {
                        state.written.push(ops.to_vec());
                        failed("disk I/O error: it could not be synced")
                    }
                };
            }
            fault.after -= 1;
        }
        match self.durability {
            Durability::Power => {
                for ops in std::mem::take(&mut state.written) {
                    ops.iter().for_each(|op| state.synced.apply(op));
                }
                ops.iter().for_each(|op| state.synced.apply(op));
                state.syncs += 1;
            }
            Durability::Process => state.written.push(ops.to_vec()),
        }
        Ok(())
    }

    fn kept(&mut self, key: &str) -> Result<Option<KeptRow>, StoreError> {
        Ok(self.tables().kept.get(key).cloned())
    }

    fn blocks(&mut self, after: u64, most: usize) -> Result<Vec<BlockRow>, StoreError> {
        let tables = self.tables();
        let later = tables.blocks.range(after + 1..);
        Ok(later.take(most).map(|(_, row)| row.clone()).collect())
    }

    fn close(&mut self, clean: bool) {
        let mut state = guard::lock(&self.disk.0.state);
        if state.holder != self.holder {
            return;
        }
        if clean {
            state.after_failure += u64::from(state.failed);
            for ops in std::mem::take(&mut state.written) {
                ops.iter().for_each(|op| state.synced.apply(op));
            }
        }
        state.held = false;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state = guard::lock(&self.disk.0.state);
        if state.holder == self.holder {
            state.held = false;
        }
    }
}
