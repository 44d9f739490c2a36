//! batrun as its README shows it: default settings, the public API.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use batrun::prelude::*;

use crate::{
    job::HANG,
    work::{self, Item, Log, Measure, Params, Workload, fails, hangs, hash},
};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(drive(params, None))
}

/// On one arbiter: for the latency of a task alone, which then needs no other thread.
pub fn run_on_one(params: &Params) -> Option<anyhow::Result<Measure>> {
    (params.workload == Workload::Alone).then(|| drive(params, Some(1)))
}

fn drive(params: &Params, arbiters: Option<usize>) -> anyhow::Result<Measure> {
    let run = Arc::new(Run {
        log: Log::new(params),
        skipped: AtomicU64::new(0),
        began: Mutex::new(None),
        latencies: Mutex::new(Vec::new()),
    });
    let pipeline = Pipeline::new("peers");
    let pipeline = match arbiters {
        Some(arbiters) => pipeline.arbiters(arbiters),
        None => pipeline,
    };
    let pipeline = match params.workload {
        Workload::Hop | Workload::Alone => stages(pipeline, params, |at| Older(run.step(at))),
        Workload::Io => stages(pipeline, params, |at| Waits(run.step(at))),
        Workload::Cpu => stages(pipeline, params, |at| Hashes(run.step(at))),
        Workload::Fail => stages(pipeline, params, |at| Undoes(run.step(at))),
        Workload::Late | Workload::LateFull | Workload::LateMixed => pipeline
            .stage(Older(run.step(0)).named("1").workers(params.workers))
            .stage(
                Hangs(run.step(1), params.workload)
                    .named("2")
                    .workers(params.workers),
            )
            .stage(Older(run.step(2)).named("3").workers(params.workers)),
        // With a journal, which is another type: see `batrun_journal` and `batrun_postgres`.
        _ => bail!("it has a file of its own"),
    };
    let (workload, tasks, timeout) = (params.workload, params.tasks, params.timeout);
    let shared = run.clone();
    let pipeline = match params.workload {
        Workload::Late | Workload::LateFull | Workload::LateMixed => {
            pipeline.producer(move |intake| late(intake, workload, tasks, timeout, shared))
        }
        Workload::Alone => pipeline.producer(move |intake| alone(intake, tasks, timeout, shared)),
        _ => pipeline.producer(move |intake| submit(intake, tasks, timeout, shared)),
    };
    let report = actix_rt::System::new().block_on(pipeline.run())?;
    let began = run.began.lock().map_err(|_| anyhow!("a panic"))?;
    let seconds = began
        .context("nothing was submitted")?
        .elapsed()
        .as_secs_f64();
    let (cancels, wrong_order) = run.log.counts();
    let latencies = run
        .latencies
        .lock()
        .map_err(|_| anyhow!("a panic"))?
        .clone();
    Ok(Measure {
        seconds,
        // A task that missed a stage is not done, so the counts won't be exact.
        done: report.counts.done.saturating_sub(run.skipped.load(Relaxed)),
        failed: report.counts.failed,
        timed_out: report.counts.timed_out,
        cancels,
        wrong_order,
        latencies_ns: latencies,
        ..Measure::default()
    })
}

fn stages<S>(pipeline: Pipeline<Item>, params: &Params, make: impl Fn(usize) -> S) -> Pipeline<Item>
where
    S: Stage<Input = Item, Output = Item> + Clone + Send,
{
    let work = |at: usize| make(at).named((at + 1).to_string()).workers(params.workers);
    pipeline.stage(work(0)).stage(work(1)).stage(work(2))
}

/// The part that the stages and the producer of a run share.
struct Run {
    log: Log,
    /// Tasks that came to a stage without having been in the one before.
    skipped: AtomicU64,
    began: Mutex<Option<Instant>>,
    latencies: Mutex<Vec<u64>>,
}

impl Run {
    fn step(self: &Arc<Self>, at: usize) -> Step {
        let run = self.clone();
        Step { at, run }
    }

    fn begin(&self) {
        if let Ok(mut began) = self.began.lock() {
            *began = Some(Instant::now());
        }
    }

    fn keep(&self, latencies: Vec<u64>) {
        if let Ok(mut kept) = self.latencies.lock() {
            *kept = latencies;
        }
    }
}

#[derive(Clone)]
struct Step {
    at: usize,
    run: Arc<Run>,
}

impl Step {
    fn check(&self, item: &Item) {
        if item.age as usize != self.at + 1 {
            self.run.skipped.fetch_add(1, Relaxed);
        }
    }
}

async fn submit(
    intake: Intake<Item>,
    tasks: u64,
    timeout: Duration,
    run: Arc<Run>,
) -> Result<(), Failure> {
    run.begin();
    for id in 0..tasks {
        intake.submit(Item::new(id)).timeout(timeout).await?;
    }
    Ok(())
}

async fn alone(
    intake: Intake<Item>,
    tasks: u64,
    timeout: Duration,
    run: Arc<Run>,
) -> Result<(), Failure> {
    run.begin();
    let mut latencies = Vec::with_capacity(tasks as usize);
    for id in 0..tasks {
        let submitted = Instant::now();
        let ticket = intake.submit(Item::new(id)).timeout(timeout).await?;
        ticket.outcome().await?;
        latencies.push(submitted.elapsed().as_nanos() as u64);
        if id % 100 == 0 {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
    }
    run.keep(latencies);
    Ok(())
}

/// Every outcome is awaited by the submitter of its task, so none can be missed. A reader of
/// `outcomes()` that lags behind might miss some.
async fn late(
    intake: Intake<Item>,
    workload: Workload,
    tasks: u64,
    timeout: Duration,
    run: Arc<Run>,
) -> Result<(), Failure> {
    run.begin();
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let open = Rc::new(Cell::new(tasks));
    let all = Rc::new(tokio::sync::Notify::new());
    for id in 0..tasks {
        // As for the others, from before the wait for room.
        let deadline = Instant::now() + work::timeout(workload, timeout, id);
        let ticket = intake.submit(Item::new(id)).deadline(deadline).await?;
        let (latencies, open, all) = (latencies.clone(), open.clone(), all.clone());
        actix_rt::spawn(async move {
            if let Ok(outcome) = ticket.outcome().await
                && matches!(outcome.end, End::TimedOut { .. })
            {
                let late = deadline.elapsed();
                latencies.borrow_mut().push(late.as_nanos() as u64);
            }
            open.set(open.get() - 1);
            if open.get() == 0 {
                all.notify_one();
            }
        });
    }
    all.notified().await;
    run.keep(latencies.take());
    Ok(())
}

#[derive(Clone)]
struct Older(Step);

impl Stage for Older {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        item.age += 1;
        self.0.check(&item);
        Ok(item)
    }
}

#[derive(Clone)]
struct Waits(Step);

impl Stage for Waits {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        item.age += 1;
        self.0.check(&item);
        Ok(item)
    }
}

#[derive(Clone)]
struct Hashes(Step);

impl Stage for Hashes {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        hash(&mut item);
        self.0.check(&item);
        Ok(item)
    }
}

#[derive(Clone)]
struct Hangs(Step, Workload);

impl Stage for Hangs {
    type Input = Item;
    type Output = Item;
    type Undo = ();

    async fn run(&mut self, mut item: Item, _: &TaskContext<'_, ()>) -> Result<Item, Failure> {
        if hangs(self.1, item.id) {
            tokio::time::sleep(HANG).await;
        }
        item.age += 1;
        self.0.check(&item);
        Ok(item)
    }
}

#[derive(Clone)]
struct Undoes(Step);

impl Stage for Undoes {
    type Input = Item;
    type Output = Item;
    type Undo = u64;

    async fn run(&mut self, mut item: Item, task: &TaskContext<'_, u64>) -> Result<Item, Failure> {
        task.on_cancel(item.id).await?;
        if self.0.at == 2 && fails(item.id) {
            return Err(Failure::permanent("one in a hundred"));
        }
        item.age += 1;
        self.0.check(&item);
        Ok(item)
    }

    async fn cancel(&mut self, id: u64, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.0.run.log.cancel(id, self.0.at);
        Ok(())
    }
}
