//! The memory of the process while tasks pass by thousands, looked at by pages and a scraper.

use std::{fs, thread, time::Duration};

use batrun::{Failure, prelude::*, report::Recorder};
use batrun_monitor::Monitor;

use crate::pages;

const TASKS: u64 = 10_000_000;
/// The numbers of tasks at which it is looked at.
const AT: [u64; 6] = [
    100_000, 1_000_000, 3_000_000, 5_000_000, 7_500_000, 10_000_000,
];

/// Resident, in kB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

pub(crate) async fn run() {
    // One in a hundred fails, with an error of its own, and is rolled back.
    let take = stage_fn("take", async |n: u64, task: &TaskContext<'_, u64>| {
        task.on_cancel(n).await?;
        Ok(n)
    })
    .cancel_with(async |_: u64, _: &CancelContext| Ok(()))
    .workers(4);
    let fail = stage_fn("fail", async |n: u64, _: &TaskContext<'_, ()>| {
        match n % 100 {
            7 => Err(Failure::permanent(format!("no luck with {n}"))),
            _ => Ok(n),
        }
    })
    .workers(4);
    let handle = Pipeline::new("memory")
        .recorder(Recorder::bytes(4 << 20))
        .producer(from_iter(0..TASKS))
        .stage(take)
        .stage(fail)
        .start()
        .await
        .unwrap();
    let serving = Monitor::new().watch(&handle).serve("127.0.0.1:0").unwrap();
    let address = serving.address();
    let open = pages::open(address, 8);
    let control = handle.control();
    let looking = thread::spawn(move || {
        let mut at = AT.iter().peekable();
        let mut turn = 0u32;
        while let Some(next) = at.peek() {
            let ended = {
                let counts = control.snapshot().counts;
                counts.done + counts.failed
            };
            if ended >= **next {
                println!("after {ended:>10} tasks: {:>7} kB", resident());
                at.next();
            }
            // A person who goes from view to view.
            if turn.is_multiple_of(25) {
                for path in [
                    "metrics",
                    "api/v1/pipelines/0/ended?limit=100",
                    "api/v1/pipelines/0/tasks",
                    "api/v1/pipelines/0/history?range=24h",
                ] {
                    pages::get(address, path);
                }
            }
            turn += 1;
            thread::sleep(Duration::from_millis(10));
        }
    });
    let report = handle.join().await.unwrap();
    assert_eq!(report.counts.done + report.counts.failed, TASKS);
    looking.join().unwrap();
    drop(serving);
    open.join().unwrap();
}
