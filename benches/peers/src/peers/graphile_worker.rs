//! graphile_worker: a kind of job for each stage, whose handler adds the next one.
//!
//! As its documentation advises for many small jobs: jobs are added many at once (those that came during the
//! call before), fetched many at once into a local queue, and completed in batches, here of 1 ms; 500 handlers,
//! as in its own benchmarks. With one task in flight it has neither queue nor batches, which would only wait.
//! A stage adds the next job before its own is completed: each stage is a row that is added, locked and deleted.
//! A place in flight is free once the last stage has run; the run ends when the table of jobs is empty.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context;
use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler,
    WorkerContext, WorkerOptions, WorkerUtils, tokio_postgres::TokioPostgresDatabase,
};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Builder, sync::mpsc};

use crate::{
    cluster::{Gather, Place, connections, finish, until},
    durable::{Passed, in_flight},
    work::{Item, Measure, Params},
};

const NAMES: [&str; 3] = ["first", "second", "third"];
const SCHEMA: &str = "graphile_worker";

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(params, place))
}

async fn measure(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let database: Database =
        TokioPostgresDatabase::from_url(&place.address(), connections(params) as usize + 4)?.into();
    let passed = Arc::new(Passed::new(params));
    let (ended, mut outcomes) = mpsc::unbounded_channel();
    let utils = WorkerUtils::new(database.clone(), SCHEMA);
    utils.migrate().await?;
    let jobs = Gather::new(in_flight(params), move |jobs: Vec<RawJobSpec>| {
        let utils = utils.clone();
        async move {
            utils.add_raw_jobs(&jobs).await?;
            Ok(())
        }
    });
    let here = Here(Arc::new(Shared {
        passed: passed.clone(),
        jobs,
        ended,
    }));
    let mut options = WorkerOptions::default()
        .database(database)
        .schema(SCHEMA)
        .listen_os_shutdown_signals(false)
        .add_extension(here.clone())
        .define_job::<Stage<0>>()
        .define_job::<Stage<1>>()
        .define_job::<Stage<2>>();
    if in_flight(params) > 1 {
        options = options
            .concurrency(500)
            .complete_job_batch_delay(Duration::from_millis(1))
            .poll_interval(Duration::from_millis(5))
            .local_queue(LocalQueueConfig::default().with_size(in_flight(params)));
    }
    let worker = Arc::new(options.init().await?);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.run().await }
    });
    let clock = place.begin();
    let (mut next, mut done) = (0, 0);
    while done < params.tasks {
        while next < params.tasks && next - done < in_flight(params) as u64 {
            here.0.jobs.leave(job(0, &Item::new(next))?)?;
            next += 1;
        }
        outcomes.recv().await.context("the worker is gone")?;
        done += 1;
    }
    until(
        place,
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM graphile_worker._private_jobs)",
    )
    .await?;
    let took = clock.end();
    worker.request_shutdown();
    running.await??;
    Ok(finish(&passed, done, took))
}

fn job(stage: usize, task: &Item) -> anyhow::Result<RawJobSpec> {
    Ok(RawJobSpec {
        identifier: NAMES[stage].to_owned(),
        payload: serde_json::to_value(task)?,
        spec: JobSpec::default(),
    })
}

struct Shared {
    passed: Arc<Passed>,
    jobs: Gather<RawJobSpec>,
    ended: mpsc::UnboundedSender<()>,
}

#[derive(Clone)]
struct Here(Arc<Shared>);

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Here")
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Stage<const AT: usize>(Item);

impl<const AT: usize> TaskHandler for Stage<AT> {
    const IDENTIFIER: &'static str = NAMES[AT];

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Stage(mut task) = self;
        let Here(here) = context.get_ext::<Here>().ok_or("not set up")?;
        here.passed.pass(AT, task.id, &mut task.age);
        if AT + 1 < NAMES.len() {
            let next = job(AT + 1, &task).map_err(|error| error.to_string())?;
            here.jobs
                .put(next)
                .await
                .map_err(|error| error.to_string())?;
        } else {
            here.ended.send(()).ok();
        }
        Ok::<(), String>(())
    }
}
