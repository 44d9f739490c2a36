//! The cost of a restart, and the size of a journal:
//!
//! `cargo bench -p batrun-benches --features journal --bench recovery`
//!
//! - `restart` (the default) makes a journal of `--tasks` live tasks (1,000,000) with
//!   contexts of 100 bytes, every second one with an undo. Then a process of its own starts the
//!   pipeline on a copy of it, and prints the time from before `Journal::open` until `start` had
//!   returned, the time until the first task was at work, and its peak memory by then. Each of the
//!   `--rounds` (3) is shown, and the medians.
//! - `growth` runs `--tasks` tasks (300,000) to their end, every second one with a key, while
//!   10,000 outcomes are kept, and shows the sizes of the file and its log after each sixth of
//!   them.
//!
//! The journals are in a temporary folder of their own (in `TMPDIR`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use batrun::{
    journal::{Durability, Journal},
    prelude::*,
    stage::Durable,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

/// The project's goal for a million tasks.
const GOAL: &str = "at most 5 s and at most 1 GB";
/// Number of submits that wait at once, so that they share a commit.
const AT_ONCE: usize = 4_096;

fn main() {
    let mut words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let tasks = option(&mut words, "--tasks");
    let rounds = option(&mut words, "--rounds");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let system = actix::System::new();
    match words[..] {
        [] | ["restart"] => restarts(tasks.unwrap_or(1_000_000), rounds.unwrap_or(3)),
        ["growth"] => system.block_on(growth(tasks.unwrap_or(300_000))),
        ["fill", path] => system.block_on(fill(path, tasks.unwrap())),
        ["once", path] => system.block_on(once(path, tasks.unwrap())),
        _ => panic!("restart or growth, --tasks N, --rounds N, and not {words:?}"),
    }
}

fn option(words: &mut Vec<String>, name: &str) -> Option<u64> {
    let at = words.iter().position(|word| word == name)?;
    let value = words.drain(at..at + 2).nth(1)?;
    Some(value.parse().expect("a number"))
}

/// A task: 100 bytes in a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Parcel {
    id: u64,
    text: String,
}

impl Parcel {
    fn new(id: u64) -> Self {
        let (numbers, names) = (if id < 65_536 { 3 } else { 5 }, 11);
        let text = "x".repeat(100 - numbers - names);
        Parcel { id, text }
    }
}

/// The time at which the first task was at work in a stage.
static FIRST: OnceLock<Instant> = OnceLock::new();

type Handle = PipelineHandle<Parcel, Parcel>;

/// All tasks pass the first stage, and one of them hangs in the second, behind which the others wait.
async fn start(journal: Journal, tasks: u64) -> Handle {
    let pack = async |task: Parcel, context: &TaskContext<'_, u64>| {
        if task.id % 2 == 1 {
            context.on_cancel(task.id).await?;
        }
        Ok(task)
    };
    let send = async |_: Parcel, _: &TaskContext<'_, ()>| {
        FIRST.get_or_init(Instant::now);
        std::future::pending::<Result<Parcel, Failure>>().await
    };
    let pipeline: Pipeline<_, _, Durable> = Pipeline::new("parcels").journal(journal);
    let pack = stage_fn("pack", pack).cancel_with(async |_: u64, _: &CancelContext<'_>| Ok(()));
    pipeline
        .max_in_flight(tasks as usize)
        .stage(pack.workers(AT_ONCE).capacity(tasks as usize))
        .stage(stage_fn("send", send).workers(1).capacity(tasks as usize))
        .start()
        .await
        .unwrap()
}

async fn fill(path: &str, tasks: u64) {
    let journal = Journal::open_with(path, Durability::Process).unwrap();
    let handle = start(journal, tasks).await;
    submit(0..tasks, |id| handle.submit(Parcel::new(id)).into_future()).await;
    while handle.snapshot().stages[0].counts.finished < tasks {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    handle.shutdown(Shutdown::Suspend).await.unwrap();
}

/// One start, in a process of its own: prints seconds until it had started, seconds until the first
/// task was at work, and megabytes.
async fn once(path: &str, tasks: u64) {
    let began = Instant::now();
    let handle = start(Journal::open(path).unwrap(), tasks).await;
    let started = began.elapsed();
    while FIRST.get().is_none() {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    let first = *FIRST.get().unwrap() - began;
    let megabytes = peak_bytes() as f64 / 1e6;
    assert_eq!(handle.snapshot().in_flight, tasks);
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    println!(
        "{} {} {megabytes}",
        started.as_secs_f64(),
        first.as_secs_f64()
    );
}

fn restarts(tasks: u64, rounds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    child("fill", &made, tasks);
    println!(
        "a restart with {tasks} tasks, in a file of {:.0} MB",
        size(&made) as f64 / 1e6
    );
    println!(
        "{:>10}{:>12}{:>12}{:>10}",
        "", "started s", "first s", "peak MB"
    );
    let mut all: [Vec<f64>; 3] = Default::default();
    for round in 1..=rounds {
        // A copy, because a start changes the journal and every round needs the same one.
        let copy = folder.path().join("copy");
        fs::copy(&made, &copy).unwrap();
        let figures = child("once", &copy, tasks);
        let figures = figures.split_whitespace().map(|figure| figure.parse());
        let figures: Vec<f64> = figures.collect::<Result<_, _>>().unwrap();
        show(&round.to_string(), &figures);
        all.iter_mut()
            .zip(figures)
            .for_each(|(all, figure)| all.push(figure));
    }
    show("median", &all.map(median));
    println!("the goal for a million: {GOAL}");
}

fn show(name: &str, figures: &[f64]) {
    let [started, first, peak] = figures else {
        panic!("three figures, not {figures:?}")
    };
    println!("{name:>10}{started:>12.2}{first:>12.2}{peak:>10.0}");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn child(what: &str, path: &Path, tasks: u64) -> String {
    let program = env::current_exe().expect("this program has a path");
    let mut child = Command::new(program);
    child.args([what, path.to_str().unwrap(), "--tasks", &tasks.to_string()]);
    let output = child.output().expect("it starts");
    assert!(output.status.success(), "{what}: {output:?}");
    String::from_utf8(output.stdout).expect("figures")
}

async fn growth(tasks: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Journal::open_with(&path, Durability::Process).unwrap();
    let pipeline = Pipeline::new("parcels").journal(journal.keep_most(10_000));
    let pack = stage_fn(
        "pack",
        async |task: Parcel, context: &TaskContext<'_, u64>| {
            context.on_cancel(task.id).await?;
            Ok(task)
        },
    );
    let pack = pack.cancel_with(async |_: u64, _: &CancelContext<'_>| Ok(()));
    let handle = pipeline
        .max_in_flight(AT_ONCE)
        .stage(pack.workers(AT_ONCE).capacity(AT_ONCE))
        .start()
        .await
        .unwrap();
    println!("{:>12}{:>12}{:>12}", "tasks done", "file MB", "log MB");
    let step = tasks / 6;
    for done in (0..6).map(|n| n * step) {
        submit(done..done + step, |id| {
            let submit = handle.submit(Parcel::new(id));
            if id % 2 == 0 {
                submit.key(id.to_string()).into_future()
            } else {
                submit.into_future()
            }
        })
        .await;
        while handle.snapshot().in_flight > 0 {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        let (file, log) = (size(&path), size(&log_of(&path)));
        let done = handle.snapshot().counts.done;
        println!(
            "{done:>12}{:>12.1}{:>12.1}",
            file as f64 / 1e6,
            log as f64 / 1e6
        );
    }
    handle.join().await.unwrap();
}

/// Submits these tasks, many at a time.
async fn submit<T, F>(ids: std::ops::Range<u64>, submit: impl Fn(u64) -> F)
where
    F: Future<Output = Result<T, SubmitError<Parcel>>>,
{
    let submits = stream::iter(ids).map(submit).buffer_unordered(AT_ONCE);
    submits.try_for_each(async |_| Ok(())).await.unwrap();
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

/// From /proc, so on Linux only; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}
