//! The time of a scrape, from the request to the last byte, over a connection of its own.

use std::time::{Duration, Instant};

use batrun::prelude::*;
use batrun_monitor::Monitor;

use crate::{median, pages};

const STAGES: usize = 10;
const TASKS: u64 = 200_000;
const SCRAPES: usize = 401;

pub(crate) async fn run() {
    let mut pipeline = Pipeline::new("scraped");
    for n in 1..=STAGES {
        let pass = async |n: u64, _: &TaskContext<'_, ()>| Ok(n);
        pipeline = pipeline.stage(stage_fn(n.to_string(), pass).workers(4));
    }
    let handle: PipelineHandle<u64, u64> = pipeline.start().await.unwrap();
    for n in 0..TASKS {
        handle.submit(n).await.unwrap();
    }
    let control = handle.control();
    let serving = Monitor::new().watch(&handle).serve("127.0.0.1:0").unwrap();
    let address = serving.address();
    while control.snapshot().in_flight > 0 {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    let scrape = |path: &'static str| {
        actix_rt::task::spawn_blocking(move || {
            let times = (0..SCRAPES).map(|_| {
                let began = Instant::now();
                let text = pages::get(address, path);
                (began.elapsed().as_secs_f64() * 1e3, text.len())
            });
            let (times, sizes): (Vec<f64>, Vec<usize>) = times.unzip();
            (median(times), sizes[0])
        })
    };
    // The way there and back, without anything to say.
    let (way, _) = scrape("health").await.unwrap();
    let (time, bytes) = scrape("metrics").await.unwrap();
    println!(
        "a scrape of {STAGES} stages: {time:.2} ms for {bytes} bytes; of that, {way:.2} ms are the way there and back"
    );
    drop(serving);
    handle.shutdown(Shutdown::Abort).await.unwrap();
}
