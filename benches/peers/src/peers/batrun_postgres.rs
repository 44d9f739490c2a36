//! batrun with its journal in a database, as its documentation shows it: `Journal::postgres`.
//!
//! All settings are the default ones. Tasks have no keys. As with a file, the producer has as many tasks in
//! flight as it may and takes the outcome of each, and the stages' queues have room for them all.

use std::{sync::Arc, time::Duration};

use batrun::{journal::Journal, prelude::*};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    cluster::{Clock, Place, Told, finish, told},
    durable::{Passed, in_flight},
    work::{Item, Measure, Params},
};

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    actix_rt::System::new().block_on(drive(params, place))
}

async fn drive(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let passed = Arc::new(Passed::new(params));
    let took = Told::default();
    let stage = |at: usize| {
        let passed = passed.clone();
        HandsOn { at, passed }
            .named((at + 1).to_string())
            .workers(params.workers)
            .capacity(in_flight(params))
    };
    let journal = Journal::postgres(place.address()).await?;
    let clock = place.begin();
    let (tasks, in_flight, timeout) = (params.tasks, in_flight(params), params.timeout);
    let tells = took.clone();
    let pipeline = Pipeline::new("peers")
        .journal(journal)
        .max_in_flight(in_flight)
        .producer(move |intake| submit(intake, tasks, in_flight, timeout, clock, tells))
        .stage(stage(0))
        .stage(stage(1))
        .stage(stage(2));
    let report = pipeline.run().await?;
    let mut measure = finish(&passed, report.counts.done, told(&took)?);
    measure.failed = report.counts.failed;
    measure.timed_out = report.counts.timed_out;
    Ok(measure)
}

async fn submit(
    intake: Intake<Item>,
    tasks: u64,
    in_flight: usize,
    timeout: Duration,
    clock: Clock,
    took: Told,
) -> Result<(), Failure> {
    let intake = &intake;
    stream::iter(0..tasks)
        .map(|id| async move {
            let task = intake.submit(Item::new(id)).timeout(timeout);
            task.await?.outcome().await?;
            Ok::<(), Failure>(())
        })
        .buffer_unordered(in_flight)
        .try_for_each(async |()| Ok(()))
        .await?;
    if let Ok(mut took) = took.lock() {
        *took = Some(clock.end());
    }
    Ok(())
}

#[derive(Clone)]
struct HandsOn {
    at: usize,
    passed: Arc<Passed>,
}

impl Stage for HandsOn {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut task: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        self.passed.pass(self.at, task.id, &mut task.age);
        Ok(task)
    }
}
