//! The cost of a million outstanding deadlines, and of the tasks they belong to:
//!
//! `cargo bench -p batrun-benches --features internals --bench deadlines`
//!
//! - *wheel* is the timing wheel by itself, *shuffled* the same with records and deadlines in no
//!   order, so that nearly every step waits for memory;
//! - *table* is the engine's table of tasks in flight: each figure is that of a task with a deadline
//!   less that of one without;
//! - *record* is the whole of such a task with a deadline: its record, its entries in the table and
//!   its deadline;
//! - *pipeline* is a task with a deadline in a paused pipeline, its context (8 bytes), its place in
//!   the queue and its undo log included. There, expire includes everything that follows: the task
//!   is taken out of the queue, ended as timed out, and reported.
//!
//! Bytes are counted at the allocator, so spare room in lists is included; RSS is the system's
//! figure. Each round runs in processes of its own; the figures are medians of five.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    alloc::System,
    env, fs,
    process::Command,
    time::{Duration, Instant},
};

use batrun::{
    internals::{Deadlines, InFlight},
    prelude::*,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TASKS: u32 = 1_000_000;
const ROUNDS: usize = 5;
/// Batch size: as many as the deadline driver and the reporter take at a time.
const AT_ONCE: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(4);

/// Bytes, bytes of RSS, nanoseconds to insert, to remove and to expire: each for one task.
type Figures = [f64; 5];

const HEAD: [&str; 5] = ["bytes", "RSS", "insert ns", "remove ns", "expire ns"];
/// The project's goal for one deadline.
const GOAL: &str = "at most 100 bytes, 100 ns to insert and 100 ns to expire";

fn main() {
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    if let Some(what) = args.next() {
        let figures = run(&what);
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return;
    }
    println!("a deadline of {TASKS}, or a task: each");
    println!(
        "{:<12}{}",
        "",
        HEAD.map(|head| format!("{head:>11}")).concat()
    );
    for row in ["wheel", "shuffled", "table", "record", "pipeline"] {
        let rounds: Vec<Figures> = (0..ROUNDS).map(|_| round(row)).collect();
        let medians: [f64; 5] = std::array::from_fn(|at| {
            let mut figures: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        });
        let shown = medians.map(|figure| match figure.is_nan() {
            true => format!("{:>11}", "-"),
            false => format!("{figure:>11.1}"),
        });
        println!("{row:<12}{}", shown.concat());
    }
    println!("the goal for a deadline: {GOAL}");
}

fn round(row: &str) -> Figures {
    match row {
        "table" => {
            let (with, without) = (child("record"), child("without"));
            let mut less: Figures = std::array::from_fn(|at| with[at] - without[at]);
            less[4] = with[4];
            less
        }
        row => child(row),
    }
}

fn child(what: &str) -> Figures {
    let program = env::current_exe().expect("this program has a path");
    let output = Command::new(program).arg(what).output().expect("it starts");
    assert!(output.status.success(), "{what}: {output:?}");
    let line = String::from_utf8(output.stdout).expect("figures");
    let figures: Vec<f64> = line
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    figures.try_into().expect("five figures")
}

fn run(what: &str) -> Figures {
    match what {
        "wheel" => wheel(&|n| n),
        // A step that shares no factor with the number of tasks visits all of them.
        "shuffled" => wheel(&|n| (u64::from(n) * 618_033 % u64::from(TASKS)) as u32),
        "record" => table(Some(TIMEOUT.as_nanos() as u64)),
        "without" => table(None),
        "pipeline" => actix::System::new().block_on(pipeline()),
        other => panic!("there is no {other}"),
    }
}

fn wheel(slot: &dyn Fn(u32) -> u32) -> Figures {
    let memory = Memory::now();
    let mut deadlines = Deadlines::empty();
    // The tasks come every 200 ns, all with the same timeout: a second task's number is its time.
    let at = |task: u32| TIMEOUT.as_nanos() as u64 + u64::from(slot(task)) * 200;
    let insert = |deadlines: &mut Deadlines| {
        (0..TASKS).for_each(|task| deadlines.insert(slot(slot(task)), at(task)));
    };
    let inserting = each(|| insert(&mut deadlines));
    let [bytes, rss] = memory.since();
    let removing = each(|| (0..TASKS).for_each(|task| deadlines.remove(slot(task))));
    insert(&mut deadlines);
    let mut late = 0;
    let mut due = Vec::with_capacity(4 * AT_ONCE);
    let expiring = each(|| {
        while late < TASKS as usize {
            due.clear();
            deadlines.expire(2 * TIMEOUT.as_nanos() as u64, AT_ONCE, &mut due);
            assert!(!due.is_empty());
            late += due.len();
        }
    });
    assert_eq!(late, TASKS as usize);
    [bytes, rss, inserting, removing, expiring]
}

fn table(deadline: Option<u64>) -> Figures {
    let mut tasks = InFlight::new(TASKS as usize);
    let memory = Memory::now();
    let deadline = |task: u32| Some(deadline? + u64::from(task) * 200);
    let insert = |tasks: &mut InFlight| (0..TASKS).for_each(|task| tasks.admit(deadline(task)));
    insert(&mut tasks);
    let [bytes, rss] = memory.since();
    let removing = each(|| tasks.file_done(AT_ONCE));
    // Into existing records, as all but the first tasks of a pipeline go.
    let inserting = each(|| insert(&mut tasks));
    let mut late = 0;
    let expiring = each(|| {
        loop {
            match tasks.expire(2 * TIMEOUT.as_nanos() as u64, AT_ONCE) {
                0 => break,
                more => late += more,
            }
        }
    });
    assert_eq!(late, deadline(0).map_or(0, |_| TASKS as usize));
    [bytes, rss, inserting, removing, expiring]
}

async fn pipeline() -> Figures {
    const WAIT: Duration = Duration::from_millis(100);
    let pass = stage_fn("pass", async |id: u64, _: &TaskContext<'_, ()>| Ok(id));
    let handle = Pipeline::new("deadlines")
        .current_arbiter()
        .max_in_flight(TASKS as usize)
        .stage(pass.capacity(TASKS as usize))
        .start()
        .await
        .unwrap();
    handle.pause();
    let deadline = Instant::now() + TIMEOUT;
    let memory = Memory::now();
    let began = Instant::now();
    for id in 0..u64::from(TASKS) {
        handle.submit(id).deadline(deadline).await.unwrap();
    }
    let inserting = began.elapsed();
    assert!(
        Instant::now() + WAIT < deadline,
        "too slow to have all of them outstanding"
    );
    actix_rt::time::sleep(WAIT).await;
    assert_eq!(handle.snapshot().in_flight, u64::from(TASKS));
    let [bytes, rss] = memory.since();
    actix_rt::time::sleep_until(deadline.into()).await;
    while handle.snapshot().in_flight > 0 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    let expiring = deadline.elapsed();
    assert_eq!(handle.snapshot().counts.timed_out, u64::from(TASKS));
    handle.join().await.unwrap();
    [
        bytes,
        rss,
        per_task(inserting),
        f64::NAN,
        per_task(expiring),
    ]
}

fn each(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    per_task(began.elapsed())
}

fn per_task(took: Duration) -> f64 {
    took.as_nanos() as f64 / f64::from(TASKS)
}

/// The memory in use at some time.
struct Memory {
    region: Region<'static, System>,
    rss: u64,
}

impl Memory {
    fn now() -> Self {
        Memory {
            region: Region::new(COUNTING),
            rss: rss_bytes(),
        }
    }

    /// Growth since then for each task: bytes, and bytes of RSS.
    fn since(&self) -> [f64; 2] {
        let change = self.region.change();
        let held = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let rss = rss_bytes() as f64 - self.rss as f64;
        [held, rss].map(|bytes| bytes / f64::from(TASKS))
    }
}

/// From /proc, so on Linux only; 0 elsewhere.
fn rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}
