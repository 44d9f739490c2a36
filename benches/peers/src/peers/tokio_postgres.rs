//! A queue written by hand on PostgreSQL: a table of tasks with their stages and contexts.
//!
//! Each of a few writers has a connection of its own. It commits everything that gathered during its commit
//! before, in one statement, which is a transaction of its own and one round trip: the new tasks, the changed
//! ones and the ended ones as arrays. Only then it passes the tasks on, to the next stage, or to the collector.
//! A task stays with one writer, so that none waits for a row of another. With 4,096 in flight two writers had
//! 130,000 tasks/s, one 92,000 and four 85,000; with 64 one had 32,000, two 16,000 and four 10,000. Tasks belong to the process that has
//! added them; those of nobody are claimed with SKIP LOCKED when it starts. Pages are left half empty, so that
//! changes need no new index entries, and plans are made once and look rows up by their keys.

use std::sync::Arc;

use anyhow::Context;
use tokio::{runtime::Builder, sync::mpsc};
use tokio_postgres::{Client, NoTls};

use crate::{
    cluster::{Place, finish},
    durable::{Passed, in_flight},
    work::{Item, Measure, Params},
};

const TABLE: &str = "CREATE TABLE task (
    id bigint PRIMARY KEY, owner int, stage int NOT NULL, context bytea NOT NULL
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
)";

const SESSION: &str = "SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET enable_seqscan = off";

const CLAIM: &str = "WITH free AS MATERIALIZED (
        SELECT id FROM task WHERE owner IS NULL ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ) UPDATE task t SET owner = $1 FROM free WHERE t.id = free.id RETURNING t.id, t.stage, t.context";

const COMMIT: &str = "WITH added AS (
        INSERT INTO task SELECT id, $1, 0, context FROM unnest($2::bigint[], $3::bytea[]) n(id, context)
    ), changed AS (
        UPDATE task t SET stage = n.stage, context = n.context
            FROM unnest($4::bigint[], $5::int[], $6::bytea[]) n(id, stage, context) WHERE t.id = n.id
    ) DELETE FROM task t USING unnest($7::bigint[]) n(id) WHERE t.id = n.id";

/// Tasks in a commit.
const MOST: usize = 4_096;

/// This process.
const OWNER: i32 = 1;

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(params, place))
}

/// A task, and how many stages it has been through.
struct Step(Item, usize);

async fn measure(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let writers = if in_flight(params) > 64 { 2 } else { 1 };
    let first = connect(place).await?;
    first.batch_execute(TABLE).await?;
    let passed = Arc::new(Passed::new(params));
    let (ended, mut outcomes) = mpsc::unbounded_channel();
    let (written, stages): (Vec<_>, Vec<_>) = (0..params.stages)
        .map(|_| mpsc::unbounded_channel())
        .unzip();
    let mut steps = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let client = connect(place).await?;
        let (sender, wanted) = mpsc::unbounded_channel();
        steps.push(sender);
        tasks.spawn(write(
            client,
            params.stages,
            wanted,
            written.clone(),
            ended.clone(),
        ));
    }
    drop((written, ended));
    let steps = Arc::new(steps);
    for (stage, mut ready) in stages.into_iter().enumerate() {
        let (steps, passed) = (steps.clone(), passed.clone());
        tasks.spawn(async move {
            while let Some(mut task) = ready.recv().await {
                let task: &mut Item = &mut task;
                passed.pass(stage, task.id, &mut task.age);
                let writer = &steps[task.id as usize % steps.len()];
                writer.send(Step(task.clone(), stage + 1)).ok();
            }
            Ok(())
        });
    }
    let free = first.query(CLAIM, &[&OWNER, &1_000i64]).await?;
    anyhow::ensure!(
        free.is_empty(),
        "somebody else's tasks are in a new database"
    );
    let clock = place.begin();
    let (mut next, mut done) = (0, 0);
    while done < params.tasks {
        while next < params.tasks && next - done < in_flight(params) as u64 {
            let writer = &steps[next as usize % steps.len()];
            writer
                .send(Step(Item::new(next), 0))
                .ok()
                .context("a writer is gone")?;
            next += 1;
        }
        tokio::select! {
            more = outcomes.recv() => done += more.context("the writers are gone")?,
            Some(gone) = tasks.join_next() => gone??,
        }
    }
    Ok(finish(&passed, done, clock.end()))
}

async fn connect(place: &Place) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&place.address(), NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// Runs until the run is over.
async fn write(
    client: Client,
    stages: usize,
    mut wanted: mpsc::UnboundedReceiver<Step>,
    written: Vec<mpsc::UnboundedSender<Item>>,
    ended: mpsc::UnboundedSender<u64>,
) -> anyhow::Result<()> {
    let commit = client.prepare(COMMIT).await?;
    let mut gathered = Vec::new();
    while wanted.recv_many(&mut gathered, MOST).await > 0 {
        let (mut added, mut contexts) = (Vec::new(), Vec::new());
        let (mut changed, mut numbers, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let mut gone = Vec::new();
        for Step(task, stage) in &gathered {
            let id = task.id as i64;
            match *stage {
                0 => {
                    added.push(id);
                    contexts.push(task.bytes()?);
                }
                all if all == stages => gone.push(id),
                some => {
                    changed.push(id);
                    numbers.push(some as i32);
                    results.push(task.bytes()?);
                }
            }
        }
        let deleted = client
            .execute(
                &commit,
                &[
                    &OWNER, &added, &contexts, &changed, &numbers, &results, &gone,
                ],
            )
            .await?;
        anyhow::ensure!(
            deleted == gone.len() as u64,
            "{deleted} of {} were there",
            gone.len()
        );
        for Step(task, stage) in gathered.drain(..) {
            if let Some(next) = written.get(stage) {
                next.send(task).ok();
            }
        }
        if deleted > 0 {
            ended.send(deleted).ok();
        }
    }
    Ok(())
}
