//! The cost of looking on: a recorder, a snapshot a second and a list of tasks, beside a pipeline that nobody
//! watches; and one look at many tasks in flight.
//!
//! `cargo bench -p batrun-benches --bench watching`
//!
//! Tasks pass through six stages that do nothing, on one thread, in rounds that take turns. The medians of the
//! rounds' own ratios count; the machine should have nothing else to do.

#![allow(clippy::unwrap_used)]

use std::{
    future::pending,
    thread,
    time::{Duration, Instant},
};

use batrun::{
    prelude::*,
    report::{Recorder, TaskFilter},
};

const ROUNDS: usize = 21;
const TASKS: u64 = 300_000;
const STAGES: u32 = 6;
const IN_FLIGHT: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Alone,
    Recorded,
    /// By one that asks ten times a second.
    Watched,
}

/// Nanoseconds for each task and stage.
async fn round(how: How) -> f64 {
    let stage =
        |name: &str| stage_fn(name, async |n: u64, _: &TaskContext<'_, ()>| Ok(n)).workers(4);
    let mut pipeline = Pipeline::new("watching")
        .producer(from_iter(0..TASKS))
        .stage(stage("1"))
        .stage(stage("2"))
        .stage(stage("3"))
        .stage(stage("4"))
        .stage(stage("5"))
        .stage(stage("6"))
        .current_arbiter();
    if how == How::Recorded {
        pipeline = pipeline.recorder(Recorder::bytes(4 << 20));
    }
    let began = Instant::now();
    let handle = pipeline.start().await.unwrap();
    let watcher = (how == How::Watched).then(|| {
        let control = handle.control();
        thread::spawn(move || {
            while !control.is_ended() {
                control.snapshot();
                control.times();
                control.tasks(&TaskFilter::new(), None, 200);
                thread::sleep(Duration::from_millis(100));
            }
        })
    });
    let report = handle.join().await.unwrap();
    let took = began.elapsed();
    assert_eq!(report.counts.done, TASKS);
    if let Some(watcher) = watcher {
        watcher.join().unwrap();
    }
    took.as_nanos() as f64 / (TASKS * u64::from(STAGES)) as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[actix::main]
async fn main() {
    let (mut alone, mut recorded, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let base = round(How::Alone).await;
        alone.push(base);
        recorded.push(round(How::Recorded).await - base);
        watched.push(round(How::Watched).await / base - 1.0);
    }
    println!(
        "nobody looks     {:>8.1} ns a task and stage",
        median(alone)
    );
    println!("with a recorder  {:>+8.1} ns more", median(recorded));
    println!("looked at, 10 Hz {:>+8.2} %", 100.0 * median(watched));

    let hangs = stage_fn("hangs", async |_: u64, _: &TaskContext<'_, ()>| {
        pending::<()>().await;
        Ok(())
    });
    let handle = Pipeline::new("many")
        .producer(from_iter(0..IN_FLIGHT))
        .stage(hangs.workers(4).capacity(IN_FLIGHT as usize))
        .start()
        .await
        .unwrap();
    let control = handle.control();
    while control.snapshot().in_flight < IN_FLIGHT {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    let time = |look: &dyn Fn()| {
        median(
            (0..ROUNDS)
                .map(|_| {
                    let began = Instant::now();
                    look();
                    began.elapsed().as_secs_f64() * 1e3
                })
                .collect(),
        )
    };
    let filter = TaskFilter::new();
    println!("with {IN_FLIGHT} tasks in flight:");
    println!(
        "a snapshot       {:>8.2} ms",
        time(&|| drop(control.snapshot()))
    );
    println!(
        "a page of 200    {:>8.2} ms",
        time(&|| drop(control.tasks(&filter, None, 200)))
    );
    handle.shutdown(Shutdown::Suspend).await.unwrap();
}
