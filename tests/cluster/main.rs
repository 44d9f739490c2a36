//! The world test of a cluster: several processes run one pipeline on one database, some of them are killed,
//! stopped and cut off, and what the outside world has seen must be what C1 to C4 say.
//!
//!   .ci/postgres cargo test -p batrun-cluster postgres -- --ignored
//!   BATRUN_FAULTS=100 BATRUN_SEED=7 ..                     more faults; the same ones, as far as time allows
//!
//! The program starts itself as the nodes of [`child`], which write down what they do in a [`log`] each. After
//! the last fault one node brings everything to its end, and [`check`] goes through the logs and the database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod check;
mod child;
mod database;
mod log;
mod node;
mod plan;
mod world;

use std::{
    env,
    time::{Instant, SystemTime},
};

use log::{Entry, Line};
use world::World;

/// The entry of a node that the test below starts; does nothing without orders.
#[test]
fn child() {
    child::run();
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_c2_c3_c4_faults_in_a_cluster_on_postgres() {
    let server = env::var("BATRUN_POSTGRES_OWN").expect("run it by .ci/postgres");
    let restart = env::var("BATRUN_POSTGRES_RESTART").expect("run it by .ci/postgres");
    let faults = variable("BATRUN_FAULTS").unwrap_or(20);
    let seed = variable("BATRUN_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_millis() as u64
    });
    println!("BATRUN_SEED={seed} BATRUN_FAULTS={faults}");
    // Beside what is built, so on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let began = Instant::now();
    let mut world = World::new(folder.path().to_owned(), seed, server.clone(), restart);
    let ended = world.run(faults);
    let logs: Vec<(u32, Vec<Entry>)> = (1..=world.processes())
        .map(|process| {
            (
                process,
                log::entries(&child::log_of(folder.path(), process)),
            )
        })
        .collect();
    let found = actix_rt::System::new().block_on(database::found(&server));
    let mut complaints = check::check(&logs, &found, |number| plan::plan(seed, number));
    if let Err(why) = ended {
        complaints.insert(0, why);
    }
    println!("{}", world.counts);
    println!("{}; {:?}", summary(&logs, &found), began.elapsed());
    for (task, stuck) in found.left.iter().filter(|(_, stuck)| *stuck).take(5) {
        println!("task {task} is left, stuck: {stuck}");
    }
    if !complaints.is_empty() {
        drop(world);
        let (kept, count) = (folder.keep(), complaints.len());
        complaints.truncate(20);
        let (kept, complaints) = (kept.display(), complaints.join("\n"));
        panic!("{count} complaints with BATRUN_SEED={seed}; all is in {kept}\n{complaints}");
    }
}

/// Counts of what happened, to show that it did.
fn summary(logs: &[(u32, Vec<Entry>)], found: &database::Found) -> String {
    let count = |what: fn(&Line) -> bool| {
        let lines = logs.iter().flat_map(|(_, log)| log);
        lines.filter(|entry| what(&entry.line)).count()
    };
    let claims = found.audits.iter();
    let claims = claims.filter(|audit| matches!(audit.what, database::What::Claim { .. }));
    let mut ends = std::collections::BTreeMap::<&str, usize>::new();
    for key in &found.keys {
        *ends
            .entry(key.end.as_deref().unwrap_or("none"))
            .or_default() += 1;
    }
    format!(
        "{} submits answered, {} of them with another one's task, {} attempts, {} effects, {} undone, {} tasks \
         taken over, {} suspended nodes, {} rows in the audit, {} stuck; {ends:?}",
        count(|line| matches!(line, Line::Submitted { .. })),
        count(|line| matches!(line, Line::Submitted { known: true, .. })),
        count(|line| matches!(line, Line::Start(_))),
        count(|line| matches!(line, Line::Did(_))),
        count(|line| matches!(line, Line::Undone(_))),
        claims.count(),
        count(|line| matches!(line, Line::Suspended)),
        found.audits.len(),
        found.left.len(),
    )
}
