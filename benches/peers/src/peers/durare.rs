//! durare, durable execution in the form of DBOS: a workflow of three steps, each checkpointed in the database: one
//! on a server, or a file of SQLite's.
//!
//! Written as its README shows it: `#[durare::workflow]`, `#[durare::step]`, and a workflow is started in this
//! process and awaited. It has no way to commit the checkpoints of several workflows at once; so its pool has a
//! connection for each commit under way, up to 32 instead of its own 8, that PostgreSQL may group them. The
//! number of workflows under way is the number of tasks in flight. `durare-saga` is its own example `saga`: a
//! flight, a hotel and a car are booked, and in one of a hundred trips no car is left, so that the hotel and the
//! flight are cancelled, each in a step of its own, too. The saga undoes in the order that its author writes.
//!
//! In a file its own settings, `synchronous = NORMAL`, sync nothing before the next step; so its pool is made as its
//! `connect` makes it, with `FULL`.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use durare::{
    DurableContext, DurableEngine, Error, PostgresProvider, Result, SqliteProvider, StateProvider,
    WorkflowOptions,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sqlx::{
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::runtime::Builder;

use crate::{
    cluster::{Place, connections, finish},
    durable::{Folder, Passed, in_flight},
    work::{Item, Measure, Params, fails},
};

/// Steps see what isn't their input through a static, as in its example `dependencies`.
static PASSED: OnceLock<Arc<Passed>> = OnceLock::new();
static CANCELLED: AtomicU64 = AtomicU64::new(0);

#[durare::step]
async fn first(ctx: &DurableContext, item: Item) -> Result<Item> {
    pass(0, item)
}

#[durare::step]
async fn second(ctx: &DurableContext, item: Item) -> Result<Item> {
    pass(1, item)
}

#[durare::step]
async fn third(ctx: &DurableContext, item: Item) -> Result<Item> {
    pass(2, item)
}

fn pass(stage: usize, mut item: Item) -> Result<Item> {
    let passed = PASSED.get().ok_or_else(|| Error::app("not set up"))?;
    passed.pass(stage, item.id, &mut item.age);
    Ok(item)
}

#[durare::workflow]
async fn hand_on(ctx: DurableContext, item: Item) -> Result<Item> {
    let item = first(&ctx, item).await?;
    let item = second(&ctx, item).await?;
    third(&ctx, item).await
}

#[durare::step]
async fn book_car(ctx: &DurableContext, trip: Item) -> Result<Item> {
    let id = trip.id;
    let car = pass(2, trip)?;
    match fails(id) {
        true => Err(Error::app("no car is left")),
        false => Ok(car),
    }
}

#[durare::step]
async fn cancel(ctx: &DurableContext, booked: Item) -> Result<()> {
    CANCELLED.fetch_add(1, Relaxed);
    drop(booked);
    Ok(())
}

#[derive(Serialize, Deserialize)]
enum Trip {
    Booked(Item),
    Cancelled,
}

#[durare::workflow]
async fn book_trip(ctx: DurableContext, trip: Item) -> Result<Trip> {
    let flight = first(&ctx, trip).await?;
    let hotel = second(&ctx, flight.clone()).await?;
    match book_car(&ctx, hotel.clone()).await {
        Ok(car) => Ok(Trip::Booked(car)),
        Err(_) => {
            cancel(&ctx, hotel).await?;
            cancel(&ctx, flight).await?;
            Ok(Trip::Cancelled)
        }
    }
}

pub fn run(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(params, place, false))
}

pub fn run_saga(params: &Params, place: &Place) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(params, place, true))
}

/// In a file.
pub fn run_on_disk(params: &Params) -> anyhow::Result<Measure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = Folder::new()?;
        let options = SqliteConnectOptions::new()
            .filename(folder.file("durare.db"))
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(60));
        let pool = SqlitePoolOptions::new()
            .max_connections(5)
            .connect_with(options)
            .await?;
        let provider = SqliteProvider::from_pool(pool);
        let mut began = None;
        let begin = || began = Some(Instant::now());
        let (passed, done) = run_all(params, Arc::new(provider), false, begin).await?;
        let seconds = began.context("it was not begun")?.elapsed().as_secs_f64();
        Ok(passed.finish(done, seconds))
    })
}

async fn measure(params: &Params, place: &Place, saga: bool) -> anyhow::Result<Measure> {
    let pool = PgPoolOptions::new()
        .max_connections(connections(params) + 1)
        .connect(&place.address())
        .await?;
    let provider = PostgresProvider::from_pool(pool);
    let mut clock = None;
    let begin = || clock = Some(place.begin());
    let (passed, done) = run_all(params, Arc::new(provider), saga, begin).await?;
    let took = clock.context("it was not begun")?.end();
    Ok(finish(&passed, done, took))
}

/// Runs the tasks, after a word that it begins. Returns what they have passed, and their number.
async fn run_all(
    params: &Params,
    provider: Arc<dyn StateProvider>,
    saga: bool,
    begin: impl FnOnce(),
) -> anyhow::Result<(Arc<Passed>, u64)> {
    let passed = Arc::new(Passed::new(params));
    PASSED
        .set(passed.clone())
        .ok()
        .context("it runs once a process")?;
    let engine = DurableEngine::builder(provider).build().await?;
    engine.launch().await?;
    begin();
    let engine = &engine;
    let ends: Vec<bool> = stream::iter(0..params.tasks)
        .map(|id| async move {
            let options = WorkflowOptions::with_id(id.to_string());
            if !saga {
                let handle = engine.start_with(HandOn, Item::new(id), options).await?;
                return handle.await.map(|_| true);
            }
            let handle = engine.start_with(BookTrip, Item::new(id), options).await?;
            Ok::<_, Error>(matches!(handle.await?, Trip::Booked(_)))
        })
        .buffer_unordered(in_flight(params))
        .try_collect()
        .await?;
    let cancelled = ends.iter().filter(|booked| !**booked).count() as u64;
    let wanted = if saga { params.tasks / 100 } else { 0 };
    ensure!(
        cancelled == wanted,
        "{cancelled} trips were cancelled, not {wanted}"
    );
    ensure!(
        CANCELLED.load(Relaxed) == 2 * wanted,
        "not every booking was cancelled once"
    );
    Ok((passed, ends.len() as u64))
}
