//! Several nodes of one pipeline, in one process: takeover, keys, what a node that was buried can do, decisions about
//! of others, tasks that go where there is room, and random pipelines that go on in a second node.
//!
//!   .ci/postgres cargo test -p batrun-cluster --test nodes -- --ignored

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod anywhere;
mod balance;
mod model;
mod reader;
mod revisions;
mod submitter;

use std::{
    env, process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use batrun::{PipelineHandle, SubmitError, journal::Journal, prelude::*, report::Report};
use tokio::sync::{Notify, mpsc};
use tokio_postgres::{Client, NoTls};

/// The longest time for something that has to happen.
const AT_MOST: Duration = Duration::from_secs(30);

/// Longer than a busy machine lets a process stand still.
const LEASE: Duration = Duration::from_secs(6);

/// The database of one test, with a schema of its own.
struct World {
    server: String,
    schema: String,
    person: Client,
}

impl World {
    async fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let server = env::var("BATRUN_POSTGRES").expect("run it by .ci/postgres");
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let (person, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
        actix_rt::spawn(connection);
        World {
            server,
            schema: format!("nodes {} {number}", process::id()),
            person,
        }
    }

    async fn journal(&self) -> Journal {
        let options = Journal::options().lease(LEASE).schema(&self.schema);
        options.postgres(&self.server).await.unwrap()
    }

    async fn does(&self, statement: &str) {
        let statement = statement.replace("@.", &format!("\"{}\".", self.schema));
        self.person.batch_execute(&statement).await.unwrap();
    }

    async fn counts(&self, statement: &str) -> i64 {
        let statement = statement.replace("@.", &format!("\"{}\".", self.schema));
        self.person.query_one(&statement, &[]).await.unwrap().get(0)
    }

    /// Buries a node, as if it had stood still for longer than its lease.
    async fn bury(&self, node: u32) {
        self.does(&format!(
            "UPDATE @.node SET state = 'dead' WHERE id = {node}"
        ))
        .await;
    }
}

/// An event of a stage on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// A run of a task's stage, with its attempt and its fence.
    Runs(&'static str, u32, u32, u64),
    Undone(&'static str, u32),
}

/// Registers an undo; then waits for its gate if it has one.
#[derive(Clone)]
struct Step {
    node: &'static str,
    seen: mpsc::UnboundedSender<Seen>,
    gate: Option<Arc<Notify>>,
    undo_fails: bool,
}

impl Stage for Step {
    type Input = u32;
    type Output = u32;
    type Undo = u32;

    async fn run(&mut self, n: u32, task: &TaskContext<'_, u32>) -> Result<u32, Failure> {
        task.on_cancel(n).await?;
        let seen = Seen::Runs(self.node, n, task.attempt(), task.fence());
        self.seen.send(seen).unwrap();
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        match n {
            13 => Err(Failure::permanent("thirteen")),
            n => Ok(n * 2),
        }
    }

    async fn cancel(&mut self, n: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.seen.send(Seen::Undone(self.node, n)).unwrap();
        match self.undo_fails {
            true => Err(Failure::permanent("it can't be undone")),
            false => Ok(()),
        }
    }
}

type Handle = PipelineHandle<u32, u32>;

async fn start(world: &World, step: Step) -> Handle {
    let pipeline = Pipeline::new("nodes").journal(world.journal().await);
    pipeline.stage(step.workers(4)).start().await.unwrap()
}

/// A node whose stage passes at once, one whose stage waits, and what they do.
fn steps() -> (Step, Step, mpsc::UnboundedReceiver<Seen>) {
    let (seen, sees) = mpsc::unbounded_channel();
    let free = Step {
        node: "free",
        seen: seen.clone(),
        gate: None,
        undo_fails: false,
    };
    let gate = Some(Arc::new(Notify::new()));
    let waiting = Step {
        node: "waiting",
        seen,
        gate,
        undo_fails: false,
    };
    (free, waiting, sees)
}

async fn next(sees: &mut mpsc::UnboundedReceiver<Seen>) -> Seen {
    let seen = tokio::time::timeout(AT_MOST, sees.recv()).await;
    seen.expect("it happens in time").unwrap()
}

async fn until(mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < AT_MOST);
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_counts(world: &World, statement: &str, count: i64) {
    let begin = Instant::now();
    loop {
        let counted = world.counts(statement).await;
        if counted == count {
            return;
        }
        assert!(begin.elapsed() < AT_MOST, "{counted}: {statement}");
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn end(handle: Handle) -> Report {
    handle.shutdown(Shutdown::Drain(AT_MOST)).await.unwrap()
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c3_what_a_node_leaves_goes_on_elsewhere_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let first = start(&world, waiting).await;
    let task = first.submit(7).key("seven").await.unwrap();
    let queued: Vec<_> = futures_of(&first, 100..120).await;
    for _ in 0..4 {
        assert!(matches!(
            next(&mut sees).await,
            Seen::Runs("waiting", _, 1, 1)
        ));
    }
    let second = start(&world, free).await;
    assert_eq!(second.snapshot().counts.accepted, 0);
    // It is told of a task that is another node's.
    let known = second.submit(7).key("seven").await.unwrap();
    assert!(known.is_known());
    assert_eq!(known.id(), task.id());
    let report = first.shutdown(Shutdown::Suspend).await.unwrap();
    assert!(report.suspended.is_some());
    let done = known.outcome().await.unwrap();
    assert_eq!((done.task, done.output), (task.id(), Some(14)));
    until(|| second.snapshot().counts.done == 1 + queued.len() as u64).await;
    let mut fences = Vec::new();
    while let Ok(seen) = sees.try_recv() {
        if let Seen::Runs("free", n, attempt, fence) = seen {
            fences.push((n, attempt, fence));
        }
    }
    assert_eq!(fences.len(), 21);
    assert!(fences.iter().all(|(_, _, fence)| *fence == 2), "{fences:?}");
    end(second).await;
    assert_eq!(world.counts("SELECT count(*) FROM @.task").await, 0);
}

/// Submits these, and returns their tasks' numbers.
async fn futures_of(handle: &Handle, numbers: std::ops::Range<u32>) -> Vec<u64> {
    let mut tasks = Vec::new();
    for n in numbers {
        tasks.push(handle.submit(n).await.unwrap().id().0);
    }
    tasks
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c2_c3_a_buried_node_is_suspended_and_its_task_cleaned_up_elsewhere_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting).await;
    let task = first.submit(7).key("seven").await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    let second = start(&world, free).await;
    world.bury(1).await;
    // Its attempt is undone first, by the node that has it now.
    assert_eq!(next(&mut sees).await, Seen::Undone("free", 7));
    assert_eq!(next(&mut sees).await, Seen::Runs("free", 7, 2, 2));
    // The first one learns of it without a commit of its own.
    let report = first.ended().await.unwrap();
    let why = report.suspended.expect("it is suspended");
    assert!(why.contains("taken"), "{why}");
    gate.notify_one();
    assert!(task.outcome().await.is_err());
    assert!(first.submit(8).await.is_err());
    let done = second.outcome_of("seven").await.unwrap().unwrap();
    assert_eq!(done.output, Some(14), "{done}");
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c4_a_key_is_one_task_on_all_nodes_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting).await;
    let second = start(&world, free).await;
    let task = first.submit(7).key("seven").await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    // Another context under the same key is refused wherever the first one is.
    let conflict = second
        .submit(8)
        .key("seven")
        .await
        .map(|ticket| ticket.id());
    assert!(
        matches!(&conflict, Err(SubmitError::KeyConflict(8, owner)) if *owner == task.id()),
        "{conflict:?}"
    );
    let waits = second.outcome_of("seven");
    let opens = async { gate.notify_one() };
    let (done, ()) = tokio::join!(tokio::time::timeout(AT_MOST, waits), opens);
    assert_eq!(done.unwrap().unwrap().unwrap().output, Some(14));
    // It has ended, there and everywhere.
    let again = second.submit(7).key("seven").await.unwrap();
    assert_eq!((again.is_known(), again.id()), (true, task.id()));
    assert_eq!(again.outcome().await.unwrap().output, Some(14));
    assert!(second.outcome_of("eight").await.unwrap().is_none());
    // Its numbers are those of its node.
    let own = second.submit(1).await.unwrap().id();
    assert_ne!(own.0 >> 36, task.id().0 >> 36);
    end(first).await;
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c4_of_two_that_submit_a_key_at_once_one_is_told_of_the_other_on_postgres() {
    let (world, (free, _, _sees)) = (World::new().await, steps());
    let first = start(&world, free.clone()).await;
    let second = start(&world, free).await;
    for n in 20..60 {
        let key = n.to_string();
        let (one, two) = (first.submit(n).key(&*key), second.submit(n).key(&*key));
        let (one, two) = tokio::join!(one, two);
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.id(), two.id(), "{n}");
        assert_ne!(one.is_known(), two.is_known(), "{n}");
        let (one, two) = (one.outcome().await.unwrap(), two.outcome().await.unwrap());
        assert_eq!((one.output, two.output), (Some(n * 2), Some(n * 2)));
    }
    let (first, second) = (end(first).await, end(second).await);
    assert_eq!(first.counts.done + second.counts.done, 40);
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c2_a_node_without_its_database_stops_at_the_end_of_its_lease_on_postgres() {
    let (world, (_, waiting, mut sees)) = (World::new().await, steps());
    let first = start(&world, waiting).await;
    let task = first.submit(7).await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    // Nobody can renew anything.
    world
        .does("BEGIN; LOCK TABLE @.node IN EXCLUSIVE MODE")
        .await;
    let report = tokio::time::timeout(AT_MOST, first.ended()).await;
    let why = report.unwrap().unwrap().suspended.expect("it is suspended");
    assert!(why.contains("lease"), "{why}");
    assert!(task.outcome().await.is_err());
    world.does("ROLLBACK").await;
}
