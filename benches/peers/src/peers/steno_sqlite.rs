//! steno with its log on SQLite, written by hand: steno itself only has a store in memory.
//!
//! Each task is a saga of three actions. A thread writes the sagas' records and commits everything
//! that has gathered in one transaction, as `rusqlite` does; a saga goes on once its record is on
//! disk. steno records the start and the end of each action and of the saga itself, twelve records
//! a task, and waits for each of them.

use std::{fmt, sync::Arc, thread, time::Instant};

use anyhow::anyhow;
use async_trait::async_trait;
use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::{StreamExt, stream};
use newtype_uuid::GenericUuid;
use rusqlite::{Connection, params};
use steno::{
    ActionContext, ActionError, ActionFunc, ActionRegistry, Dag, DagBuilder, Node, SagaCachedState,
    SagaCreateParams, SagaDag, SagaId, SagaName, SagaNodeEvent, SagaType, SecClient, SecStore,
};
use tokio::sync::oneshot;

use crate::{
    durable::{Folder, Parcel, Passed, in_flight},
    work::{Measure, Params},
};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(on_tokio(params))
}

fn on_tokio(params: &Params) -> anyhow::Result<Measure> {
    let folder = Folder::new()?;
    let table = open(&folder)?;
    let (records, wanted) = unbounded();
    let writer = thread::spawn(move || write(table, wanted));
    // One thread, as in memory: each saga talks to the one coordinator at every step.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let measure = runtime.block_on(measure(params, Store(records)));
    drop(runtime);
    writer
        .join()
        .map_err(|_| anyhow!("the writer panicked"))??;
    measure
}

async fn measure(params: &Params, store: Store) -> anyhow::Result<Measure> {
    let passed = Arc::new(Passed::new(params));
    let sagas = Sagas::new(params, store, Arc::clone(&passed))?;
    let began = Instant::now();
    let mut ended = stream::iter(0..params.tasks)
        .map(|id| sagas.run(id))
        .buffer_unordered(in_flight(params));
    let mut done = 0;
    while let Some(outcome) = ended.next().await {
        outcome?;
        done += 1;
    }
    drop(ended);
    let seconds = began.elapsed().as_secs_f64();
    sagas.coordinator.shutdown().await;
    Ok(passed.finish(done, seconds))
}

enum Record {
    Create(SagaCreateParams),
    Event(SagaNodeEvent),
    Update(SagaId, SagaCachedState),
}

/// Hands records to the writer, each with the sender to tell once it is on disk.
struct Store(Sender<(Record, oneshot::Sender<()>)>);

impl Store {
    async fn record(&self, record: Record) -> anyhow::Result<()> {
        let (written, waiting) = oneshot::channel();
        self.0
            .send((record, written))
            .map_err(|_| anyhow!("the writer has left"))?;
        Ok(waiting.await?)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[async_trait]
impl SecStore for Store {
    async fn saga_create(&self, params: SagaCreateParams) -> Result<(), anyhow::Error> {
        self.record(Record::Create(params)).await
    }

    // A record that can't be written leaves the saga waiting; the writer returns the error.
    async fn record_event(&self, event: SagaNodeEvent) {
        if self.record(Record::Event(event)).await.is_err() {
            std::future::pending().await
        }
    }

    async fn saga_update(&self, id: SagaId, update: SagaCachedState) {
        if self.record(Record::Update(id, update)).await.is_err() {
            std::future::pending().await
        }
    }
}

fn open(folder: &Folder) -> anyhow::Result<Connection> {
    let table = Connection::open(folder.file("sagas.db"))?;
    table.pragma_update(None, "journal_mode", "wal")?;
    table.pragma_update(None, "synchronous", "FULL")?;
    table.execute_batch(
        "CREATE TABLE saga (
             id BLOB PRIMARY KEY, name TEXT NOT NULL, dag TEXT NOT NULL, state TEXT NOT NULL
         ) WITHOUT ROWID;
         CREATE TABLE event (
             number INTEGER PRIMARY KEY, saga BLOB NOT NULL, node INTEGER NOT NULL, event TEXT NOT NULL
         );",
    )?;
    Ok(table)
}

/// Runs until the coordinator has gone.
fn write(table: Connection, wanted: Receiver<(Record, oneshot::Sender<()>)>) -> anyhow::Result<()> {
    let mut begin = table.prepare("BEGIN IMMEDIATE")?;
    let mut create = table.prepare("INSERT INTO saga VALUES (?1, ?2, ?3, ?4)")?;
    let mut event = table.prepare("INSERT INTO event VALUES (NULL, ?1, ?2, ?3)")?;
    let mut update = table.prepare("UPDATE saga SET state = ?2 WHERE id = ?1")?;
    let mut commit = table.prepare("COMMIT")?;
    let mut gathered = Vec::new();
    while let Ok(first) = wanted.recv() {
        gathered.push(first);
        gathered.extend(wanted.try_iter());
        begin.execute([])?;
        for (record, _) in &gathered {
            match record {
                Record::Create(saga) => create.execute(params![
                    saga.id.as_untyped_uuid().as_bytes(),
                    saga.name.to_string(),
                    serde_json::to_string(&saga.dag)?,
                    saga.state.to_string(),
                ])?,
                Record::Event(of) => event.execute(params![
                    of.saga_id.as_untyped_uuid().as_bytes(),
                    u32::from(of.node_id),
                    serde_json::to_string(&of.event_type)?,
                ])?,
                Record::Update(saga, state) => update.execute(params![
                    saga.as_untyped_uuid().as_bytes(),
                    state.to_string()
                ])?,
            };
        }
        commit.execute([])?;
        for (_, written) in gathered.drain(..) {
            written.send(()).ok();
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Work;

impl SagaType for Work {
    type ExecContextType = Shared;
}

struct Shared(Arc<Passed>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

struct Sagas {
    coordinator: SecClient,
    registry: Arc<ActionRegistry<Work>>,
    dag: Dag,
    shared: Arc<Shared>,
}

impl Sagas {
    fn new(params: &Params, store: Store, passed: Arc<Passed>) -> anyhow::Result<Self> {
        let mut registry = ActionRegistry::new();
        let mut dag = DagBuilder::new(SagaName::new("stages"));
        for stage in 0..params.stages {
            let action = ActionFunc::new_action(
                output(stage),
                move |context| act(stage, context),
                async |_: ActionContext<Work>| Ok(()),
            );
            dag.append(Node::action(output(stage), output(stage), &*action));
            registry.register(action);
        }
        let log = slog::Logger::root(slog::Discard, slog::o!());
        Ok(Sagas {
            coordinator: steno::sec(log, Arc::new(store)),
            registry: Arc::new(registry),
            dag: dag.build()?,
            shared: Arc::new(Shared(passed)),
        })
    }

    async fn run(&self, id: u64) -> anyhow::Result<()> {
        let dag = SagaDag::new(self.dag.clone(), serde_json::to_value(Parcel::new(id))?);
        let saga = SagaId::new_v4();
        let (shared, registry) = (Arc::clone(&self.shared), Arc::clone(&self.registry));
        let ended = self
            .coordinator
            .saga_create(saga, shared, Arc::new(dag), registry)
            .await?;
        self.coordinator.saga_start(saga).await?;
        match ended.await.kind {
            Ok(_) => Ok(()),
            Err(saga) => Err(anyhow!("a saga failed: {saga:?}")),
        }
    }
}

/// An action and its output have the same name.
fn output(stage: usize) -> String {
    format!("stage-{stage}")
}

async fn act(stage: usize, context: ActionContext<Work>) -> Result<Parcel, ActionError> {
    let mut task: Parcel = match stage {
        0 => context.saga_params()?,
        _ => context.lookup(&output(stage - 1))?,
    };
    context.user_data().0.stage(stage, &mut task);
    Ok(task)
}
