//! futures' `buffer_unordered`, once for each stage: everything in one tokio task, without a queue
//! in between.

use std::{
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::{SinkExt, Stream, StreamExt, channel::mpsc, stream};

use crate::work::{End, Envelope, Job, Measure, Params, Tally, Workload};

/// A task that goes on, or one that a stage has stopped.
type Passed = Result<Envelope, (Envelope, End)>;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(super::runtime(params).and_then(|runtime| runtime.block_on(drive(params))))
}

async fn drive(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let (tasks, workers) = (params.tasks, params.workers);
    match params.workload {
        Workload::Alone => tokio::spawn(alone(job, tasks, workers)).await?,
        Workload::Cpu => {
            // One task runs on one core: where the work is worth it, each stage call is a task.
            let shared = job.clone();
            let stage = move |passed, stage| {
                let job = shared.clone();
                let call = tokio::spawn(async move { run_stage(&job, stage, passed).await });
                async {
                    call.await
                        .unwrap_or_else(|error| resume_unwind(error.into_panic()))
                }
            };
            Ok(tokio::spawn(all(job, tasks, workers, stage)).await?)
        }
        _ => Ok(tokio::spawn(async move {
            let shared = &*job;
            let stage = move |passed, stage| run_stage(shared, stage, passed);
            all(job.clone(), tasks, workers, stage).await
        })
        .await?),
    }
}

async fn all<F: Future<Output = Passed>>(
    job: Arc<Job>,
    tasks: u64,
    workers: usize,
    stage: impl Fn(Passed, usize) -> F + Clone,
) -> Measure {
    let began = Instant::now();
    let mut tally = Tally::new(job.clone());
    let source = stream::iter((0..tasks).map(|id| Ok(job.envelope(id))));
    let mut results = pin!(chain(source, workers, stage));
    while let Some(result) = results.next().await {
        add(&mut tally, result);
    }
    tally.finish(began)
}

fn chain<F: Future<Output = Passed>>(
    source: impl Stream<Item = Passed>,
    workers: usize,
    stage: impl Fn(Passed, usize) -> F + Clone,
) -> impl Stream<Item = Passed> {
    let (one, two, three) = (stage.clone(), stage.clone(), stage);
    source
        .map(move |passed| one(passed, 0))
        .buffer_unordered(workers)
        .map(move |passed| two(passed, 1))
        .buffer_unordered(workers)
        .map(move |passed| three(passed, 2))
        .buffer_unordered(workers)
}

async fn run_stage(job: &Job, stage: usize, passed: Passed) -> Passed {
    let mut task = passed?;
    match job.stage(stage, &mut task).await {
        Ok(()) => Ok(task),
        Err(end) => Err((task, end)),
    }
}

fn add(tally: &mut Tally, result: Passed) {
    match result {
        Ok(task) => tally.add(task, End::Done),
        Err((task, end)) => tally.add(task, end),
    }
}

async fn alone(job: Arc<Job>, tasks: u64, workers: usize) -> anyhow::Result<Measure> {
    let (mut entry, source) = mpsc::channel(1);
    let stage = |passed, stage| run_stage(&job, stage, passed);
    let mut results = pin!(chain(source.map(Ok), workers, stage));
    let began = Instant::now();
    let mut tally = Tally::new(job.clone());
    for id in 0..tasks {
        let submitted = Instant::now();
        entry.send(job.envelope(id)).await?;
        // In the same task: nobody has to be woken.
        let result = results.next().await.context("the stream has ended")?;
        tally.latency(submitted.elapsed());
        add(&mut tally, result);
        if id % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(tally.finish(began))
}
