//! Kills and restarts a pipeline with a journal, for tests.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use batrun::{
    Outcome,
    journal::Durability,
    prelude::*,
    stage::{Durable, Keeps},
    testing::Disk,
};
use serde::{Serialize, de::DeserializeOwned};

/// Runs a task through the stage, kills the process once it has passed, and lets the next process
/// fail the task, so that the stage's undos run. Before that, `meanwhile` is called.
pub(crate) fn after_it<W>(
    stage: impl Fn() -> W,
    input: PathBuf,
    meanwhile: impl FnOnce(),
) -> Outcome<()>
where
    W: IntoWork,
    W::Stage: Stage<Input = PathBuf, Output = PathBuf>,
    Durable: Keeps<W::Stage>,
{
    let disk = Disk::new();
    let passed = Arc::new(AtomicBool::new(false));
    let start = |kills: bool| {
        let pipeline = Pipeline::new("killed")
            .journal(disk.journal(Durability::Power).unwrap())
            .stage(stage());
        let passed = kills.then(|| passed.clone());
        with_end(pipeline, passed).start()
    };
    actix_rt::System::new().block_on(async {
        let handle = start(true).await.unwrap();
        handle.submit(input).key("task").await.unwrap();
        while !passed.load(Ordering::SeqCst) {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        disk.kill();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        meanwhile();
        let handle = start(false).await.unwrap();
        let outcome = handle.outcome_of("task").await.unwrap().unwrap();
        handle.shutdown(Shutdown::Abort).await.unwrap();
        outcome
    })
}

/// Adds a stage that waits to be killed, or fails every task.
fn with_end(
    pipeline: Pipeline<PathBuf, PathBuf, Durable>,
    passed: Option<Arc<AtomicBool>>,
) -> Pipeline<PathBuf, (), Durable> {
    let then = async move |_: PathBuf, _: &TaskContext<'_, ()>| {
        if let Some(passed) = &passed {
            passed.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Err::<(), _>(Failure::permanent("no"))
    };
    pipeline.stage(stage_fn("then", then))
}

/// The value as the next process reads it in the journal.
pub(crate) fn reread<T: Serialize + DeserializeOwned>(value: &T) -> T {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(value).unwrap()).unwrap()
}
