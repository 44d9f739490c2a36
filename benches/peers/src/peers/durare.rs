//! durare, durable execution in the form of DBOS: a workflow of three steps, each checkpointed in the database.
//!
//! Written as its README shows it: `#[durare::workflow]`, `#[durare::step]`, and a workflow is started in this
//! process and awaited. It has no way to commit the checkpoints of several workflows at once; so its pool has a
//! connection for each commit under way, up to 32 instead of its own 8, that PostgreSQL may group them. The
//! number of workflows under way is the number of tasks in flight. `durare-saga` is its own example `saga`: a
//! flight, a hotel and a car are booked, and in one of a hundred trips no car is left, so that the hotel and the
//! flight are cancelled, each in a step of its own, too. The saga undoes in the order that its author writes.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context, ensure};
use durare::{DurableContext, DurableEngine, Error, PostgresProvider, Result, WorkflowOptions};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Builder;

use crate::{
    cluster::{Place, connections, finish},
    durable::{Passed, in_flight},
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

async fn measure(params: &Params, place: &Place, saga: bool) -> anyhow::Result<Measure> {
    let passed = Arc::new(Passed::new(params));
    PASSED
        .set(passed.clone())
        .ok()
        .context("it runs once a process")?;
    let pool = PgPoolOptions::new()
        .max_connections(connections(params) + 1)
        .connect(&place.address())
        .await?;
    let provider = PostgresProvider::from_pool(pool);
    let engine = DurableEngine::builder(Arc::new(provider)).build().await?;
    engine.launch().await?;
    let clock = place.begin();
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
    let took = clock.end();
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
    Ok(finish(&passed, ends.len() as u64, took))
}
