//! The process that is killed: a pipeline with a journal, and a producer.

use std::{
    collections::BTreeMap,
    env,
    future::pending,
    io::{self, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use batrun::{
    CancelContext, Failure, IntoWork, Pipeline, PipelineHandle, Retry, Shutdown, Stage,
    TaskContext, Ticket, TrySubmitError,
    journal::{Durability, Journal},
    policy::Recovery,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::{
    by_key,
    log::{self, Line, Log, Start, Told, Undo},
    plan::{Act, Back, LONG, Plan, STAGES, key},
};

/// The environment variable that tells a child its orders.
pub(crate) const ORDERS: &str = "BATRUN_CRASH_CHILD";

#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    /// The number of this process, from 1.
    pub(crate) run: u32,
    pub(crate) rolls_back: bool,
    /// The journal and the log survive a loss of power.
    pub(crate) power: bool,
    /// The number of tasks that each of its two producers submits.
    pub(crate) most: Option<usize>,
    /// It brings everything to its end, submits nothing new, and is not killed.
    pub(crate) last: bool,
    /// Tasks whose `submit` had not returned when the process before was killed.
    pub(crate) again: Vec<u64>,
    /// It tries stuck tasks again by itself.
    pub(crate) retries: bool,
    /// Tasks of processes before, whose keys it does something with. Of two with the same key the later.
    pub(crate) older: Vec<u64>,
    /// The address of the server that has the journal. Default: it is in a file.
    pub(crate) server: Option<String>,
}

impl Orders {
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("effects")
    }
}

/// The line that it prints once the pipeline has started.
pub(crate) const UP: &str = "up";

/// The time that the last child may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time after which stuck tasks are tried again, if they are. Long enough for the log to tell what was
/// before.
const SLOW: Duration = Duration::from_millis(60);

/// The time for which the next process has to wait after a kill, if the journal is on a server. A busy machine
/// may let a process stand still for longer than that; the last one, which nobody kills, has more.
const LEASE: Duration = Duration::from_secs(1);
const LAST_LEASE: Duration = Duration::from_secs(30);
pub(crate) const SCHEMA: &str = "crash test";

pub(crate) type Handle = PipelineHandle<u64, u64>;

/// Follows the orders in the environment, if there are any.
pub(crate) fn run() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    // Panics on purpose would hide those that nobody meant.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<OnPurpose>() {
            before(panic);
            // Even if something would catch it.
            std::process::abort();
        }
    }));
    // Nobody is left to kill it once its parent has ended.
    std::thread::spawn(|| {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::abort();
    });
    actix_rt::System::new().block_on(live(orders));
}

const ON_PURPOSE: &str = "on purpose";

/// The payload of a panic on purpose.
struct OnPurpose;

async fn live(orders: Orders) {
    let log = Log::open(&orders.log(), orders.power).unwrap();
    log.note(&Line::Boot {
        run: orders.run,
        rolls_back: orders.rolls_back,
        retries: orders.retries,
    });
    let durability = match orders.power {
        true => Durability::Power,
        false => Durability::Process,
    };
    let recovery = match orders.rolls_back {
        true => Recovery::RollBack,
        false => Recovery::Resume,
    };
    let journal = match &orders.server {
        Some(server) => {
            let options = Journal::options().schema(SCHEMA);
            let options = options.lease(if orders.last { LAST_LEASE } else { LEASE });
            options.postgres(server).await.unwrap()
        }
        None => Journal::open_with(orders.folder.join("journal"), durability).unwrap(),
    };
    let step = |number| {
        Step {
            number,
            seed: orders.seed,
            run: orders.run,
            log: log.clone(),
        }
        .workers(4)
        .retry(Retry::constant(2, Duration::from_millis(1)))
        .cancel_retry(Retry::constant(1, Duration::from_millis(2)))
    };
    let mut pipeline = Pipeline::new("crash").journal(journal).keep_undos();
    if orders.retries {
        pipeline = pipeline.retry_stuck(Retry::constant(3, SLOW));
    }
    let handle: Handle = pipeline
        .recovery(recovery)
        .arbiters(2)
        .max_in_flight(32)
        .max_stuck(1_000_000)
        .stage(step(0))
        .stage(step(1))
        .stage(step(2))
        .start()
        .await
        .unwrap();
    let outcomes = handle.outcomes();
    actix_rt::spawn(listen(outcomes, log.clone()));
    if let Some(server) = &orders.server {
        has_all(server, &handle).await;
    }
    println!("{UP}");
    io::stdout().flush().unwrap();
    if orders.last {
        return finish(orders, handle, log).await;
    }
    let first = u64::from(orders.run) * 100_000;
    let most = orders.most.unwrap_or(usize::MAX);
    let new = |from| (from..).step_by(2).take(most);
    let again = orders.again.clone().into_iter();
    futures::join!(
        produce(&orders, &handle, &log, again.chain(new(first))),
        produce(&orders, &handle, &log, new(first + 1)),
        by_key::visit(&orders, &handle, &log, 0),
        by_key::visit(&orders, &handle, &log, 1),
    );
    pending().await
}

/// Waits until the tasks of all processes before are this one's.
async fn has_all(server: &str, handle: &Handle) {
    let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = actix_rt::spawn(connection);
    let others = format!(
        "SELECT count(*) FROM \"{SCHEMA}\".task \
         WHERE owner <> (SELECT max(id) FROM \"{SCHEMA}\".node)"
    );
    let until = Instant::now() + PATIENCE;
    while client
        .query_one(&others, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        if Instant::now() > until {
            let rows = format!(
                "SELECT format('%s has %s of %s', owner, count(*), node) FROM \"{SCHEMA}\".task \
                 LEFT JOIN \"{SCHEMA}\".node ON node.id = owner GROUP BY owner, node.* \
                 UNION SELECT node::text FROM \"{SCHEMA}\".node"
            );
            let rows = client.query(&rows, &[]).await.unwrap();
            let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            panic!("{rows:#?} {:?}", handle.snapshot());
        }
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
    connection.abort();
}

/// Submits one task after the other.
async fn produce(orders: &Orders, handle: &Handle, log: &Log, tasks: impl Iterator<Item = u64>) {
    for number in tasks {
        submit(orders, handle, log, number).await;
    }
}

/// Submits a task, and writes down what becomes of it.
pub(crate) async fn submit(orders: &Orders, handle: &Handle, log: &Log, number: u64) {
    let plan = Plan::of(orders.seed, number);
    log.note(&Line::Ask { number });
    let submit = || {
        handle
            .submit(number)
            .timeout(plan.timeout_ms.map(Duration::from_millis))
            .key(key(number))
            .label(number.to_string())
    };
    let ticket = match plan.now.then(|| submit().now()) {
        Some(Ok(ticket)) => {
            ticket.recorded().await.unwrap();
            ticket
        }
        None | Some(Err(TrySubmitError::Full(_))) => {
            let ticket = submit().await;
            ticket.unwrap_or_else(|why| panic!("task {number}: {why}"))
        }
        Some(Err(refused)) => panic!("{refused}"),
    };
    let task = ticket.id().0;
    log.note(&Line::Submitted { number, task });
    let (log, cancel_after) = (log.clone(), plan.cancel_after_ms);
    actix_rt::spawn(async move {
        if let Some(after) = cancel_after {
            actix_rt::time::sleep(Duration::from_millis(after)).await;
            let took = ticket.cancel();
            log.note(&Line::Stop { number, took });
        }
        tell(ticket, &log).await;
    });
}

/// Writes down the outcome of a ticket's task, unless its key is forgotten first.
pub(crate) async fn tell(ticket: Ticket<u64>, log: &Log) {
    if let Ok(outcome) = ticket.outcome().await {
        let (task, told) = (outcome.task.0, Told::of(&outcome));
        log.note(&Line::Out { task, told });
    }
}

async fn listen(
    mut outcomes: impl futures::Stream<Item = Result<batrun::Outcome, batrun::report::Lagged>> + Unpin,
    log: Log,
) {
    while let Some(outcome) = outcomes.next().await {
        if let Ok(outcome) = outcome {
            let (task, told) = (outcome.task.0, Told::of(&outcome));
            log.note(&Line::Out { task, told });
        }
    }
}

/// Waits until everything is done, and writes down the outcomes.
async fn finish(orders: Orders, handle: Handle, log: Log) {
    let until = Instant::now() + PATIENCE;
    while handle.snapshot().in_flight > 0 {
        assert!(Instant::now() < until, "{:?}", handle.snapshot());
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
    let text = std::fs::read_to_string(orders.log()).unwrap();
    // Nobody looks at these lines before all are there.
    let log = Log::open(&orders.log(), false).unwrap_or(log);
    let mut asked = Vec::new();
    for line in log::lines(&text) {
        if let Line::Ask { number } = line {
            asked.push(number);
        }
    }
    for number in latest(asked) {
        let kept = handle.outcome_of(&key(number)).await.unwrap();
        log.note(&match kept {
            None => Line::Nothing { number },
            Some(outcome) => Line::Kept {
                number,
                task: outcome.task.0,
                told: Told::of(&outcome),
            },
        });
    }
    for stuck in handle.stuck() {
        log.note(&Line::Stuck { task: stuck.task.0 });
    }
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    let counts = report.counts;
    let ended = counts.done + counts.failed + counts.timed_out + counts.cancelled;
    let ended = ended + counts.taken_back;
    assert_eq!(counts.accepted, ended, "{report}");
    log.note(&Line::End);
}

/// Of the tasks with the same key the one that had it last.
pub(crate) fn latest(tasks: Vec<u64>) -> Vec<u64> {
    let mut by_key = BTreeMap::new();
    for number in tasks {
        let last = by_key.entry(key(number)).or_insert(number);
        *last = number.max(*last);
    }
    by_key.into_values().collect()
}

#[derive(Clone)]
struct Step {
    number: u16,
    seed: u64,
    run: u32,
    log: Log,
}

/// The last part of a key.
fn generation(key: impl ToString) -> u32 {
    let key = key.to_string();
    key.rsplit('/').next().unwrap().parse().unwrap()
}

impl Step {
    fn plan(&self, number: u64) -> crate::plan::Step {
        Plan::of(self.seed, number).steps[self.number as usize]
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        actix_rt::time::sleep(Duration::from_millis(ms)).await;
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
        self.log.note(&Line::Start(Start {
            number,
            task: task.task_id().0,
            stage,
            attempt,
            generation: generation(task.key()),
        }));
        let step = self.plan(number);
        pause(step.pause_ms).await;
        for nth in 0..step.undos + u32::from(step.withdraws) {
            let undo = Undo {
                number,
                stage,
                run: self.run,
                attempt,
                nth,
            };
            self.log.note(&Line::Wants(undo));
            let registered = task.on_cancel(undo).await?;
            self.log.note(&Line::Has(undo));
            if nth < step.undos {
                self.log.note(&Line::Did(undo));
            } else {
                self.log.note(&Line::Leaves(undo));
                registered.withdraw().await?;
                self.log.note(&Line::Left(undo));
            }
        }
        pause(step.pause_ms).await;
        let fails = |for_good| self.log.note(&Line::Fails { number, for_good });
        match step.act {
            Act::FailEvery => {}
            Act::FailFirst if attempt == 1 => {}
            Act::Hang => pending().await,
            Act::FailForGood => {
                fails(true);
                return Err(Failure::permanent(ON_PURPOSE));
            }
            Act::Panic => {
                fails(true);
                std::panic::panic_any(OnPurpose);
            }
            Act::Pass | Act::FailFirst => {
                self.log.note(&Line::Passes { number });
                return Ok(number);
            }
        }
        fails(false);
        Err(Failure::new(ON_PURPOSE))
    }

    async fn cancel(&mut self, undo: Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        self.log.note(&Line::Back {
            undo,
            task: cancel.task_id().0,
            attempt: cancel.attempt(),
            generation: generation(cancel.key()),
        });
        let step = self.plan(undo.number);
        pause(step.pause_ms).await;
        let back = match undo.nth {
            0 => step.back,
            _ => Back::Works,
        };
        let first = cancel.attempt() == 1;
        match back {
            Back::FailsFirst if first => {}
            Back::FailsAlways => {}
            Back::FailsLong if cancel.attempt() <= LONG => {}
            Back::PanicsFirst if first => {
                self.log.note(&Line::NotUndone(undo));
                std::panic::panic_any(OnPurpose);
            }
            Back::Works | Back::FailsFirst | Back::PanicsFirst | Back::FailsLong => {
                self.log.note(&Line::Undone(undo));
                return Ok(());
            }
        }
        self.log.note(&Line::NotUndone(undo));
        Err(Failure::new(ON_PURPOSE))
    }
}
