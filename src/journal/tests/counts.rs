//! Rows whose checksums are right, with numbers that can't be counted on.

use super::*;
use crate::{
    Error, FailureKind, Pipeline, Shutdown, TaskContext,
    journal::{Durability, Journal, JournalError, encode, live::Mark, sqlite::Sqlite},
    stage_fn,
};

/// What becomes of the task with the key `key`.
async fn end_of_task(ops: &[Op]) -> Result<End, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let mut store = Sqlite::open(&path, Durability::Process).unwrap();
    store.commit(ops).unwrap();
    store.close(true);
    let pass = stage_fn("first", async |n: u32, _: &TaskContext<()>| Ok(n));
    let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
    let handle = pipeline.stage(pass).start().await?;
    let kept = handle.outcome_of("key").await?.unwrap();
    handle.shutdown(Shutdown::Suspend).await?;
    Ok(kept.end)
}

/// A task with an undo that is to be cancelled before it goes on.
fn ops(id: u64, change: impl FnOnce(&mut Live)) -> Vec<Op> {
    let mut live = live(Some("key"), State::Running(0));
    (live.more.left, live.more.seen) = (None, 0);
    live.undos.push(Mark {
        stage: 0,
        tries: 0,
        ..mark()
    });
    change(&mut live);
    let context = Blob::context(id, encode(&7_u32).unwrap());
    let value = Blob::undo(id, 0, encode(&()).unwrap());
    vec![
        Op::Stages(vec![StageRow::new(0, "first", 1)]),
        Op::Task(TaskRow::of(id, &live).unwrap(), context),
        Op::Undo(UndoRow::of(id, 0, &live.undos[0]).unwrap(), value),
    ]
}

#[actix::test]
async fn d2_a_task_whose_counts_can_not_go_on_is_set_aside() {
    let end = end_of_task(&ops(1, |_| {})).await.unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    let set: [fn(&mut Live); 8] = [
        |live| live.more.attempt = u32::MAX,
        |live| live.more.interrupted = u32::MAX,
        |live| live.more.kills = u32::MAX,
        |live| live.more.generation = u32::MAX,
        |live| live.undos[0].attempt = u32::MAX,
        |live| live.undos[0].generation = u32::MAX,
        |live| live.undos[0].tries = u32::MAX,
        |live| live.undos[0].interrupted = u32::MAX,
    ];
    for change in set {
        match end_of_task(&ops(1, change)).await.unwrap() {
            End::Failed { failure, .. } => {
                assert_eq!(failure.kind(), FailureKind::Quarantined);
                assert_eq!(failure.to_string(), "its counts are none");
            }
            end => panic!("{end:?}"),
        }
    }
}

#[actix::test]
async fn d2_a_number_of_a_task_that_none_can_follow_is_corrupt() {
    let word = Op::Word("last task", u64::MAX.to_string());
    let last = u64::MAX >> 1;
    for ops in [
        ops(u64::MAX, |_| {}),
        vec![word],
        vec![block(last, 5, &[1], &[])],
    ] {
        match end_of_task(&ops).await.unwrap_err() {
            Error::Journal(JournalError::Corrupt { .. }) => {}
            error => panic!("{error}"),
        }
    }
}
