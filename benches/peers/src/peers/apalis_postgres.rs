//! apalis on PostgreSQL: a queue and a worker for each stage, whose handler pushes the task on to the next one.
//!
//! Tasks are pushed many at once (those that came during the call before) with `push_tasks`, and fetched when a
//! notification says that there are some, both as in its own example `pubsub`; results and locks are written in
//! batches by itself. A batch has room for 1,000, and a worker runs as many handlers at once. Rows of tasks that
//! are done stay in its table, as it never deletes them by itself. A place in flight is free once the last stage
//! has run; the run ends when every row is `Done`.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PgTask, PostgresStorage, queries::push_tasks};
use tokio::{runtime::Builder, sync::mpsc};

use crate::{
    cluster::{Gather, Place, finish, until},
    durable::{Passed, in_flight},
    work::{Item, Measure, Params},
};

const NAMES: [&str; 3] = ["first", "second", "third"];
const BATCH: usize = 1_000;

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(params, place))
}

async fn measure(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let pool = PgPool::connect(&place.address()).await?;
    PostgresStorage::setup(&pool).await?;
    let passed = Arc::new(Passed::new(params));
    let (ended, mut outcomes) = mpsc::unbounded_channel();
    let queue = |stage: usize| {
        let pool = pool.clone();
        Gather::new(BATCH, move |tasks: Vec<PgTask>| {
            let pool = pool.clone();
            async move {
                let mut connection = pool.acquire().await?;
                push_tasks(&mut *connection, NAMES[stage], tasks).await?;
                Ok(())
            }
        })
    };
    let queues: Arc<Vec<Gather<PgTask>>> = Arc::new((0..params.stages).map(queue).collect());
    let batch = in_flight(params).min(BATCH);
    for (stage, name) in NAMES.into_iter().enumerate() {
        let here = Here {
            passed: passed.clone(),
            stage,
            queues: queues.clone(),
            ended: ended.clone(),
        };
        let config = Config::default().queue(name).batch_size(batch);
        let storage = PostgresStorage::<Item>::new(&pool).with_config(config);
        let worker = WorkerBuilder::new(name)
            .backend(
                storage
                    .with_pubsub()
                    .poll_with_interval(Duration::from_millis(20)),
            )
            .concurrency(batch)
            .data(Arc::new(here))
            .build(work);
        tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                eprintln!("{error}");
                std::process::exit(1);
            }
        });
    }
    // They listen from here on.
    let ready = format!(
        "SELECT 1 FROM apalis.workers HAVING count(*) = {}",
        params.stages
    );
    until(place, &ready).await?;
    let clock = place.begin();
    let (mut next, mut done) = (0, 0);
    while done < params.tasks {
        while next < params.tasks && next - done < in_flight(params) as u64 {
            queues[0].leave(task(&Item::new(next))?)?;
            next += 1;
        }
        outcomes.recv().await.context("the workers are gone")?;
        done += 1;
    }
    until(
        place,
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')",
    )
    .await?;
    Ok(finish(&passed, done, clock.end()))
}

fn task(item: &Item) -> anyhow::Result<PgTask> {
    Ok(TaskBuilder::new(serde_json::to_vec(item)?).build())
}

struct Here {
    passed: Arc<Passed>,
    stage: usize,
    queues: Arc<Vec<Gather<PgTask>>>,
    ended: mpsc::UnboundedSender<()>,
}

async fn work(mut item: Item, here: Data<Arc<Here>>) -> Result<(), BoxDynError> {
    here.passed.pass(here.stage, item.id, &mut item.age);
    match here.queues.get(here.stage + 1) {
        Some(next) => next.put(task(&item)?).await?,
        None => here.ended.send(())?,
    }
    Ok(())
}
