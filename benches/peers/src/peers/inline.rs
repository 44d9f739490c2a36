//! The same closures in a loop: the least that moving tasks from stage to stage can cost. In `cpu`
//! the loop runs on every core, each with its part of the tasks.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::work::{End, Job, Measure, Params, Tally, Workload};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    match params.workload {
        // One loop can wait for one thing only.
        Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed => None,
        Workload::Cpu => Some(on_all_cores(params)),
        Workload::Hop | Workload::Fail => {
            let job = Job::new(params);
            let began = Instant::now();
            let mut tally = Tally::new(job.clone());
            for id in 0..params.tasks {
                through(&job, &mut tally, id);
            }
            Some(Ok(tally.finish(began)))
        }
        Workload::Alone => {
            let job = Job::new(params);
            let began = Instant::now();
            let mut tally = Tally::new(job.clone());
            for id in 0..params.tasks {
                let submitted = Instant::now();
                through(&job, &mut tally, id);
                tally.latency(submitted.elapsed());
                if id % 100 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Some(Ok(tally.finish(began)))
        }
        // See `raw_file`.
        _ => None,
    }
}

fn through(job: &Job, tally: &mut Tally, id: u64) {
    // The moment of the submit is the moment in which the first stage starts: one look at the
    // clock does for both.
    let now = Instant::now();
    let mut task = job.envelope_at(now, id);
    let mut result = job.stage_at(now, 0, &mut task);
    for stage in 1..=job.last {
        result = result.and_then(|()| job.stage_blocking(stage, &mut task));
    }
    tally.add(task, result.err().unwrap_or(End::Done));
}

fn on_all_cores(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let cores = thread::available_parallelism()?.get() as u64;
    let part = |core| {
        let mut tally = Tally::new(job.clone());
        for id in (core..params.tasks).step_by(cores as usize) {
            through(&job, &mut tally, id);
        }
        tally
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores)
            .map(|core| {
                scope.spawn({
                    let part = &part;
                    move || part(core)
                })
            })
            .collect();
        let mut all = part(0);
        for other in others {
            let other = other
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            all.merge(other);
        }
        Ok(all.finish(began))
    })
}
