//! Tasks a second, and processor time a task, with pages open, against none, in rounds that take turns. The first is
//! noise where other programs want the processor, too.

use std::{
    fs,
    time::{Duration, Instant},
};

use batrun::prelude::*;
use batrun_monitor::Monitor;

use crate::{VIEWERS, median, pages};

const PAIRS: usize = 21;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Six stages that do nothing: the cost is that of the hops.
    Hop,
    /// Three stages that wait.
    Io,
}

impl Work {
    /// As many as take four seconds or so: four samples.
    fn tasks(self) -> u64 {
        match self {
            Work::Hop => 9_000_000,
            Work::Io => 400_000,
        }
    }

    fn pipeline(self) -> Pipeline<u64> {
        let hop = |name| stage_fn(name, async |n: u64, _: &TaskContext<'_, ()>| Ok(n)).workers(4);
        let io = |name| {
            let wait = async |n: u64, _: &TaskContext<'_, ()>| {
                actix_rt::time::sleep(Duration::from_millis(1)).await;
                Ok(n)
            };
            stage_fn(name, wait).workers(256).capacity(256)
        };
        let pipeline = Pipeline::new("viewers").producer(from_iter(0..self.tasks()));
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

struct Round {
    tasks_a_second: f64,
    /// Seconds, for all of its tasks.
    processor: f64,
    /// The samples that each page got, at least.
    samples: usize,
}

async fn round(work: Work, viewers: usize) -> Round {
    let handle = work.pipeline().start().await.unwrap();
    // Until all pages are open: to open them is not to look.
    handle.pause();
    let serving = (viewers > 0).then(|| {
        let monitor = Monitor::new().watch(&handle);
        let serving = monitor.serve("127.0.0.1:0").unwrap();
        let pages = pages::open(serving.address(), viewers);
        (serving, pages)
    });
    let (began, before) = (Instant::now(), processor());
    handle.resume();
    let report = handle.join().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    let processor = processor() - before;
    assert_eq!(report.counts.done, work.tasks());
    let mut samples = 0;
    if let Some((serving, pages)) = serving {
        drop(serving);
        let each = pages.into_iter().map(|page| page.join().unwrap());
        samples = each.min().unwrap_or(0);
    }
    Round {
        tasks_a_second: work.tasks() as f64 / took,
        processor,
        samples,
    }
}

pub(crate) async fn run() {
    println!("{VIEWERS} pages, a sample a second each, against none: {PAIRS} pairs");
    for work in [Work::Hop, Work::Io] {
        let (mut alone, mut speeds, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        let mut samples = usize::MAX;
        for pair in 0..PAIRS {
            // Neither always comes first.
            let (without, with) = match pair % 2 {
                0 => (round(work, 0).await, round(work, VIEWERS).await),
                _ => {
                    let with = round(work, VIEWERS).await;
                    (round(work, 0).await, with)
                }
            };
            alone.push(without.tasks_a_second);
            speeds.push(with.tasks_a_second / without.tasks_a_second);
            costs.push(with.processor / without.processor);
            samples = samples.min(with.samples);
        }
        println!(
            "{work:?}: {:.0} tasks/s alone; with {VIEWERS} pages {} of the tasks a second, and {} of the processor's \
             time, for {samples} samples a page or more",
            median(alone),
            span(speeds),
            span(costs),
        );
    }
}

/// The median, the least and the most.
fn span(of: Vec<f64>) -> String {
    let least = of.iter().copied().fold(f64::MAX, f64::min);
    let most = of.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.3} to {most:.3})", median(of))
}
