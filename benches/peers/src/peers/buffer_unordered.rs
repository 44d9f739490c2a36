//! futures' `buffer_unordered`, once for each stage: everything in one tokio task, without a queue
//! in between.

use std::{
    panic::resume_unwind,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::{SinkExt, Stream, StreamExt, channel::mpsc, stream};

use crate::work::{End, Envelope, Job, Measure, Params, Stop, Tally, Workload};

/// A task that goes on, or one that a stage has stopped.
type Passed = Result<Envelope, (Envelope, Stop)>;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(super::runtime().and_then(|runtime| runtime.block_on(drive(params))))
}

async fn drive(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let (tasks, workers) = (params.tasks, params.workers);
    if params.workload == Workload::Alone {
        return tokio::spawn(alone(job, tasks, workers)).await?;
    }
    let began = Instant::now();
    let mut tally = Tally::new(job.clone());
    let collected = tokio::spawn(async move {
        let producing = job.clone();
        let source = stream::iter((0..tasks).map(move |id| producing.envelope(id)));
        let mut results = stages(job, workers, source);
        while let Some(result) = results.next().await {
            add(&mut tally, result);
        }
        tally
    });
    Ok(collected.await?.finish(began))
}

fn stages(
    job: Arc<Job>,
    workers: usize,
    source: impl Stream<Item = Envelope> + Send + 'static,
) -> stream::BoxStream<'static, Passed> {
    let spawns = job.workload == Workload::Cpu;
    let first = source.map(Ok);
    if spawns {
        // One task runs on one core: where the work is worth it, each stage is a task.
        let spawned = move |passed, stage| {
            let job = job.clone();
            async move {
                let stage = tokio::spawn(run_stage(job, stage, passed));
                stage
                    .await
                    .unwrap_or_else(|error| resume_unwind(error.into_panic()))
            }
        };
        chain(first, workers, spawned).boxed()
    } else {
        chain(first, workers, move |passed, stage| {
            run_stage(job.clone(), stage, passed)
        })
        .boxed()
    }
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

async fn run_stage(job: Arc<Job>, stage: usize, passed: Passed) -> Passed {
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
    let mut results = stages(job.clone(), workers, source);
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
