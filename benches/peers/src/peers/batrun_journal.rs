//! batrun with a journal, as its documentation shows it: `Journal::open`, which survives a loss of
//! power.
//!
//! The producer has as many tasks in flight as it may, and takes the outcome of each. The stages'
//! queues have room for them all.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use batrun::{journal::Journal, prelude::*};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    durable::{Folder, Parcel, Passed, in_flight},
    work::{Measure, Params},
};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(drive(params))
}

fn drive(params: &Params) -> anyhow::Result<Measure> {
    let folder = Folder::new()?;
    let passed = Arc::new(Passed::new(params));
    let took = Arc::new(Mutex::new(None));
    let stage = |at: usize| {
        let passed = passed.clone();
        HandsOn { at, passed }
            .named((at + 1).to_string())
            .workers(params.workers)
            .capacity(in_flight(params))
    };
    let (tasks, in_flight, timeout) = (params.tasks, in_flight(params), params.timeout);
    let told = took.clone();
    let pipeline = Pipeline::new("peers")
        .journal(Journal::open(folder.file("journal"))?)
        .max_in_flight(in_flight)
        .producer(move |intake| submit(intake, tasks, in_flight, timeout, told))
        .stage(stage(0))
        .stage(stage(1))
        .stage(stage(2));
    let report = actix_rt::System::new().block_on(pipeline.run())?;
    let took = took.lock().map_err(|_| anyhow!("a panic"))?;
    let seconds = took.with_context(|| format!("it ended early: {report}"))?;
    let mut measure = passed.finish(report.counts.done, seconds);
    measure.failed = report.counts.failed;
    measure.timed_out = report.counts.timed_out;
    Ok(measure)
}

async fn submit(
    intake: Intake<Parcel>,
    tasks: u64,
    in_flight: usize,
    timeout: Duration,
    took: Arc<Mutex<Option<f64>>>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let intake = &intake;
    stream::iter(0..tasks)
        .map(|id| async move {
            let task = intake.submit(Parcel::new(id)).timeout(timeout);
            task.await?.outcome().await?;
            Ok::<(), Failure>(())
        })
        .buffer_unordered(in_flight)
        .try_for_each(async |()| Ok(()))
        .await?;
    if let Ok(mut took) = took.lock() {
        *took = Some(began.elapsed().as_secs_f64());
    }
    Ok(())
}

#[derive(Clone)]
struct HandsOn {
    at: usize,
    passed: Arc<Passed>,
}

impl Stage for HandsOn {
    type Input = Parcel;
    type Output = Parcel;
    type Undo = ();

    async fn run(&mut self, mut task: Parcel, _: &TaskContext<'_, ()>) -> Result<Parcel, Failure> {
        self.passed.stage(self.at, &mut task);
        Ok(task)
    }
}
