//! tokio's mpsc, whose channels have one receiver. So the workers of a stage either have a channel
//! each, which the stage before fills in turn, or share one behind a mutex.
//!
//! In turn is faster if no worker waits for long (and batches: `recv_many`). But a worker that
//! hangs holds up every task in its channel, so the receiver is shared if stages wait.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, anyhow};
use tokio::sync::{
    Mutex,
    mpsc::{Receiver, Sender, channel},
};

use crate::{
    collect::alone,
    work::{End, Envelope, Job, Measure, Params, Tally, Workload},
};

/// Capacity of a stage's queue: of its one channel, or of all its workers' channels together.
const QUEUE: usize = 128;
/// Maximum number of tasks that a worker takes out of its channel at once.
const BATCH: usize = 64;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(super::runtime(params).and_then(|runtime| runtime.block_on(drive(params))))
}

async fn drive(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let (done, mut results) = channel(QUEUE);
    let shared = matches!(
        params.workload,
        Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed
    );
    let mut onward = Onward::Done(done.clone());
    for stage in (0..params.stages).rev() {
        let next = if shared {
            let (to, from) = channel(QUEUE);
            let from = Arc::new(Mutex::new(from));
            for _ in 0..params.workers {
                let (job, done) = (job.clone(), done.clone());
                tokio::spawn(shares(job, stage, from.clone(), onward.clone(), done));
            }
            vec![to]
        } else {
            let mut to = Vec::new();
            for _ in 0..params.workers {
                let (own, from) = channel(QUEUE / params.workers);
                let (job, done) = (job.clone(), done.clone());
                tokio::spawn(owns(job, stage, from, onward.clone(), done));
                to.push(own);
            }
            to
        };
        onward = Onward::Workers { next, turn: 0 };
    }
    // The copy that is left would keep the channel open.
    drop(done);
    let tasks = params.tasks;
    if params.workload == Workload::Alone {
        let through = async move |task| {
            onward.send(task).await?;
            results.recv().await.context("a worker is gone")
        };
        return tokio::spawn(alone(job, tasks, through)).await?;
    }
    let began = Instant::now();
    let collector = tokio::spawn(collect(job.clone(), results));
    tokio::spawn(async move {
        for id in 0..tasks {
            onward.send(job.envelope(id)).await?;
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(collector.await?.finish(began))
}

/// The way of a task out of a stage.
#[derive(Clone)]
enum Onward {
    Workers {
        next: Vec<Sender<Envelope>>,
        turn: usize,
    },
    Done(Sender<(Envelope, End)>),
}

impl Onward {
    async fn send(&mut self, task: Envelope) -> anyhow::Result<()> {
        let sent = match self {
            Onward::Workers { next, turn } => {
                *turn = (*turn + 1) % next.len();
                next[*turn].send(task).await.is_ok()
            }
            Onward::Done(done) => done.send((task, End::Done)).await.is_ok(),
        };
        sent.then_some(())
            .ok_or_else(|| anyhow!("a worker is gone"))
    }
}

async fn shares(
    job: Arc<Job>,
    stage: usize,
    from: Arc<Mutex<Receiver<Envelope>>>,
    mut onward: Onward,
    done: Sender<(Envelope, End)>,
) -> anyhow::Result<()> {
    loop {
        let task = from.lock().await.recv().await;
        let Some(mut task) = task else { return Ok(()) };
        match job.stage(stage, &mut task).await {
            Ok(()) => onward.send(task).await?,
            Err(end) => done.send((task, end)).await?,
        }
    }
}

async fn owns(
    job: Arc<Job>,
    stage: usize,
    mut from: Receiver<Envelope>,
    mut onward: Onward,
    done: Sender<(Envelope, End)>,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while from.recv_many(&mut batch, BATCH).await > 0 {
        for mut task in batch.drain(..) {
            match job.stage(stage, &mut task).await {
                Ok(()) => onward.send(task).await?,
                Err(end) => done.send((task, end)).await?,
            }
        }
    }
    Ok(())
}

async fn collect(job: Arc<Job>, mut results: Receiver<(Envelope, End)>) -> Tally {
    let mut tally = Tally::new(job);
    let mut batch = Vec::with_capacity(BATCH);
    while results.recv_many(&mut batch, BATCH).await > 0 {
        for (task, end) in batch.drain(..) {
            tally.add(task, end);
        }
    }
    tally
}
