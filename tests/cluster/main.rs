//! The world test of a cluster: several processes run one pipeline on one database. Some of them are killed,
//! stopped and cut off, and so is the database, and what the outside world has seen must be what C1 to C4 and C6 say.
//!
//!   .ci/postgres cargo test -p batrun-cluster --test cluster postgres -- --ignored --nocapture
//!   BATRUN_FAULTS=100 BATRUN_SEED=7 ..         more faults; the same ones, as far as time allows
//!   BATRUN_OUTAGE=30 ..                        the database is away for so many seconds where it is for long
//!   .. --test cluster c2_many_zombies ..       BATRUN_ZOMBIES=200 nodes that are stopped and wake
//!
//! The program starts itself as the nodes of [`child`], which write down what they do in a [`log`] each. Each has
//! a [`proxy`] before the database, which is that of [`server`]. After the last of the [`faults`] one node brings
//! everything to its end, and [`check`] goes through the logs and the database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod check;
mod child;
mod database;
mod fault;
mod faults;
mod log;
mod node;
mod plan;
#[allow(dead_code, reason = "each test uses a part of it")]
mod proxy;
#[allow(dead_code, reason = "each test uses a part of it")]
mod server;
mod wire;
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
fn c1_c2_c3_c4_c6_faults_in_a_cluster_on_postgres() {
    let mut left = variable("BATRUN_FAULTS").unwrap_or(WORLD);
    let mut seed = seed();
    // Many faults befall one world after the other: what is checked at a world's end is known soon then, and none
    // gets so large that its nodes take long to start.
    while left > 0 {
        let faults = if left < 2 * WORLD { left } else { WORLD };
        in_a_world(seed, &format!("BATRUN_FAULTS={faults}"), |world| {
            world.run(faults)
        });
        left -= faults;
        seed += 1;
    }
}

/// The number of faults that a world has.
const WORLD: u64 = 60;

/// By hand: they are many, and those above are some of them.
#[test]
#[ignore = "needs a server, and takes minutes: see .ci/run"]
fn c2_many_zombies() {
    let zombies = variable("BATRUN_ZOMBIES").unwrap_or(200);
    in_a_world(seed(), &format!("BATRUN_ZOMBIES={zombies}"), |world| {
        let mut left = zombies as usize;
        while left > 0 {
            let together = left.min(8);
            world.wake(together)?;
            left -= together;
        }
        Ok(())
    });
}

fn seed() -> u64 {
    variable("BATRUN_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_millis() as u64
    })
}

/// Lets nodes work while this happens, and looks at what came of it all.
fn in_a_world(seed: u64, what: &str, happens: impl FnOnce(&mut World) -> Result<(), String>) {
    println!("BATRUN_SEED={seed} {what}");
    // Beside what is built, so on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let began = Instant::now();
    let mut world = World::new(folder.path().to_owned(), seed);
    let ended = world
        .begin()
        .and_then(|()| happens(&mut world))
        .and_then(|()| world.end());
    let logs: Vec<(u32, Vec<Entry>)> = (1..=world.processes())
        .map(|process| {
            (
                process,
                log::entries(&child::log_of(folder.path(), process)),
            )
        })
        .collect();
    let found = world::on_a_system(database::found(&world.address()));
    let mut complaints = check::check(&logs, &found, |number| plan::plan(seed, number));
    match ended {
        Err(why) => complaints.insert(0, why),
        Ok(()) => complaints.extend(without_effect(&world, &found)),
    }
    println!("{}", world.counts);
    println!("{}; {:?}", summary(&logs, &found), began.elapsed());
    for (task, stuck) in found.left.iter().filter(|(_, stuck)| *stuck).take(5) {
        println!("task {task} is left, stuck: {stuck}");
    }
    if !complaints.is_empty() {
        let audits: String = found
            .audits
            .iter()
            .map(|audit| format!("{audit:?}\n"))
            .collect();
        std::fs::write(folder.path().join("audits"), audits).ok();
        drop(world);
        let (kept, count) = (folder.keep(), complaints.len());
        complaints.truncate(20);
        let (kept, complaints) = (kept.display(), complaints.join("\n"));
        panic!("{count} complaints with BATRUN_SEED={seed}; all is in {kept}\n{complaints}");
    }
}

/// Faults that have shown nothing, as nothing came of them.
fn without_effect(world: &World, found: &database::Found) -> Vec<String> {
    let mut complaints: Vec<String> = Vec::new();
    for kind in world.counts.without_effect() {
        complaints.push(format!("no fault of the kind {kind:?} did anything"));
    }
    for state in ["dead", "left"] {
        let claimed = found.audits.iter().any(|audit| {
            matches!(&audit.what, database::What::Claim { from_state, .. } if from_state.as_deref() == Some(state))
        });
        if !claimed && world.counts.took_over_from(state) {
            complaints.push(format!("no task of a node that was {state} was taken over"));
        }
    }
    complaints
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
        "{} submits answered, {} of them with another one's task, {} attempts, {} effects, {} undone, {} refused, {} tasks \
         taken over, {} suspended nodes, {} rows in the audit, {} stuck; {ends:?}",
        count(|line| matches!(line, Line::Submitted { .. })),
        count(|line| matches!(line, Line::Submitted { known: true, .. })),
        count(|line| matches!(line, Line::Start(_))),
        count(|line| matches!(line, Line::Did(_))),
        count(|line| matches!(line, Line::Undone(_))),
        count(|line| matches!(line, Line::Refused(_))),
        claims.count(),
        count(|line| matches!(line, Line::Suspended(_))),
        found.audits.len(),
        found.left.len(),
    )
}
