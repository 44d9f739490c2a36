//! The processor's time at rest: a pipeline without tasks, a monitor, and nobody who looks any more.

use std::{fs, time::Duration};

use actix_rt::time::sleep;
use batrun::prelude::*;
use batrun_monitor::Monitor;

use crate::pages;

/// The time that the threads of this process have run, in nanoseconds: all of them, and the one that takes samples.
fn run_times() -> (u64, u64) {
    let (mut all, mut sampler) = (0, 0);
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let folder = thread.unwrap().path();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let time = read("schedstat");
        let time: u64 = time.split(' ').next().unwrap().parse().unwrap_or_default();
        all += time;
        if read("comm").trim() == "batrun-monitor" {
            sampler += time;
        }
    }
    (all, sampler)
}

pub(crate) async fn run() {
    let stage = stage_fn("rests", async |n: u64, _: &TaskContext<'_, ()>| Ok(n));
    let handle: PipelineHandle<u64, u64> =
        Pipeline::new("rests").stage(stage).start().await.unwrap();
    let serving = Monitor::new().watch(&handle).serve("127.0.0.1:0").unwrap();
    let address = serving.address();
    let look = actix_rt::task::spawn_blocking(move || pages::get(address, "api/v1/pipelines"));
    look.await.unwrap();
    // Somebody who has looked is expected to look again for 15 s.
    sleep(Duration::from_secs(25)).await;
    let (all, sampler) = run_times();
    sleep(Duration::from_secs(10)).await;
    let (all_after, sampler_after) = run_times();
    println!(
        "at rest for 10 s, with nobody looking: the monitor has run for {} ns, and the process, with its web server, \
         for {:.1} ms",
        sampler_after - sampler,
        (all_after - all) as f64 / 1e6,
    );
    drop(serving);
    handle.shutdown(Shutdown::Abort).await.unwrap();
}
