//! batrun alone, one parameter of hop or io swept at a time: the cost of a task and stage, or the tasks a
//! second, as that parameter grows. Each point runs in a process of its own, in rounds that go over all points.

use std::{
    fs::{self, File},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use batrun::prelude::*;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    child::cpu_time,
    draw,
    parent::{Came, Parent},
    table::median,
    work::Item,
};

const ROUNDS: usize = 3;
/// Time for a point, about.
const SECONDS: f64 = 0.5;
const QUICK_SECONDS: f64 = 0.05;
/// Number of tasks with which a point finds out the number that it needs.
const FIRST_TASKS: u64 = 10_000;
const MOST_TASKS: u64 = 5_000_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    Workers,
    Stages,
    Capacity,
    Payload,
    Failing,
    /// Stages that wait for 1 ms, by their workers.
    WaitingWorkers,
    /// The same: the processor time.
    WaitingCpu,
    /// By the time that they wait, in microseconds.
    WaitingTime,
}

/// The figure that a sweep shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    HopNs,
    TasksPerSecond,
    CpuUs,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::HopNs => "ns/task/stage",
            Unit::TasksPerSecond => "tasks/s",
            Unit::CpuUs => "CPU us/task",
        }
    }

    fn of(self, line: &Line, tasks: u64, stages: usize) -> f64 {
        let tasks = tasks as f64;
        match self {
            Unit::HopNs => line.seconds * 1e9 / tasks / stages as f64,
            Unit::TasksPerSecond => tasks / line.seconds,
            Unit::CpuUs => line.cpu_seconds * 1e6 / tasks,
        }
    }
}

impl Sweep {
    pub fn unit(self) -> Unit {
        match self {
            Sweep::WaitingWorkers | Sweep::WaitingTime => Unit::TasksPerSecond,
            Sweep::WaitingCpu => Unit::CpuUs,
            _ => Unit::HopNs,
        }
    }

    fn values(self) -> &'static [u64] {
        match self {
            Sweep::Workers => &[1, 4, 16, 64, 256, 1024],
            Sweep::Stages => &[1, 2, 4, 8, 16, 32],
            Sweep::Capacity => &[1, 4, 16, 64, 256, 1024, 4096, 16384, 65536],
            Sweep::Payload => &[16, 64, 256, 1024, 4096, 16384, 65536],
            Sweep::Failing => &[0, 1, 5, 10, 25, 50, 100],
            Sweep::WaitingWorkers | Sweep::WaitingCpu => &[16, 64, 256, 1024, 4096],
            Sweep::WaitingTime => &[0, 10, 100, 1_000, 10_000, 100_000],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Sweep::Workers => "workers",
            Sweep::Stages => "stages",
            Sweep::Capacity => "capacity",
            Sweep::Payload => "payload",
            Sweep::Failing => "failing",
            Sweep::WaitingWorkers => "waiting-workers",
            Sweep::WaitingCpu => "waiting-cpu",
            Sweep::WaitingTime => "waiting-time",
        }
    }
}

/// A point's pipeline: hop's, but for the parameter that is swept.
struct Shape {
    workers: usize,
    stages: usize,
    capacity: Option<usize>,
    payload: usize,
    /// In percent. If it is set, the stages register undos.
    failing: Option<u64>,
    /// The time that each stage waits for.
    waits: Option<Duration>,
}

impl Shape {
    fn new(sweep: Sweep, value: u64) -> Self {
        let mut shape = Shape {
            workers: 4,
            stages: 3,
            capacity: None,
            payload: 16,
            failing: None,
            waits: None,
        };
        let size = value as usize;
        match sweep {
            Sweep::Workers => shape.workers = size,
            Sweep::Stages => shape.stages = size,
            Sweep::Capacity => shape.capacity = Some(size),
            Sweep::Payload => shape.payload = size,
            Sweep::Failing => shape.failing = Some(value),
            Sweep::WaitingWorkers | Sweep::WaitingCpu => {
                (shape.workers, shape.waits) = (size, Some(Duration::from_millis(1)));
            }
            Sweep::WaitingTime => {
                (shape.workers, shape.waits) = (256, Some(Duration::from_micros(value)));
            }
        }
        shape
    }
}

#[derive(Serialize)]
pub struct Point {
    pub sweep: Sweep,
    pub value: u64,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
    pub tasks: u64,
    pub exact: bool,
}

/// The line that a child prints for its parent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    seconds: f64,
    cpu_seconds: f64,
    exact: bool,
}

/// Runs all sweeps and writes an SVG for each, and `plots.json`. `false` if it was stopped before
/// the end, or something didn't add up.
pub fn run(out: &Path, quick: bool) -> anyhow::Result<bool> {
    fs::create_dir_all(out).with_context(|| format!("can't make the folder {}", out.display()))?;
    let json = out.join("plots.json");
    // Before the run: a folder that can't be made is better known now than afterwards.
    let file = File::create(&json).with_context(|| format!("can't write {}", json.display()))?;
    let (rounds, seconds) = if quick {
        (1, QUICK_SECONDS)
    } else {
        (ROUNDS, SECONDS)
    };
    let points: Vec<(Sweep, u64)> = Sweep::value_variants()
        .iter()
        .flat_map(|&sweep| sweep.values().iter().map(move |&value| (sweep, value)))
        .collect();
    let mut parent = Parent::new(points.len() * (rounds + 1))?;
    let mut tasks = Vec::new();
    let mut figures = vec![Vec::new(); points.len()];
    let mut exact = vec![true; points.len()];
    for round in 0..=rounds {
        for (at, &(sweep, value)) in points.iter().enumerate() {
            let count = tasks.get(at).copied().unwrap_or(FIRST_TASKS);
            let what = format!("round {round} of {rounds}: {} {value}", sweep.name());
            let Some(line) = child(&mut parent, sweep, value, count, what)? else {
                println!("stopped: nothing is written");
                return Ok(false);
            };
            exact[at] &= line.exact;
            if round == 0 {
                tasks.push(((FIRST_TASKS as f64 * seconds / line.seconds) as u64).min(MOST_TASKS));
            } else {
                let stages = Shape::new(sweep, value).stages;
                figures[at].push(sweep.unit().of(&line, count, stages));
            }
        }
    }
    parent.bar.finish_and_clear();
    let points: Vec<Point> = points
        .into_iter()
        .enumerate()
        .map(|(at, (sweep, value))| Point {
            sweep,
            value,
            unit: sweep.unit().name(),
            median: median(figures[at].clone()),
            min: figures[at].iter().copied().fold(f64::INFINITY, f64::min),
            max: figures[at].iter().copied().fold(0.0, f64::max),
            rounds,
            tasks: tasks[at],
            exact: exact[at],
        })
        .collect();
    serde_json::to_writer_pretty(file, &points)?;
    for &sweep in Sweep::value_variants() {
        let path = out.join(format!("{}.svg", sweep.name()));
        let these: Vec<&Point> = points.iter().filter(|point| point.sweep == sweep).collect();
        draw::plot(&path, sweep, &these).with_context(|| format!("drawing {}", path.display()))?;
        for point in these {
            let Point {
                value,
                median,
                min,
                max,
                tasks,
                ..
            } = point;
            let (name, unit) = (sweep.name(), point.unit);
            let counts = if point.exact { "exact" } else { "NOT EXACT" };
            println!(
                "{name:<15}{value:>7}{median:>11.1} {unit} ({min:.1}-{max:.1}), {tasks} tasks, {counts}"
            );
        }
    }
    println!("written to {}", out.display());
    Ok(points.iter().all(|point| point.exact))
}

/// `None` if it was stopped.
fn child(
    parent: &mut Parent,
    sweep: Sweep,
    value: u64,
    tasks: u64,
    what: String,
) -> anyhow::Result<Option<Line>> {
    let args = [
        "--point".to_owned(),
        sweep.name().to_owned(),
        value.to_string(),
        tasks.to_string(),
    ];
    match parent.child(&args, what)? {
        Came::Line(line) => Ok(Some(serde_json::from_str(&line)?)),
        Came::Failed(why) => Err(anyhow!("{} {value}: {why}", sweep.name())),
        Came::Stopped => Ok(None),
    }
}

/// The work of a child: one point.
pub fn point(sweep: Sweep, value: u64, tasks: u64) -> anyhow::Result<Line> {
    let shape = Shape::new(sweep, value);
    let began = Arc::new(Mutex::new(None));
    let cancels = Arc::new(AtomicU64::new(0));
    let mut pipeline = Pipeline::new("plots").producer({
        let began = began.clone();
        let name = "x".repeat(shape.payload);
        move |intake: Intake<Item>| async move {
            if let Ok(mut began) = began.lock() {
                *began = Some(Instant::now());
            }
            for id in 0..tasks {
                let (age, name) = (0, name.clone());
                let item = Item { id, age, name };
                intake.submit(item).timeout(Duration::from_secs(4)).await?;
            }
            Ok(())
        }
    });
    for at in 0..shape.stages {
        let last = at + 1 == shape.stages;
        pipeline = match shape.failing {
            None if shape.waits.is_some() => pipeline.stage(sized(Waits(shape.waits), at, &shape)),
            None => pipeline.stage(sized(Older, at, &shape)),
            Some(share) => {
                let failing = if last { share } else { 0 };
                let cancels = cancels.clone();
                pipeline.stage(sized(Undoes { failing, cancels }, at, &shape))
            }
        };
    }
    let cpu = cpu_time();
    let report = actix_rt::System::new().block_on(pipeline.run())?;
    let cpu_seconds = (cpu_time() - cpu).as_secs_f64();
    let began = began.lock().map_err(|_| anyhow!("a panic"))?;
    let seconds = began
        .context("nothing was submitted")?
        .elapsed()
        .as_secs_f64();
    let failed = (0..tasks)
        .filter(|&id| fails(id, shape.failing.unwrap_or(0)))
        .count() as u64;
    let counts = report.counts;
    let exact = counts.done == tasks - failed
        && counts.failed == failed
        && cancels.load(Relaxed) == failed * shape.stages as u64;
    Ok(Line {
        seconds,
        cpu_seconds,
        exact,
    })
}

fn sized<S>(stage: S, at: usize, shape: &Shape) -> Work<S>
where
    S: Stage + Clone + Send,
{
    let work = stage.named(at.to_string()).workers(shape.workers);
    match shape.capacity {
        Some(capacity) => work.capacity(capacity),
        None => work,
    }
}

fn fails(id: u64, percent: u64) -> bool {
    id % 100 >= 100 - percent
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

#[derive(Clone)]
struct Waits(Option<Duration>);

impl Stage for Waits {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        if let Some(wait) = self.0.filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait).await;
        }
        item.age += 1;
        Ok(item)
    }
}

#[derive(Clone)]
struct Undoes {
    /// In percent.
    failing: u64,
    cancels: Arc<AtomicU64>,
}

impl Stage for Undoes {
    type Input = Item;
    type Output = Item;
    type Undo = u64;

    async fn run(&mut self, mut item: Item, task: &TaskContext<'_, u64>) -> Result<Item, Failure> {
        task.on_cancel(item.id).await?;
        if fails(item.id, self.failing) {
            return Err(Failure::permanent("as it was to"));
        }
        item.age += 1;
        Ok(item)
    }

    async fn cancel(&mut self, _: u64, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.cancels.fetch_add(1, Relaxed);
        Ok(())
    }
}
