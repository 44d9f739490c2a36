//! The rate of a stage with tasks waiting, beside its limit: five seconds of real time for each, burst 1.
//!
//! `cargo bench -p batrun-benches --bench rate`
//!
//! Exits with 1 where a rate is off by more than two in a hundred.

#![allow(clippy::unwrap_used)]

use std::{process::ExitCode, time::Duration};

use batrun::prelude::*;

const RATES: [u32; 4] = [100, 500, 2_000, 20_000];
const TIME: Duration = Duration::from_secs(5);
/// The most that a rate may be off by, in hundredths.
const MOST: f64 = 2.0;

#[actix::main]
async fn main() -> ExitCode {
    println!("{:>8} {:>10} {:>8}", "limit", "started", "off by");
    let mut all_kept = true;
    for rate in RATES {
        let work = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n))
            .workers(4)
            .rate_limit(RateLimit::per_second(rate));
        let handle = Pipeline::new("rate")
            .producer(from_iter(0..))
            .stage(work)
            .start()
            .await
            .unwrap();
        actix_rt::time::sleep(TIME).await;
        let started = handle.snapshot().stages[0].counts.started;
        handle.shutdown(Shutdown::Abort).await.unwrap();
        let wanted = TIME.as_secs_f64() * f64::from(rate);
        let off = (started as f64 / wanted - 1.0) * 100.0;
        all_kept &= off.abs() <= MOST;
        println!("{rate:>8} {started:>10} {off:>6.2} %");
    }
    if all_kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
