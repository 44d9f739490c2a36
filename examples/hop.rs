//! The cost of a hop: three stages of four workers that do next to nothing, one producer, a timeout
//! on every task, default settings.
//!
//! `cargo run --release --example hop -- --tasks 1000000`: throughput and memory.
//! `cargo run --release --example hop -- --alone`: one task at a time through idle stages.
//! `cargo run --release --example hop -- --rest`: the processor time of a pipeline at rest.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use batrun::prelude::*;

#[derive(Clone)]
#[expect(dead_code, reason = "weight to carry")]
struct Item {
    id: u64,
    age: u32,
    name: String,
}

fn item(id: u64) -> Item {
    Item {
        id,
        age: 0,
        name: String::from("sixteen bytes..."),
    }
}

#[derive(Clone)]
struct Older;

impl Stage for Older {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        item.age += 1;
        Ok(item)
    }
}

fn pipeline(arbiters: Option<usize>) -> Pipeline<Item> {
    let pipeline = Pipeline::new("hop")
        .stage(Older.named("first").workers(4))
        .stage(Older.named("second").workers(4))
        .stage(Older.named("third").workers(4));
    match arbiters {
        Some(arbiters) => pipeline.arbiters(arbiters),
        None => pipeline,
    }
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.replace('_', "").parse::<u64>().ok()
    };
    let arbiters = value("--arbiters").map(|arbiters| arbiters as usize);
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let result = if flag("--help") {
        println!("hop [--tasks N | --alone | --rest] [--arbiters N]");
        Ok(true)
    } else if flag("--alone") {
        alone(arbiters).await
    } else if flag("--rest") {
        rest(arbiters).await
    } else {
        throughput(value("--tasks").unwrap_or(1_000_000), arbiters).await
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn throughput(tasks: u64, arbiters: Option<usize>) -> Result<bool, batrun::Error> {
    let idle = peak_rss_kb();
    let began = Instant::now();
    let report = pipeline(arbiters)
        .producer(move |intake: Intake<Item>| async move {
            for id in 0..tasks {
                intake
                    .submit(item(id))
                    .timeout(Duration::from_secs(4))
                    .await?;
            }
            Ok(())
        })
        .run()
        .await?;
    let took = began.elapsed();
    let peak = peak_rss_kb();
    print!("{report}");
    println!();
    println!("{:.0} tasks/s", tasks as f64 / took.as_secs_f64());
    println!(
        "{:.1} ns a task and stage",
        took.as_nanos() as f64 / tasks as f64 / 3.0
    );
    println!("peak RSS {} KiB, {} KiB over idle", peak, peak - idle);
    Ok(report.counts.accepted == tasks && report.counts.done == tasks)
}

/// One task at a time, from a producer that awaits each outcome.
async fn alone(arbiters: Option<usize>) -> Result<bool, batrun::Error> {
    const TASKS: u64 = 20_000;
    let report = pipeline(arbiters)
        .producer(|intake: Intake<Item>| async move {
            let mut times = Vec::new();
            for id in 0..TASKS {
                let item = item(id);
                let began = Instant::now();
                let ticket = intake.submit(item).timeout(Duration::from_secs(4)).await?;
                ticket.outcome().await?;
                times.push(began.elapsed());
                // A pause, so that the pipeline is idle before each task.
                if id % 100 == 0 {
                    actix_rt::time::sleep(Duration::from_millis(1)).await;
                }
            }
            times.sort();
            let at = |share: f64| times[(times.len() as f64 * share) as usize];
            println!(
                "one task alone through three stages: p50 {:?}, p99 {:?}",
                at(0.5),
                at(0.99)
            );
            Ok(())
        })
        .run()
        .await?;
    println!("{} tasks done", report.counts.done);

    // The same from outside the pipeline's threads, with a pause before each task.
    let handle = pipeline(arbiters).start().await?;
    let mut times = Vec::new();
    for id in 0..2_000 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        let ticket = handle
            .submit(item(id))
            .timeout(Duration::from_secs(4))
            .await;
        let Ok(ticket) = ticket else { return Ok(false) };
        ticket.outcome().await?;
        times.push(began.elapsed());
    }
    handle
        .shutdown(Shutdown::Drain(Duration::from_secs(1)))
        .await?;
    times.sort();
    println!(
        "from another thread, at rest before: p50 {:?}, p99 {:?}",
        times[1000], times[1980]
    );
    Ok(report.counts.done == TASKS)
}

async fn rest(arbiters: Option<usize>) -> Result<bool, batrun::Error> {
    let handle = pipeline(arbiters).start().await?;
    for id in 0..1_000 {
        if handle
            .submit(item(id))
            .timeout(Duration::from_secs(4))
            .await
            .is_err()
        {
            return Ok(false);
        }
    }
    actix_rt::time::sleep(Duration::from_secs(1)).await;
    let before = cpu_ticks();
    actix_rt::time::sleep(Duration::from_secs(10)).await;
    let ticks = cpu_ticks() - before;
    println!("{ticks} CPU ticks in 10 s at rest");
    handle
        .shutdown(Shutdown::Drain(Duration::from_secs(1)))
        .await?;
    Ok(ticks <= 1)
}

/// From /proc, so on Linux only; 0 elsewhere.
fn peak_rss_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything; user and system time are 12 and 13 after it.
    let fields = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}
