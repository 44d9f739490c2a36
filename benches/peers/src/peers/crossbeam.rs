//! crossbeam-channel: a bounded channel in front of each stage, which all its threads receive from.
//! The calling thread collects, since it has nothing else to do.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::work::{End, Envelope, Job, Measure, Params, Tally, Workload};

const QUEUE: usize = 1024;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    match params.workload {
        // A thread that hangs can't be stopped.
        Workload::Late | Workload::LateFull | Workload::LateMixed => None,
        _ => Some(drive(params)),
    }
}

fn drive(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    thread::scope(|scope| {
        let (entry, mut from) = bounded::<Envelope>(QUEUE);
        let (done, results) = bounded(QUEUE);
        for stage in 0..params.stages {
            let (to, next) = bounded(QUEUE);
            let to = (stage < job.last).then_some(to);
            for _ in 0..params.workers {
                let (job, from, to, done) = (&job, from.clone(), to.clone(), done.clone());
                // Small stacks: `io` has 768 threads.
                thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn_scoped(scope, move || work(job, stage, &from, to.as_ref(), &done))?;
            }
            from = next;
        }
        // Any copy that is left would keep the channels open.
        drop((from, done));
        if params.workload == Workload::Alone {
            return alone(&job, params.tasks, entry, &results);
        }
        let began = Instant::now();
        let producing = &job;
        scope.spawn(move || {
            for id in 0..params.tasks {
                if entry.send(producing.envelope(id)).is_err() {
                    break;
                }
            }
        });
        let mut tally = Tally::new(job.clone());
        for (task, end) in &results {
            tally.add(task, end);
        }
        Ok(tally.finish(began))
    })
}

fn work(
    job: &Job,
    stage: usize,
    from: &Receiver<Envelope>,
    to: Option<&Sender<Envelope>>,
    done: &Sender<(Envelope, End)>,
) {
    for mut task in from {
        // A channel closes once everybody behind it has left, which is never before this.
        let _ = match (job.stage_blocking(stage, &mut task), to) {
            (Ok(()), Some(to)) => to.send(task).is_ok(),
            (Ok(()), None) => done.send((task, End::Done)).is_ok(),
            (Err(end), _) => done.send((task, end)).is_ok(),
        };
    }
}

fn alone(
    job: &std::sync::Arc<Job>,
    tasks: u64,
    entry: Sender<Envelope>,
    results: &Receiver<(Envelope, End)>,
) -> anyhow::Result<Measure> {
    let began = Instant::now();
    let mut tally = Tally::new(job.clone());
    for id in 0..tasks {
        let submitted = Instant::now();
        let gone = || anyhow!("a worker is gone");
        entry.send(job.envelope(id)).map_err(|_| gone())?;
        let (task, end) = results.recv().map_err(|_| gone())?;
        tally.latency(submitted.elapsed());
        tally.add(task, end);
        if id % 100 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(tally.finish(began))
}
