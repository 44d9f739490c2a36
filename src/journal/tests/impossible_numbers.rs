//! Rows with the right checksums and impossible numbers.

use super::support::{put_outcomes, task_state, undo_state};
use crate::{
    error::{Error, FailureKind},
    journal::{
        codec::encode,
        durability::Durability,
        error::JournalError,
        options::Journal,
        rows::{blob::Blob, stage::StageRow, task::TaskRow, undo::UndoRow},
        sqlite::database::Sqlite,
        store::{RowOp, Store, Writes},
        task_state::TaskState,
        undo_state::UndoState,
    },
    pipeline::Pipeline,
    policy::Shutdown,
    stage::TaskContext,
    stage_fn,
    task::{End, State},
};

/// The end of the task with the key `key`, in a pipeline that starts on these rows.
async fn end_of_task(ops: &[RowOp]) -> Result<End, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let mut store = Sqlite::open(&path, Durability::Process).unwrap();
    store.commit(ops).unwrap();
    store.close(Writes::Succeeded);
    let pass = stage_fn("first", async |n: u32, _: &TaskContext<()>| Ok(n));
    let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
    let handle = pipeline.stage(pass).start().await?;
    let kept = handle.outcome_of("key").await?.unwrap();
    handle.shutdown(Shutdown::Suspend).await?;
    Ok(kept.end)
}

/// A task with an undo that has to run before the task goes on.
fn ops(id: u64, change: impl FnOnce(&mut TaskState)) -> Vec<RowOp> {
    let mut task = task_state(Some("key"), State::Running(0));
    (task.details.deadline_left, task.details.measured_at) = (None, 0);
    task.undos.push(UndoState {
        stage: 0,
        runs: 0,
        ..undo_state()
    });
    change(&mut task);
    let context = Blob::context(id, encode(&7_u32).unwrap());
    let value = Blob::undo(id, 0, encode(&()).unwrap());
    vec![
        RowOp::ReplaceStages(vec![StageRow::new(0, "first", 1)]),
        RowOp::InsertTask(TaskRow::of(id, &task).unwrap(), context),
        RowOp::PutUndo(UndoRow::of(id, 0, &task.undos[0]).unwrap(), value),
    ]
}

#[actix::test]
async fn d2_a_task_whose_counts_can_not_go_on_is_set_aside() {
    let end = end_of_task(&ops(1, |_| {})).await.unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    let set: [fn(&mut TaskState); 8] = [
        |task| task.details.attempt = u32::MAX,
        |task| task.details.interrupted = u32::MAX,
        |task| task.details.kills = u32::MAX,
        |task| task.details.generation = u32::MAX,
        |task| task.undos[0].attempt = u32::MAX,
        |task| task.undos[0].generation = u32::MAX,
        |task| task.undos[0].runs = u32::MAX,
        |task| task.undos[0].interrupted = u32::MAX,
    ];
    for change in set {
        match end_of_task(&ops(1, change)).await.unwrap() {
            End::Failed { failure, .. } => {
                assert_eq!(failure.kind(), FailureKind::Quarantined);
                assert_eq!(
                    failure.to_string(),
                    "one of its counters has an impossible value"
                );
            }
            end => panic!("{end:?}"),
        }
    }
}

#[actix::test]
async fn d2_a_number_of_a_task_that_none_can_follow_is_corrupt() {
    let last_task = RowOp::SetMeta("last task", u64::MAX.to_string());
    let last = u64::MAX >> 1;
    for ops in [
        ops(u64::MAX, |_| {}),
        vec![last_task],
        vec![put_outcomes(last, 5, &[1], &[])],
    ] {
        match end_of_task(&ops).await.unwrap_err() {
            Error::Journal(JournalError::Corrupt { .. }) => {}
            error => panic!("{error}"),
        }
    }
}
