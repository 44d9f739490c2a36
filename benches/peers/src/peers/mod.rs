//! The systems, each in a file of its own.

mod actix;
mod apalis;
mod apalis_postgres;
mod async_channel;
mod batrun;
mod batrun_journal;
mod batrun_postgres;
mod buffer_unordered;
mod crossbeam;
mod durare;
mod flume;
mod graphile_worker;
mod inline;
mod kameo;
mod ractor;
mod raw_file;
mod rusqlite;
mod steno;
mod steno_sqlite;
mod tokio_mpsc;
mod tokio_postgres;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::{
    cluster::Place,
    work::{Measure, Params, Workload},
};

/// In the order of the table. A name followed by a variant in parentheses runs in `alone` only.
pub const SYSTEMS: [&str; 13] = [
    "batrun",
    "batrun (1 arbiter)",
    "inline",
    "crossbeam",
    "flume",
    "async-channel",
    "tokio-mpsc",
    "buffer-unordered",
    "actix",
    "kameo",
    "ractor",
    "apalis",
    "steno",
];

/// The systems that keep their tasks on disk.
pub const DURABLE: [&str; 5] = ["batrun", "raw-file", "rusqlite", "steno-sqlite", "durare"];

/// Those that keep them in a PostgreSQL database.
pub const CLUSTER: [&str; 7] = [
    "batrun",
    "batrun-two",
    "tokio-postgres",
    "apalis-postgres",
    "durare",
    "durare-saga",
    "graphile-worker",
];

/// Those that may have this workload.
pub fn systems(workload: Workload) -> &'static [&'static str] {
    match workload {
        workload if workload.is_durable() => &DURABLE,
        workload if workload.is_cluster() => &CLUSTER,
        _ => &SYSTEMS,
    }
}

/// Runs a system in a database. `None` if it has no such workload.
pub fn run_at(system: &str, params: &Params, place: &Place) -> Option<anyhow::Result<Measure>> {
    let is_long = params.workload == Workload::ClusterMillion;
    Some(match system {
        "batrun" => batrun_postgres::run(params, place),
        "tokio-postgres" => tokio_postgres::run(params, place),
        // The others would take many minutes.
        _ if is_long => return None,
        "batrun-two" if params.workload == Workload::Cluster4096 => {
            batrun_postgres::run_two(params, place)
        }
        "apalis-postgres" => apalis_postgres::run(params, place),
        "durare" => durare::run(params, place),
        "durare-saga" => durare::run_saga(params, place),
        "graphile-worker" => graphile_worker::run(params, place),
        _ => return None,
    })
}

/// `None` if this system has no such workload.
pub fn run(system: &str, params: &Params) -> Option<anyhow::Result<Measure>> {
    if params.workload.is_durable() {
        return match system {
            "batrun" => batrun_journal::run(params),
            "raw-file" => raw_file::run(params),
            "rusqlite" => rusqlite::run(params),
            "steno-sqlite" => steno_sqlite::run(params),
            "durare" => Some(durare::run_on_disk(params)),
            _ => None,
        };
    }
    match system {
        "batrun" => batrun::run(params),
        "batrun (1 arbiter)" => batrun::run_on_one(params),
        "inline" => inline::run(params),
        "crossbeam" => crossbeam::run(params),
        "flume" => flume::run(params),
        "async-channel" => async_channel::run(params),
        "tokio-mpsc" => tokio_mpsc::run(params),
        "buffer-unordered" => buffer_unordered::run(params),
        "actix" => actix::run(params),
        "kameo" => kameo::run(params),
        "ractor" => ractor::run(params),
        "apalis" => apalis::run(params),
        "steno" => steno::run(params),
        _ => None,
    }
}

/// The runtime on which hand-written tokio code is fastest: with a thread for each core, as
/// `#[tokio::main]` makes it, unless stages do next to nothing. Then a second thread costs more
/// than it gives: flume workers took 130 ns of processor time a hop on two threads and 107 on one,
/// tokio's mpsc 240 and 130.
fn runtime(params: &Params) -> anyhow::Result<Runtime> {
    let mut builder = match params.workload {
        Workload::Hop | Workload::Fail | Workload::Alone => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_time().build().context("starting tokio")
}

/// Runs it as a task of its own, so that the producer is on a worker thread like the stages.
fn spawned(
    builder: &mut Builder,
    measure: impl Future<Output = anyhow::Result<Measure>> + Send + 'static,
) -> anyhow::Result<Measure> {
    let runtime = builder.enable_time().build().context("starting tokio")?;
    runtime.block_on(async { tokio::spawn(measure).await? })
}

/// The share of a workload's tasks that a slow system is given, so that a round of it takes seconds
/// and not minutes. The figures are per task all the same.
pub fn share(system: &str, workload: Workload) -> f64 {
    match (system, workload) {
        // It keeps every saga it ran in memory, 17 KB each.
        ("steno", Workload::Hop | Workload::Fail) => 0.02,
        ("steno", Workload::Io | Workload::Alone) => 0.1,
        ("steno-sqlite", Workload::Durable1 | Workload::Durable64) => 0.1,
        ("steno-sqlite", Workload::Durable4096) => 0.2,
        ("durare", Workload::Durable64 | Workload::Durable4096) => 0.02,
        ("durare" | "durare-saga", Workload::Cluster64 | Workload::Cluster4096) => 0.05,
        ("apalis-postgres" | "graphile-worker", Workload::Cluster64 | Workload::Cluster4096) => {
            0.25
        }
        // cpu and late are in seconds for all the tasks, so nobody has fewer there.
        _ => 1.0,
    }
}
