//! apalis in memory: a backend and a worker for each stage, whose handler pushes the task on to the
//! next stage's backend.
//!
//! Its `MemoryStorage::new()` goes into the worker and leaves nothing to push with, and the sinks of
//! one storage panic when two threads push at once; so the storage is made from a channel (the kind
//! that `new` makes) whose sender the stages keep. `.parallelize(tokio::spawn)`, as in its README,
//! is only used where the stages compute: elsewhere it made a hop three times as expensive.
//! apalis-workflow doesn't run in memory. The queues have no bound, so the producer waits for
//! credits that the collector gives back.

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use apalis::prelude::*;
use futures::{
    Sink, SinkExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    lock::Mutex,
    sink::drain,
};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc},
};

use crate::{
    collect::alone,
    work::{End, Envelope, Job, Measure, Params, Tally, Workload},
};

/// Number of credits, and of those that are taken or given back at once.
const IN_FLIGHT: usize = 1_000;
const CREDITS: u64 = 50;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    let measure = measure(Params { ..*params });
    Some(super::spawned(&mut Builder::new_multi_thread(), measure))
}

async fn measure(params: Params) -> anyhow::Result<Measure> {
    let job = Job::new(&params);
    let (ended, mut outcomes) = mpsc::unbounded_channel();
    let began = Instant::now();
    let (first, mut tasks) = unbounded();
    for stage in 0..params.stages {
        let (sender, receiver) = unbounded();
        let here = Here {
            job: Arc::clone(&job),
            stage,
            next: (stage < job.last).then_some(sender),
            ended: ended.clone(),
        };
        let builder = WorkerBuilder::new(format!("stage-{stage}"))
            .backend(storage(std::mem::replace(&mut tasks, receiver)))
            .concurrency(params.workers)
            .data(Arc::new(here));
        if params.workload == Workload::Cpu {
            tokio::spawn(builder.parallelize(tokio::spawn).build(work).run());
        } else {
            tokio::spawn(builder.build(work).run());
        }
    }

    if params.workload == Workload::Alone {
        let through = async move |task| {
            push(&first, task)?;
            outcomes.recv().await.context("a worker is gone")
        };
        return alone(job, params.tasks, through).await;
    }

    let mut tally = Tally::new(Arc::clone(&job));
    let credits = Arc::new(Semaphore::new(IN_FLIGHT));
    let returned = Arc::clone(&credits);
    let collector = tokio::spawn(async move {
        while tally.seen() < params.tasks {
            let Some((task, end)) = outcomes.recv().await else {
                break;
            };
            tally.add(task, end);
            if tally.seen().is_multiple_of(CREDITS) {
                returned.add_permits(CREDITS as usize);
            }
        }
        tally.finish(began)
    });
    for id in 0..params.tasks {
        if id % CREDITS == 0 {
            credits.acquire_many(CREDITS as u32).await?.forget();
        }
        push(&first, job.envelope(id))?;
    }
    Ok(collector.await?)
}

/// A storage that hands out what comes through a channel.
fn storage(tasks: UnboundedReceiver<Task<Envelope>>) -> MemoryStorage<Envelope> {
    // Its own way in, which nobody uses.
    let unused = drain().sink_map_err(|never| match never {});
    let unused: Box<dyn Sink<_, Error = MemoryStorageError> + Send + Sync + Unpin> =
        Box::new(unused);
    let unused = MemorySink::new(Arc::new(Mutex::new(unused)));
    MemoryStorage::new_with(unused, Box::pin(tasks))
}

fn push(queue: &UnboundedSender<Task<Envelope>>, task: Envelope) -> anyhow::Result<()> {
    let task = TaskBuilder::new(task).build();
    queue
        .unbounded_send(task)
        .map_err(|error| error.into_send_error())?;
    Ok(())
}

struct Here {
    job: Arc<Job>,
    stage: usize,
    /// None in the last stage.
    next: Option<UnboundedSender<Task<Envelope>>>,
    ended: mpsc::UnboundedSender<(Envelope, End)>,
}

async fn work(mut task: Envelope, here: Data<Arc<Here>>) {
    let result = here.job.stage(here.stage, &mut task).await;
    // A receiver is gone only when the run is over.
    let _ = match (result, &here.next) {
        (Ok(()), Some(next)) => push(next, task).is_ok(),
        (Ok(()), None) => here.ended.send((task, End::Done)).is_ok(),
        (Err(end), _) => here.ended.send((task, end)).is_ok(),
    };
}
