//! batrun with its journal in a database, as its documentation shows it: `Journal::postgres`.
//!
//! All settings are the default ones. Tasks have no keys. As with a file, the producer has as many tasks in
//! flight as it may and takes the outcome of each, and the stages' queues have room for them all.

use std::{
    ops::Range,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use anyhow::anyhow;
use batrun::{journal::Journal, prelude::*, report::Counts, stage::Durable};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    cluster::{Place, Told, finish, told},
    durable::{Passed, in_flight},
    work::{Item, Measure, Params},
};

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    actix_rt::System::new().block_on(drive(params, place))
}

async fn drive(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let passed = Arc::new(Passed::new(params));
    let took = Told::default();
    let journal = Journal::postgres(place.address()).await?;
    let (clock, tells) = (place.begin(), took.clone());
    let ended = move || {
        if let Ok(mut took) = tells.lock() {
            *took = Some(clock.end());
        }
    };
    let node = node(
        params,
        journal,
        0..params.tasks,
        in_flight(params),
        &passed,
        ended,
    );
    let report = node.run().await?;
    Ok(measure(
        report.counts,
        finish(&passed, report.counts.done, told(&took)?),
    ))
}

/// Two nodes with half of the tasks each, on threads of their own.
pub fn run_two(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let passed = Arc::new(Passed::new(params));
    let middle = params.tasks / 2;
    // Both are connected before the time begins.
    let ready = Barrier::new(3);
    let (counts, took) = thread::scope(|scope| {
        let nodes = [0..middle, middle..params.tasks].map(|tasks| {
            let (ready, passed) = (&ready, &passed);
            scope.spawn(move || {
                actix_rt::System::new().block_on(async {
                    let journal = Journal::postgres(place.address()).await;
                    ready.wait();
                    let half = in_flight(params) / 2;
                    let node = node(params, journal?, tasks, half, passed, || {});
                    anyhow::Ok(node.run().await?.counts)
                })
            })
        });
        ready.wait();
        let clock = place.begin();
        let counts = nodes.map(|node| node.join());
        (counts, clock.end())
    });
    let mut sum = Counts::default();
    for counts in counts {
        let counts = counts.map_err(|_| anyhow!("a node panicked"))??;
        sum.done += counts.done;
        sum.failed += counts.failed;
        sum.timed_out += counts.timed_out;
    }
    Ok(measure(sum, finish(&passed, sum.done, took)))
}

fn measure(counts: Counts, measure: Measure) -> Measure {
    Measure {
        failed: counts.failed,
        timed_out: counts.timed_out,
        ..measure
    }
}

/// A pipeline that does these tasks, with so many in flight, and then calls `ended`.
fn node(
    params: &Params,
    journal: Journal,
    tasks: Range<u64>,
    in_flight: usize,
    passed: &Arc<Passed>,
    ended: impl FnOnce() + Send + 'static,
) -> Pipeline<Item, Item, Durable> {
    let (workers, timeout) = (params.workers, params.timeout);
    let stage = |at: usize| {
        let passed = passed.clone();
        HandsOn { at, passed }
            .named((at + 1).to_string())
            .workers(workers)
            .capacity(in_flight)
    };
    Pipeline::new("peers")
        .journal(journal)
        .max_in_flight(in_flight)
        .producer(async move |intake| {
            submit(intake, tasks, in_flight, timeout).await?;
            ended();
            Ok(())
        })
        .stage(stage(0))
        .stage(stage(1))
        .stage(stage(2))
}

async fn submit(
    intake: Intake<Item>,
    tasks: Range<u64>,
    in_flight: usize,
    timeout: Duration,
) -> Result<(), Failure> {
    let intake = &intake;
    stream::iter(tasks)
        .map(|id| async move {
            let task = intake.submit(Item::new(id)).timeout(timeout);
            task.await?.outcome().await?;
            Ok::<(), Failure>(())
        })
        .buffer_unordered(in_flight)
        .try_for_each(async |()| Ok(()))
        .await
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
