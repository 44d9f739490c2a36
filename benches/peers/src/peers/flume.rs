//! flume: a bounded channel in front of each stage, which all its workers, tokio tasks, receive
//! from. The collector takes everything in the channel at once (`drain`). The workers take one at a
//! time: one that drained would sit on tasks that others have time for.

use std::{sync::Arc, time::Instant};

use flume::{Receiver, Sender, bounded};

use crate::{
    collect::alone,
    work::{End, Envelope, Job, Measure, Params, Tally, Workload},
};

const QUEUE: usize = 512;
/// Capacity in front of stages that hang: a task in a longer queue would be late.
const LATE_QUEUE: usize = 128;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(super::runtime(params).and_then(|runtime| runtime.block_on(drive(params))))
}

async fn drive(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let queue = match params.workload {
        Workload::Late | Workload::LateFull | Workload::LateMixed => LATE_QUEUE,
        _ => QUEUE,
    };
    let (entry, mut from) = bounded(queue);
    let (done, results) = bounded(queue);
    for stage in 0..params.stages {
        let (to, next) = bounded(queue);
        let to = (stage < job.last).then_some(to);
        for _ in 0..params.workers {
            let (job, from, to, done) = (job.clone(), from.clone(), to.clone(), done.clone());
            tokio::spawn(work(job, stage, from, to, done));
        }
        from = next;
    }
    // Any copy that is left would keep the channels open.
    drop((from, done));
    let tasks = params.tasks;
    if params.workload == Workload::Alone {
        let through = async move |task| {
            entry.send_async(task).await?;
            Ok(results.recv_async().await?)
        };
        return tokio::spawn(alone(job, tasks, through)).await?;
    }
    let began = Instant::now();
    let collector = tokio::spawn(collect(job.clone(), results));
    tokio::spawn(async move {
        for id in 0..tasks {
            entry.send_async(job.envelope(id)).await?;
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(collector.await?.finish(began))
}

async fn work(
    job: Arc<Job>,
    stage: usize,
    from: Receiver<Envelope>,
    to: Option<Sender<Envelope>>,
    done: Sender<(Envelope, End)>,
) {
    while let Ok(mut task) = from.recv_async().await {
        // A channel closes once everybody behind it has left, which is never before this.
        let _ = match (job.stage(stage, &mut task).await, &to) {
            (Ok(()), Some(to)) => to.send_async(task).await.is_ok(),
            (Ok(()), None) => done.send_async((task, End::Done)).await.is_ok(),
            (Err(end), _) => done.send_async((task, end)).await.is_ok(),
        };
    }
}

async fn collect(job: Arc<Job>, results: Receiver<(Envelope, End)>) -> Tally {
    let mut tally = Tally::new(job);
    while let Ok((task, end)) = results.recv_async().await {
        tally.add(task, end);
        for (task, end) in results.drain() {
            tally.add(task, end);
        }
    }
    tally
}
