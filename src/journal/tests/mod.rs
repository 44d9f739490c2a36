//! The journal's own tests: its stores, its rows, and what a damaged file is read as.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "testing")]
mod book;
mod counts;
mod cut;
mod rows;
mod stores;

use super::{
    live::Live,
    rows::{Blob, Block, BlockRow, KeptRow, StageRow, TaskRow, UndoRow},
    store::{Op, Store, StoreError},
};
use crate::{
    End, Failure,
    task::{Outcome, Rollback, State, TaskId},
};

/// A live task in some state.
fn live(key: Option<&str>, state: State) -> Live {
    let mut live = Live::accepted(key.map(Into::into), Some(5_000), None, 77);
    live.state = state;
    live
}

fn outcome(task: u64) -> Outcome {
    Outcome {
        task: TaskId(task),
        end: End::Failed {
            stage: "first".into(),
            failure: Failure::permanent("no"),
        },
        rollback: Rollback::Complete { undos: 2 },
        output: None,
    }
}

fn task_op(id: u64, key: Option<&str>, state: State, context: &[u8]) -> Op {
    let row = TaskRow::of(id, &live(key, state)).unwrap();
    Op::Task(row, Blob::context(id, context.to_vec()))
}

fn mark() -> super::live::Mark {
    super::live::Mark {
        stage: 1,
        attempt: 2,
        generation: 3,
        tries: 4,
        interrupted: 0,
        running: false,
        cleaned: false,
        status: super::live::Status::Registered,
    }
}

fn undo_op(task: u64, undo: u32, value: &[u8]) -> Op {
    let row = UndoRow::of(task, undo, &mark()).unwrap();
    Op::Undo(row, Blob::undo(task, undo, value.to_vec()))
}

fn block(number: u64, at: u64, done: &[u64], keys: &[(&str, u64)]) -> Op {
    let block = Block {
        done: done.to_vec(),
        rest: Vec::new(),
        keys: keys
            .iter()
            .map(|(key, task)| ((*key).into(), *task))
            .collect(),
    };
    Op::Block(BlockRow::new(number, at, &block).unwrap())
}

fn kept(key: &str, task: u64, output: Option<&[u8]>) -> Op {
    let output = output.map(<[u8]>::to_vec);
    Op::Kept(KeptRow::new(key.into(), task, 5, &outcome(task), output).unwrap())
}

/// Everything in a store as texts, checksums checked; or what is wrong with it.
fn all_of(store: &mut dyn Store) -> Result<Vec<String>, StoreError> {
    let contents = store.contents()?;
    let mut all = vec![format!("{:?}", contents.words)];
    all.extend(contents.stages.iter().map(|stage: &StageRow| {
        let StageRow {
            number,
            name,
            version,
            ..
        } = stage;
        format!("stage {number} {name} {version}")
    }));
    let mut result = Ok(());
    store.tasks(&mut |(row, context, undos)| {
        let id = row.id;
        let mut read = || -> Result<(), StoreError> {
            let live = row.clone().live()?;
            let context = context.clone().context_of(id)?;
            all.push(format!("task {id} {live:?} {context:?}"));
            for (row, value) in undos.clone() {
                let undo = row.undo;
                let (mark, value) = (row.mark()?, value.undo_of(id, undo)?);
                all.push(format!("undo {id} {undo} {mark:?} {value:?}"));
            }
            Ok(())
        };
        if result.is_ok() {
            result = read();
        }
    })?;
    result?;
    let mut keys = Vec::new();
    for row in store.blocks(0, usize::MAX >> 1)? {
        let block = row.block()?;
        keys.extend(block.keys.iter().map(|(key, _)| key.clone()));
        all.push(format!("block {} {} {block:?}", row.number, row.at));
    }
    for key in keys {
        if let Some(row) = store.kept(&key)? {
            let outcome = row.outcome()?;
            all.push(format!(
                "kept {key} {} {outcome:?} {:?}",
                row.at, row.output
            ));
        }
    }
    Ok(all)
}
