//! Tasks a second, and processor time a task, with pages open, against none: stretches of one run that take turns, so
//! that both have the same threads and the same memory.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use actix_rt::time::sleep;
use batrun::{Control, prelude::*};
use batrun_monitor::Monitor;

use crate::{median, pages};

const PAIRS: usize = 21;
/// Four samples.
const STRETCH: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Six stages that do nothing: the cost is that of the hops.
    Hop,
    /// Three stages that wait.
    Io,
}

impl Work {
    fn pipeline(self) -> Pipeline<u64> {
        let hop = |name| stage_fn(name, async |n: u64, _: &TaskContext<'_, ()>| Ok(n)).workers(4);
        let io = |name| {
            let wait = async |n: u64, _: &TaskContext<'_, ()>| {
                sleep(Duration::from_millis(1)).await;
                Ok(n)
            };
            stage_fn(name, wait).workers(256).capacity(256)
        };
        let pipeline = Pipeline::new("viewers").producer(from_iter(0..));
        match self {
            Work::Hop => pipeline
                .stage(hop("1"))
                .stage(hop("2"))
                .stage(hop("3"))
                .stage(hop("4"))
                .stage(hop("5"))
                .stage(hop("6")),
            Work::Io => pipeline.stage(io("1")).stage(io("2")).stage(io("3")),
        }
    }
}

/// The processor's time that this process has had, ended threads included, in seconds.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name in parentheses may have anything in it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(12) + ticks(13)) / 100.0
}

/// The time that each thread has run, in seconds, by thread and name.
fn threads() -> BTreeMap<(String, String), f64> {
    let each = fs::read_dir("/proc/self/task").unwrap().map(|thread| {
        let thread = thread.unwrap();
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let run = read("schedstat");
        let run: f64 = run.split(' ').next().unwrap().parse().unwrap_or_default();
        let number = thread.file_name().into_string().unwrap();
        ((number, read("comm").trim().to_owned()), run / 1e9)
    });
    each.collect()
}

struct Stretch {
    tasks_a_second: f64,
    /// Seconds a task.
    processor: f64,
    /// The samples that each page got, at least.
    samples: usize,
    /// The part of a processor that the monitor's threads had, and the pages'.
    monitor: f64,
    readers: f64,
}

async fn stretch(control: &Control, viewers: usize) -> Stretch {
    let others = threads();
    let open = (viewers > 0).then(|| {
        let monitor = Monitor::new().watch_control(control.clone());
        let serving = monitor.serve("127.0.0.1:0").unwrap();
        let pages = pages::open(serving.address(), viewers);
        (serving, pages)
    });
    // To open pages is not to look.
    sleep(Duration::from_millis(500)).await;
    let (began, before, run) = (Instant::now(), processor(), threads());
    let done = control.snapshot().counts.done;
    sleep(STRETCH).await;
    let took = began.elapsed().as_secs_f64();
    let tasks = (control.snapshot().counts.done - done) as f64;
    let used = processor() - before;
    let (mut monitor, mut readers) = (0.0, 0.0);
    for (thread, now) in threads() {
        let share = (now - run.get(&thread).copied().unwrap_or_default()) / took;
        if thread.1 == pages::THREAD {
            readers += share;
        } else if !others.contains_key(&thread) {
            monitor += share;
        }
    }
    let samples = open.map_or(0, |(serving, pages)| {
        drop(serving);
        pages.join().unwrap().into_iter().min().unwrap_or(0)
    });
    Stretch {
        tasks_a_second: tasks / took,
        processor: used / tasks,
        samples,
        monitor,
        readers,
    }
}

/// The ratios of `PAIRS` pairs.
async fn pairs(work: Work, control: &Control, viewers: usize) {
    let (mut alone, mut speeds, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut monitor, mut readers) = (Vec::new(), Vec::new());
    let mut samples = usize::MAX;
    for pair in 0..PAIRS {
        // Neither always comes first.
        let (without, with) = match pair % 2 {
            0 => (stretch(control, 0).await, stretch(control, viewers).await),
            _ => {
                let with = stretch(control, viewers).await;
                (stretch(control, 0).await, with)
            }
        };
        alone.push(without.tasks_a_second);
        speeds.push(with.tasks_a_second / without.tasks_a_second);
        costs.push(with.processor / without.processor);
        samples = samples.min(with.samples);
        monitor.push(100.0 * with.monitor);
        readers.push(100.0 * with.readers);
    }
    println!(
        "{work:?}: {:.0} tasks/s alone; with {viewers} pages {} of the tasks a second, and {} of the processor's \
         time a task, for {samples} samples a page or more",
        median(alone),
        span(speeds),
        span(costs),
    );
    if viewers > 0 {
        println!(
            "    the monitor's threads have {} % of a processor, those who read the pages {} %",
            span(monitor),
            span(readers),
        );
    }
}

/// With so many pages; with none, it shows the noise.
pub(crate) async fn run(viewers: usize) {
    println!("{viewers} pages, a sample a second each, against none: {PAIRS} pairs of {STRETCH:?}");
    for work in [Work::Hop, Work::Io] {
        let handle = work.pipeline().start().await.unwrap();
        let control = handle.control();
        pairs(work, &control, viewers).await;
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }
}

/// The median, the least and the most.
fn span(of: Vec<f64>) -> String {
    let least = of.iter().copied().fold(f64::MAX, f64::min);
    let most = of.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.3} to {most:.3})", median(of))
}
