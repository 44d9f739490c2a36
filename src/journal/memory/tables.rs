//! The tables of a disk in memory.

use std::collections::BTreeMap;

use crate::journal::{
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, outcome_block::OutcomeBlockRow,
        stage::StageRow, task::TaskRow, undo::UndoRow,
    },
    store::RowOp,
};

type Undos = BTreeMap<(u64, u32), (UndoRow, Blob)>;

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) meta: BTreeMap<String, String>,
    pub(super) stages: Vec<StageRow>,
    pub(super) tasks: BTreeMap<u64, (TaskRow, Blob)>,
    /// By task and number.
    pub(super) undos: Undos,
    /// Those of tasks that are done, by task and number.
    pub(super) kept_undos: Undos,
    pub(super) outcomes: BTreeMap<u64, OutcomeBlockRow>,
    pub(super) keyed_outcomes: BTreeMap<Box<str>, KeyedOutcomeRow>,
}

impl Tables {
    pub(super) fn apply_all(&mut self, ops: &[RowOp]) {
        ops.iter().for_each(|op| self.apply(op));
    }

    fn apply(&mut self, op: &RowOp) {
        match op {
            RowOp::TakeKey { .. } => {}
            // There is no other process.
            RowOp::Release { .. } => {}
            RowOp::InsertTask(row, context) => {
                self.tasks.insert(row.id, (row.clone(), context.clone()));
            }
            RowOp::UpdateTask(row, context) => {
                if let Some(task) = self.tasks.get_mut(&row.id) {
                    let key = task.0.key.clone();
                    task.0 = TaskRow { key, ..row.clone() };
                    if let Some(context) = context {
                        task.1 = context.clone();
                    }
                }
            }
            RowOp::DeleteTask { task, .. } => {
                self.tasks.remove(task);
                self.undos.retain(|(of, _), _| of != task);
            }
            RowOp::PutUndo(row, value) => {
                let at = (row.task, row.undo);
                self.undos.insert(at, (row.clone(), value.clone()));
            }
            RowOp::UpdateUndo(row) => {
                if let Some(undo) = self.undos.get_mut(&(row.task, row.undo)) {
                    undo.0 = row.clone();
                }
            }
            RowOp::PutOutcomes(row) => {
                self.outcomes.insert(row.number, row.clone());
            }
            RowOp::PutKeyedOutcome(row) => {
                self.keyed_outcomes.insert(row.key.clone(), row.clone());
            }
            RowOp::DeleteOutcomes { block, at, keys } => {
                self.outcomes.remove(block);
                for (key, task) in keys {
                    let row = self.keyed_outcomes.get(key);
                    if row.is_some_and(|row| row.task == *task && row.at == *at) {
                        self.keyed_outcomes.remove(key);
                        self.kept_undos.retain(|(of, _), _| of != task);
                    }
                }
            }
            RowOp::DeleteKey { key, task } => {
                let row = self.keyed_outcomes.get(key);
                if row.is_some_and(|row| row.task == *task) {
                    self.keyed_outcomes.remove(key);
                }
                self.kept_undos.retain(|(of, _), _| of != task);
            }
            RowOp::KeepUndos { task } => move_undos(*task, &mut self.undos, &mut self.kept_undos),
            RowOp::ReviveUndos { task } => move_undos(*task, &mut self.kept_undos, &mut self.undos),
            RowOp::UpdateKeptUndo(row) => {
                if let Some(undo) = self.kept_undos.get_mut(&(row.task, row.undo)) {
                    undo.0 = row.clone();
                }
            }
            RowOp::ReplaceStages(stages) => self.stages = stages.clone(),
            RowOp::SetMeta(name, value) => {
                self.meta.insert((*name).to_owned(), value.clone());
            }
        }
    }
}

fn move_undos(task: u64, from: &mut Undos, to: &mut Undos) {
    while let Some((place, _)) = from.range((task, 0)..=(task, u32::MAX)).next() {
        let place = *place;
        to.extend(from.remove(&place).map(|undo| (place, undo)));
    }
}
