//! Rows and changes for all of these tests, and the contents of a store as texts.

use crate::{
    failure::Failure,
    journal::{
        rows::{
            blob::Blob,
            keyed_outcome::{KeyedOutcome, KeyedOutcomeRow},
            outcome_block::{OutcomeBlock, OutcomeBlockRow},
            task::TaskRow,
            undo::UndoRow,
        },
        store::{RowOp, Store, StoreError},
        task_state::TaskState,
        undo_state::{StoredUndoStatus, UndoState},
    },
    task::{End, Names, Outcome, Rollback, State, TaskId},
};

/// A task with five microseconds to its deadline.
pub(in crate::journal) fn task_state(key: Option<&str>, position: State) -> TaskState {
    let mut task = TaskState::accepted(key.map(Into::into), None, Some(5_000), None, 77);
    task.position = position;
    task
}

pub(in crate::journal) fn undo_state() -> UndoState {
    UndoState {
        stage: 1,
        attempt: 2,
        generation: 3,
        runs: 4,
        interrupted: 0,
        running: false,
        cleaned_up: false,
        status: StoredUndoStatus::Registered,
    }
}

pub(in crate::journal) fn outcome(task: u64) -> Outcome {
    let end = End::Failed {
        stage: "first".into(),
        failure: Failure::permanent("no"),
    };
    let rollback = Rollback::Complete { undos: 2 };
    Outcome::new(TaskId(task), Names::default(), end, rollback)
}

pub(in crate::journal) fn insert_task(
    id: u64,
    key: Option<&str>,
    position: State,
    context: &[u8],
) -> RowOp {
    let row = TaskRow::of(id, &task_state(key, position)).unwrap();
    RowOp::InsertTask(row, Blob::context(id, context.to_vec()))
}

pub(in crate::journal) fn update_task(
    id: u64,
    key: Option<&str>,
    state: State,
    context: Option<&[u8]>,
) -> RowOp {
    let row = TaskRow::of(id, &task_state(key, state)).unwrap();
    let context = context.map(|context| Blob::context(id, context.to_vec()));
    RowOp::UpdateTask(row, context)
}

pub(in crate::journal) fn put_undo(task: u64, undo: u32, value: &[u8]) -> RowOp {
    let row = UndoRow::of(task, undo, &undo_state()).unwrap();
    RowOp::PutUndo(row, Blob::undo(task, undo, value.to_vec()))
}

pub(in crate::journal) fn put_outcomes(
    number: u64,
    at: u64,
    done: &[u64],
    keys: &[(&str, u64)],
) -> RowOp {
    let keys = keys.iter().map(|(key, task)| ((*key).into(), *task));
    let block = OutcomeBlock {
        done: done.to_vec(),
        rest: Vec::new(),
        keys: keys.collect(),
        labels: Vec::new(),
    };
    RowOp::PutOutcomes(OutcomeBlockRow::new(number, at, &block).unwrap())
}

pub(in crate::journal) fn put_keyed_outcome(
    key: &str,
    task: u64,
    at: u64,
    output: Option<&[u8]>,
) -> RowOp {
    let kept = KeyedOutcome {
        key: key.into(),
        outcome: outcome(task),
        output: output.map(<[u8]>::to_vec),
        digest: Some(task),
        undos: None,
    };
    RowOp::PutKeyedOutcome(KeyedOutcomeRow::new(&kept, at).unwrap())
}

/// Everything in a store as texts, with all checksums verified; or the first damage.
pub(in crate::journal) fn all_of(store: &mut dyn Store) -> Result<Vec<String>, StoreError> {
    let summary = store.summary()?;
    let mut all = vec![format!("{:?}", summary.meta)];
    // In a database, those of the process that reads.
    if store.lease().is_none() {
        for stage in summary.stages {
            let (number, name, version) = (stage.number, stage.name, stage.version);
            all.push(format!("stage {number} {name} {version}"));
        }
    }
    let mut result = Ok(());
    store.tasks(&mut |(row, context, undos)| {
        let id = row.id;
        let mut read = || -> Result<(), StoreError> {
            let task = row.clone().into_state()?;
            let context = context.clone().into_context(id)?;
            all.push(format!("task {id} {task:?} {context:?}"));
            for (row, value) in undos.clone() {
                let undo = row.undo;
                let (state, value) = (row.state()?, value.into_undo(id, undo)?);
                all.push(format!("undo {id} {undo} {state:?} {value:?}"));
            }
            Ok(())
        };
        if result.is_ok() {
            result = read();
        }
    })?;
    result?;
    let mut keys = Vec::new();
    for row in store.outcome_blocks(0, usize::MAX >> 1)? {
        let block = row.block()?;
        keys.extend(block.keys.iter().map(|(key, _)| key.clone()));
        all.push(format!("block {} {} {block:?}", row.number, row.at));
    }
    for key in keys {
        if let Some(row) = store.keyed_outcome(&key)? {
            let (at, outcome, output) = (row.at, row.outcome()?, row.output);
            let (end, digest, kept) = (row.end, row.digest, row.undos);
            all.push(format!(
                "kept {key} {at} {end} {digest:?} {kept:?} {outcome:?} {output:?}"
            ));
            for (row, value) in store.kept_undos(outcome.task.0)? {
                let (state, value) = (row.state()?, value.into_undo(row.task, row.undo)?);
                all.push(format!("kept undo {key} {} {state:?} {value:?}", row.undo));
            }
        }
    }
    Ok(all)
}
