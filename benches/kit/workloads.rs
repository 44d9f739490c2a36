//! The guard's workloads: small pipelines whose tasks do nothing but pass through batrun,
//! everything on one thread, so that each run does the same.

use std::time::Duration;

use batrun::prelude::*;

/// Number of workers of each stage.
const WORKERS: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(4);
/// One task in this many fails in `fail`.
const ONE_IN: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Tasks through three stages that do nothing.
    Task,
    /// The same through six stages: the difference is the cost of three stages.
    SixStages,
    /// Three stages that register an undo each; one task in a hundred fails in the last one and is
    /// rolled back.
    Fail,
    /// One task at a time through three stages, its outcome awaited before the next.
    Alone,
}

impl Workload {
    /// Number of tasks of a short run.
    pub fn tasks(self) -> u64 {
        match self {
            Workload::Alone => 500,
            _ => 5_000,
        }
    }
}

/// A context without heap memory of its own, so that only batrun's is counted.
#[derive(Clone)]
struct Item {
    id: u64,
    age: u32,
}

#[derive(Clone)]
struct Older;

impl Stage for Older {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        item.age += 1;
        Ok(item)
    }
}

#[derive(Clone)]
struct Undone {
    last: bool,
}

impl Stage for Undone {
    type Input = Item;
    type Output = Item;
    type Undo = u64;

    async fn run(&mut self, mut item: Item, task: &TaskContext<'_, u64>) -> Result<Item, Failure> {
        task.on_cancel(item.id).await?;
        item.age += 1;
        if self.last && item.id.is_multiple_of(ONE_IN) {
            // An error without a size, so that it costs nothing to make.
            return Err(Failure::permanent(std::fmt::Error));
        }
        Ok(item)
    }
}

/// Runs this many tasks and makes sure that each ended as it should.
pub fn run(workload: Workload, tasks: u64) {
    actix::System::new().block_on(async move {
        let (done, failed) = match workload {
            Workload::Alone => alone(tasks).await,
            _ => through(workload, tasks).await,
        };
        let failing = match workload {
            Workload::Fail => tasks.div_ceil(ONE_IN),
            _ => 0,
        };
        assert_eq!((done, failed), (tasks - failing, failing), "{workload:?}");
    });
}

fn pipeline(workload: Workload) -> Pipeline<Item> {
    let pipeline = Pipeline::new("guard").current_arbiter();
    let older = |name: &str| Older.named(name).workers(WORKERS);
    let undone = |name: &str, last| Undone { last }.named(name).workers(WORKERS);
    match workload {
        Workload::Task | Workload::Alone => pipeline
            .stage(older("first"))
            .stage(older("second"))
            .stage(older("third")),
        Workload::SixStages => pipeline
            .stage(older("first"))
            .stage(older("second"))
            .stage(older("third"))
            .stage(older("fourth"))
            .stage(older("fifth"))
            .stage(older("sixth")),
        Workload::Fail => pipeline
            .stage(undone("first", false))
            .stage(undone("second", false))
            .stage(undone("third", true)),
    }
}

async fn through(workload: Workload, tasks: u64) -> (u64, u64) {
    let report = pipeline(workload)
        .producer(move |intake: Intake<Item>| async move {
            for id in 0..tasks {
                intake.submit(Item { id, age: 0 }).timeout(TIMEOUT).await?;
            }
            Ok(())
        })
        .run()
        .await
        .expect("the pipeline is put together well");
    if workload == Workload::Fail {
        let cancelled: u64 = report
            .stages
            .iter()
            .map(|stage| stage.counts.cancelled)
            .sum();
        assert_eq!(cancelled, 3 * report.counts.failed, "every undo once");
    }
    (report.counts.done, report.counts.failed)
}

async fn alone(tasks: u64) -> (u64, u64) {
    let handle = pipeline(Workload::Alone)
        .start()
        .await
        .expect("the pipeline is put together well");
    for id in 0..tasks {
        let ticket = handle.submit(Item { id, age: 0 }).timeout(TIMEOUT).await;
        let Ok(ticket) = ticket else {
            panic!("task {id} was not accepted")
        };
        let outcome = ticket.outcome().await.expect("the pipeline runs");
        assert_eq!(outcome.output.map(|item| item.age), Some(3), "task {id}");
    }
    let shutdown = Shutdown::Drain(Duration::from_secs(10));
    let report = handle.shutdown(shutdown).await.expect("the runtime lives");
    (report.counts.done, report.counts.failed)
}
