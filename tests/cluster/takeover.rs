//! The time from a node's SIGKILL until its tasks are another one's, by hand:
//!
//!   BATRUN_KILLS=50 .ci/postgres cargo test --release -p batrun-cluster --test takeover -- --ignored --nocapture
//!
//! The program starts itself as nodes, whose tasks never end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

use std::{
    env, future,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use batrun::{journal::Journal, prelude::*};
use tokio_postgres::{Client, NoTls};

const LEASE: Duration = Duration::from_secs(5);
const SCHEMA: &str = "takeover test";
/// The number of tasks that a node submits; without it this is no node.
const TASKS: &str = "BATRUN_TAKEOVER_TASKS";
const UP: &str = "node ";

fn server() -> String {
    env::var("BATRUN_POSTGRES").expect("run it by .ci/postgres")
}

/// Log lines of nodes are shown.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// The entry of a node; does nothing without its orders.
#[test]
fn child() {
    let Ok(tasks) = env::var(TASKS) else { return };
    let tasks: u32 = tasks.parse().unwrap();
    log::set_logger(&Stderr).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    actix_rt::System::new().block_on(async {
        let options = Journal::options().lease(LEASE).schema(SCHEMA);
        let journal = options.postgres(server()).await.unwrap();
        let hangs = stage_fn("hangs", async |n: u32, _: &TaskContext<()>| {
            future::pending::<()>().await;
            Ok(n)
        });
        let pipeline = Pipeline::new("takeover").journal(journal);
        let pipeline = pipeline
            .max_in_flight(100_000)
            .stage(hangs.workers(4).capacity(100_000));
        let handle = pipeline.start().await.unwrap();
        let submits = &handle;
        let all =
            (0..tasks).map(|n| async move { submits.submit(n).await.map(|ticket| ticket.id()) });
        let ids = futures::future::join_all(all).await;
        let series = ids.last().map_or(0, |id| id.as_ref().unwrap().0 >> 36);
        println!("\n{UP}{series}");
        handle.ended().await.unwrap();
    });
}

/// A node with this many tasks, and its number.
fn start(tasks: u32) -> (Child, i32) {
    let mut child = std::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(TASKS, tasks.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        if let Some(number) = line.strip_prefix(UP) {
            let number = number.parse().unwrap();
            // After a minute the test's own words come here, and a closed pipe would end it.
            std::thread::spawn(move || lines.for_each(drop));
            return (child, number);
        }
    }
    let status = child.wait().unwrap();
    panic!("the node has not started: {status}");
}

async fn left(client: &Client, node: i32) -> i64 {
    let left = format!("SELECT count(*) FROM \"{SCHEMA}\".task WHERE owner = $1");
    client.query_one(&left, &[&node]).await.unwrap().get(0)
}

/// Kills a node. Returns the times until the first of its tasks were another one's, and all.
async fn kill(client: &Client, (mut child, node): (Child, i32)) -> (Duration, Duration) {
    let all = left(client, node).await;
    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();
    let mut first = None;
    loop {
        let left = left(client, node).await;
        let now = killed.elapsed();
        if left < all {
            first.get_or_insert(now);
        }
        if let (Some(first), 0) = (first, left) {
            return (first, now);
        }
        assert!(now < 6 * LEASE, "{left} of {all} tasks are left");
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
#[ignore = "needs a server, and takes minutes: see .ci/run"]
fn takeover_takes_a_lease_and_a_look() {
    let kills: u32 = env::var("BATRUN_KILLS").map_or(50, |kills| kills.parse().unwrap());
    actix_rt::System::new().block_on(async {
        let (client, connection) = tokio_postgres::connect(&server(), NoTls).await.unwrap();
        actix_rt::spawn(connection);
        let clear = format!("DROP SCHEMA IF EXISTS \"{SCHEMA}\" CASCADE");
        client.batch_execute(&clear).await.unwrap();
        // It has tasks waiting itself, so that none comes to it while the others live.
        let (mut survivor, _) = start(20);
        let mut times = Vec::new();
        let mut next = start(100);
        for n in 0..kills {
            // At any moment between two renewals.
            actix_rt::time::sleep(Duration::from_millis(u64::from(n * 377 % 1_000))).await;
            let killed = kill(&client, next).await;
            times.push(killed.1);
            next = start(100);
        }
        times.sort_unstable();
        let p50 = times.get(times.len() / 2);
        println!(
            "{kills} kills with a lease of {LEASE:?}: p50 {p50:?}, max {:?}",
            times.last()
        );
        kill(&client, next).await;
        let (first, all) = kill(&client, start(10_000)).await;
        println!(
            "10,000 tasks: the first after {first:?}, all {:?} later",
            all - first
        );
        survivor.kill().unwrap();
        survivor.wait().unwrap();
        client.batch_execute(&clear).await.unwrap();
    });
}
