//! A node: a process with the pipeline, and two producers.

use std::{
    cell::Cell,
    env, fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use batrun::{
    CancelContext, Failure, IntoWork, Outcome, Pipeline, PipelineHandle, Retry, Shutdown, Stage,
    TaskContext, journal::Journal, state::Rollback,
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    database,
    log::{Line, Log, Start, Told, Undo, entries, time},
    plan::{self, Act, Back, NUMBERS, Numbers, SHARED, STAGES},
};

/// The environment variable that tells a node its orders.
pub(crate) const ORDERS: &str = "BATRUN_CLUSTER_CHILD";

pub(crate) const SCHEMA: &str = "cluster test";

/// The time after which the others take over.
pub(crate) const LEASE: Duration = Duration::from_millis(1_500);

/// The line that a node prints once its pipeline has started.
pub(crate) const UP: &str = "up";

/// The time that the last node may take to bring everything to its end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    /// The number of this process, from 1.
    pub(crate) process: u32,
    /// It submits tasks.
    pub(crate) produces: bool,
    pub(crate) server: String,
}

/// A line on its standard input: how it is to end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Tasks are left for the others.
    Suspend,
    Drain,
    /// The last node ends once every task has ended.
    Finish,
}

pub(crate) fn log_of(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("effects.{process}"))
}

type Handle = PipelineHandle<u64, u64>;

/// Follows the orders in the environment, if there are any.
pub(crate) fn run() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        // Even if something would catch it.
        std::process::abort();
    }));
    log::set_logger(&Stderr).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let (sender, commands) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            sender.send(serde_json::from_str(&line).unwrap()).ok();
        }
        // Nobody is left to kill it once its parent has ended.
        std::process::abort();
    });
    actix_rt::System::new().block_on(live(orders, commands));
    // The thread that reads goes on.
    std::process::exit(0);
}

/// Log lines go to the errors of the process.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}: {}", time(), record.level(), record.args());
    }

    fn flush(&self) {}
}

async fn live(orders: Orders, mut commands: UnboundedReceiver<Command>) {
    let log = Log::create(&log_of(&orders.folder, orders.process)).unwrap();
    let options = Journal::options().lease(LEASE).schema(SCHEMA);
    let journal = options.postgres(&orders.server).await.unwrap();
    let step = |number| {
        Step {
            number,
            seed: orders.seed,
            process: orders.process,
            log: log.clone(),
        }
        .workers(4)
        .retry(Retry::constant(2, Duration::from_millis(1)))
        .cancel_retry(Retry::constant(1, Duration::from_millis(2)))
    };
    let started = Pipeline::new("cluster")
        .journal(journal)
        .arbiters(2)
        .max_in_flight(64)
        .max_stuck(1_000_000)
        .stage(step(0))
        .stage(step(1))
        .stage(step(2))
        .start()
        .await;
    let handle: Handle = started.unwrap();
    let listening = actix_rt::spawn(listen(handle.outcomes(), log.clone()));
    println!("{UP}");
    io::stdout().flush().unwrap();
    let stop = Rc::new(Cell::new(false));
    let producers = (0..2 * u64::from(orders.produces)).map(|producer| {
        let (handle, log) = (handle.clone(), log.clone());
        let (seed, process) = (orders.seed, orders.process);
        actix_rt::spawn(produce(seed, process, producer, handle, log, stop.clone()))
    });
    let producers: Vec<_> = producers.collect();
    let command = futures::select_biased! {
        _ = Box::pin(futures::FutureExt::fuse(handle.ended())) => None,
        command = Box::pin(futures::FutureExt::fuse(commands.recv())) => command,
    };
    let how = match command {
        None => None,
        Some(Command::Suspend) => Some(Shutdown::Suspend),
        Some(Command::Drain) => Some(Shutdown::Drain(PATIENCE)),
        Some(Command::Finish) => {
            stop.set(true);
            for producer in producers {
                producer.await.unwrap();
            }
            finish(&orders, &handle, &log).await;
            Some(Shutdown::Drain(PATIENCE))
        }
    };
    let Some(how) = how else {
        let report = handle.ended().await.unwrap();
        return log.note(Line::Suspended(report.suspended.unwrap().to_string()));
    };
    // It may be buried just then.
    let asked = matches!(how, Shutdown::Suspend);
    let report = handle.shutdown(how).await.unwrap();
    listening.await.unwrap();
    let lost = !asked && matches!(handle.health(), batrun::report::Health::Suspended { .. });
    log.note(match report.suspended {
        Some(why) if lost => Line::Suspended(why.to_string()),
        _ => Line::End,
    });
}

/// Submits tasks until the pipeline takes none. Now and then it is one that other nodes submit, too.
async fn produce(
    seed: u64,
    process: u32,
    producer: u64,
    handle: Handle,
    log: Log,
    stop: Rc<Cell<bool>>,
) {
    let first = u64::from(process) * NUMBERS + producer;
    let mut numbers = Numbers(seed ^ first);
    let mut window = 0;
    for own in (first..).step_by(2) {
        if stop.get() {
            return;
        }
        // Everybody's clock shows the same time here, so the same number.
        let now = time() / 200_000;
        let shared = producer == 0 && now > window && numbers.below(2) == 0;
        window = now;
        let number = if shared { SHARED + now } else { own };
        log.note(Line::Ask { number });
        let submitted = handle.submit(number).key(number.to_string()).await;
        let Ok(ticket) = submitted else { return };
        let (task, known) = (ticket.id().0, ticket.is_known());
        log.note(Line::Submitted {
            number,
            task,
            known,
        });
        actix_rt::time::sleep(Duration::from_millis(numbers.below(40))).await;
    }
}

async fn listen(
    mut outcomes: impl futures::Stream<Item = Result<Outcome, batrun::report::Lagged>> + Unpin,
    log: Log,
) {
    while let Some(outcome) = outcomes.next().await {
        if let Ok(outcome) = outcome {
            let (task, text) = (outcome.task.0, outcome.to_string());
            log.note(Line::Out { task, text });
        }
    }
}

/// Waits until every task has ended, and writes down the outcome of each key.
async fn finish(orders: &Orders, handle: &Handle, log: &Log) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = database::unfinished(&orders.server).await;
        if left.is_empty() {
            break;
        }
        if Instant::now() > until {
            // The checker finds them in the database.
            let few = &left[..left.len().min(10)];
            eprintln!("tasks that don't end: {few:?}\n{:?}", handle.snapshot());
            return;
        }
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
    let mut asked = std::collections::BTreeSet::new();
    // This one need not be the youngest.
    for file in fs::read_dir(&orders.folder).unwrap() {
        for entry in entries(&file.unwrap().path()) {
            if let Line::Ask { number } = entry.line {
                asked.insert(number);
            }
        }
    }
    let ask = async |number: u64| match handle.outcome_of(&number.to_string()).await {
        Ok(None) => log.note(Line::Nothing { number }),
        Ok(Some(outcome)) => log.note(Line::Kept {
            number,
            told: told(&outcome),
        }),
        // It has been suspended, and another one is asked.
        Err(_) => {}
    };
    stream::iter(asked).for_each_concurrent(64, ask).await;
}

fn told<O>(outcome: &Outcome<O>) -> Told {
    let stuck = match &outcome.rollback {
        Rollback::Stuck(stuck) => stuck.undos.iter().map(|left| left.undo.clone()).collect(),
        _ => Vec::new(),
    };
    Told {
        task: outcome.task.0,
        is_done: outcome.is_done(),
        text: outcome.to_string(),
        stuck,
    }
}

#[derive(Clone)]
struct Step {
    number: u16,
    seed: u64,
    process: u32,
    log: Log,
}

async fn pause(ms: u64) {
    if ms > 0 {
        actix_rt::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl Step {
    fn plan(&self, number: u64) -> plan::Step {
        plan::plan(self.seed, number)[self.number as usize]
    }
}

impl Stage for Step {
    type Input = u64;
    type Output = u64;
    type Undo = Undo;

    fn name(&self) -> String {
        assert!(self.number < STAGES);
        format!("step {}", self.number)
    }

    async fn run(&mut self, number: u64, task: &TaskContext<'_, Undo>) -> Result<u64, Failure> {
        let (stage, attempt) = (self.number, task.attempt());
        let id = task.task_id().0;
        self.log.note(Line::Start(Start {
            number,
            task: id,
            stage,
            attempt,
        }));
        let step = self.plan(number);
        for nth in 0..step.effects {
            let undo = Undo {
                number,
                stage,
                process: self.process,
                attempt,
                nth,
            };
            self.log.note(Line::Wants(undo));
            if let Err(refused) = task.on_cancel(undo).await {
                self.log.note(Line::Refused(undo));
                return Err(refused.into());
            }
            self.log.note(Line::Did(undo));
            pause(step.pause_ms / 2).await;
        }
        pause(step.pause_ms / 2).await;
        match step.act {
            Act::FailForGood => Err(Failure::permanent("on purpose")),
            Act::FailFirst if attempt == 1 => Err(Failure::new("on purpose")),
            Act::Pass | Act::FailFirst => Ok(number),
        }
    }

    async fn cancel(&mut self, undo: Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        let step = self.plan(undo.number);
        pause(step.pause_ms / 4).await;
        let first = cancel.attempt() == 1;
        match step.back {
            Back::FailsFirst if first && undo.nth == 0 => {}
            Back::FailsAlways if undo.nth == 0 => {}
            _ => {
                self.log.note(Line::Undone(undo));
                return Ok(());
            }
        }
        Err(Failure::new("on purpose"))
    }
}
