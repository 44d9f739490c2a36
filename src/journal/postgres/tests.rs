//! The journal on a server: a node that is buried, commits whose answer is lost, a database that is away.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{env, net::SocketAddr, process::Command, thread, time::Duration};

use proptest::prelude::*;

use super::{
    proxy::{Proxy, Way},
    store::Postgres,
    support::Address,
};
use crate::{
    journal::{
        store::{RowOp, Store, StoreError, Writes},
        tests::support::{put_keyed_outcome, put_outcomes, put_task, put_undo},
    },
    task::State,
};

/// A long lease, so that nothing but the test is sent.
const LONG: Duration = Duration::from_secs(300);

/// The address of a server through a proxy.
fn through(proxy: &Proxy, server: &str) -> String {
    let port = proxy.port;
    let words = server.split(' ').map(|word| match word.split_once('=') {
        Some(("port", _)) => format!("port={port}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn proxy_before(server: &str) -> Proxy {
    let port = server
        .split(' ')
        .find_map(|word| word.strip_prefix("port="))
        .unwrap();
    Proxy::before(SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

/// A task, an undo, an outcome and a key: something of each kind.
fn ops(number: u64) -> Vec<RowOp> {
    let key = format!("key {number}");
    vec![
        put_task(number, Some(&key), State::Queued(0), b"context"),
        put_undo(number, 0, b"value"),
        put_outcomes(number, 1, &[number], &[(&key, number)]),
        put_keyed_outcome(&key, number, 1, Some(b"output")),
    ]
}

/// The store has made these commits, each once and whole.
fn has_committed(address: &Address, commits: i64) {
    let person = address.person();
    assert_eq!(person.counts("SELECT commits FROM @.node"), commits);
    for table in ["task", "undo", "outcomes", "kept"] {
        let count = person.counts(&format!("SELECT count(*) FROM @.{table}"));
        assert_eq!(count, commits, "{table}");
    }
}

fn refused(result: Result<(), StoreError>) -> String {
    result.expect_err("it is refused").to_string()
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c2_a_node_that_was_buried_records_nothing() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    first.commit(&ops(1)).unwrap();
    let person = address.person();
    // As if it had stood still.
    person
        .does("UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms'");
    let mut second = address.open().unwrap();
    let why = refused(first.commit(&ops(2)));
    assert!(why.contains("has taken this journal over"), "{why}");
    assert_eq!(person.counts("SELECT count(*) FROM @.task"), 1);
    second.commit(&ops(2)).unwrap();
    // Nor does its leaving change anything.
    first.close(Writes::Succeeded);
    second.commit(&ops(3)).unwrap();
    let lives = "SELECT count(*) FROM @.node WHERE state = 'live'";
    assert_eq!(person.counts(lives), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_one_node_at_a_time_has_it_until_it_leaves_or_its_lease_runs_out() {
    let mut address = Address::new();
    address.choices.wait = Duration::ZERO;
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    let second = address.open().map(drop);
    assert!(matches!(second, Err(StoreError::Held { .. })), "{second:?}");
    first.commit(&ops(1)).unwrap();
    first.close(Writes::Succeeded);
    let mut second = address.open().unwrap();
    second.commit(&ops(2)).unwrap();
    assert_eq!(refused(first.commit(&ops(3))), "the journal is closed");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_a_lease_is_renewed_without_commits() {
    let mut address = Address::new();
    address.choices.lease = Duration::from_millis(500);
    let mut first = address.open().unwrap();
    let person = address.person();
    let renewed = "SELECT count(*) FROM @.node WHERE lease_until > began + 3 * lease";
    while person.counts(renewed) == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    first.commit(&ops(1)).unwrap();
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_of_many_that_start_at_once_one_gets_it_and_makes_the_tables() {
    let mut address = Address::new();
    address.choices.wait = Duration::ZERO;
    address.choices.lease = LONG;
    let opened: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| address.open())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (got, held): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!((got.len(), held.len()), (1, 7));
    for held in held {
        assert!(matches!(held, Err(StoreError::Held { .. })));
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_commit_happens_once_wherever_its_connection_is_cut() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    let mut number = 0;
    let mut commit = |store: &mut Postgres| {
        number += 1;
        store.commit(&ops(number)).unwrap();
        number as i64
    };
    commit(&mut store);
    for way in [Way::ToServer, Way::ToClient] {
        let before = proxy.passed(way);
        commit(&mut store);
        let whole = proxy.passed(way) - before;
        // With a step that meets each kind of message, and the last byte.
        let cuts = proxy.cuts();
        let points: Vec<_> = (1..whole).step_by(3).chain([whole]).collect();
        for point in &points {
            proxy.cut_after(*point, way);
            commit(&mut store);
        }
        assert_eq!(proxy.cuts() - cuts, points.len() as u64, "{way:?}");
    }
    let all = commit(&mut store);
    has_committed(&address, all);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_commit_of_several_parts_happens_once_wherever_its_connection_is_cut() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    let mut number = 0;
    let mut commit = |store: &mut Postgres| {
        number += 1;
        let mut parts = ops(number);
        let (key, task) = ("another key".into(), number + 1_000_000);
        parts.insert(2, RowOp::DeleteKey { key, task });
        store.commit(&parts).unwrap();
        number as i64
    };
    commit(&mut store);
    for way in [Way::ToServer, Way::ToClient] {
        let before = proxy.passed(way);
        commit(&mut store);
        let whole = proxy.passed(way) - before;
        let cuts = proxy.cuts();
        let points: Vec<_> = (1..whole).step_by(23).collect();
        for point in &points {
            proxy.cut_after(*point, way);
            commit(&mut store);
        }
        assert_eq!(proxy.cuts() - cuts, points.len() as u64, "{way:?}");
    }
    let all = commit(&mut store);
    has_committed(&address, all);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_commit_whose_bytes_vanish_happens_once() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    address.choices.answer = Duration::from_millis(300);
    let mut store = address.open().unwrap();
    store.commit(&ops(1)).unwrap();
    for (number, way) in [(2, Way::ToServer), (3, Way::ToClient), (4, Way::ToClient)] {
        proxy.mute(way, true);
        thread::scope(|scope| {
            let commit = scope.spawn(|| store.commit(&ops(number)));
            let person = direct.person();
            let _ = person.counts("SELECT 1::bigint");
            thread::sleep(Duration::from_millis(700));
            proxy.mute(way, false);
            commit.join().unwrap().unwrap();
        });
    }
    has_committed(&address, 4);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_slow_commit_is_not_made_twice() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    address.choices.answer = Duration::from_millis(200);
    let mut store = address.open().unwrap();
    let person = address.person();
    // The first attempt waits for this lock, for longer than for an answer, and so do the next ones.
    person.does("BEGIN; LOCK TABLE @.outcomes IN SHARE MODE");
    thread::scope(|scope| {
        let commit = scope.spawn(|| store.commit(&ops(1)));
        thread::sleep(Duration::from_millis(900));
        person.does("COMMIT");
        commit.join().unwrap().unwrap();
    });
    store.commit(&ops(2)).unwrap();
    has_committed(&address, 2);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_server_that_is_started_anew_is_waited_for() {
    let restart = env::var("BATRUN_POSTGRES_RESTART").unwrap();
    let mut address = Address::at(env::var("BATRUN_POSTGRES_OWN").unwrap());
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    let mut number = 0;
    for how in ["immediate", "fast"] {
        thread::scope(|scope| {
            let restarted = scope.spawn(|| Command::new(&restart).arg(how).status().unwrap());
            while !restarted.is_finished() {
                number += 1;
                store.commit(&ops(number)).unwrap();
            }
            assert!(restarted.join().unwrap().success());
        });
    }
    has_committed(&address, number as i64);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_patience_with_a_database_that_is_away_ends() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    address.choices.answer = Duration::from_millis(50);
    address.choices.patience = Duration::from_millis(300);
    let mut store = address.open().unwrap();
    proxy.mute(Way::ToServer, true);
    let why = refused(store.commit(&ops(1)));
    assert!(why.contains("tried again for 300ms"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_database_that_has_lost_commits_is_noticed() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    (1..=3).for_each(|number| store.commit(&ops(number)).unwrap());
    address.person().does("UPDATE @.node SET commits = 1");
    let why = refused(store.commit(&ops(4)));
    assert!(why.contains("has lost commits"), "{why}");
    assert!(why.contains("it knows 1, and 3 were confirmed"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_rows_that_somebody_else_has_deleted_are_noticed() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    store.commit(&ops(1)).unwrap();
    let row = |op| match op {
        RowOp::PutTask(row, _) => RowOp::UpdateTask(row),
        RowOp::PutUndo(row, _) => RowOp::UpdateUndo(row),
        other => other,
    };
    address.person().does("DELETE FROM @.undo");
    let changed = ops(1).into_iter().map(row).take(2).collect::<Vec<_>>();
    let why = refused(store.commit(&changed));
    assert!(why.contains("somebody else has deleted undos"), "{why}");
    address.person().does("DELETE FROM @.task");
    let why = refused(store.commit(&changed));
    assert!(why.contains("somebody else has deleted tasks"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_schema_that_is_not_a_journal_or_of_another_version_is_refused() {
    let address = Address::new();
    let person = address.person();
    person.does(
        &address
            .schema()
            .in_it("CREATE SCHEMA @.")
            .replace("\".", "\""),
    );
    person.does("CREATE TABLE @.task (mine int)");
    let refused = address.open().map(drop);
    assert!(matches!(refused, Err(StoreError::NotAJournal)));
    // An empty one will do: a person may have made it for a user who can't.
    person.does("DROP TABLE @.task");
    drop(address.open().unwrap());
    person.does("UPDATE @.batrun SET format = 7");
    let refused = address.open().map(drop);
    let (found, known) = (7, super::schema::FORMAT);
    assert!(
        matches!(refused, Err(StoreError::Format { found: f, known: k }) if (f, k) == (found, known))
    );
}

/// Nothing in batrun says something else than the address, the user and the database do.
#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c9_a_commit_is_as_durable_as_the_database_says() {
    let of_server = Address::new();
    for setting in ["on", "remote_apply", "local"] {
        let server = of_server.server.clone();
        let mut address = Address::at(format!(
            "{server} options='-c synchronous_commit={setting}'"
        ));
        address.choices.lease = LONG;
        let mut store = address.open().unwrap();
        let person = address.person();
        person.does(
            "CREATE TABLE @.seen (setting text NOT NULL);
             CREATE FUNCTION @.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO @.seen VALUES (current_setting('synchronous_commit'));
                 RETURN NULL;
             END $$;
             CREATE TRIGGER see AFTER INSERT ON @.task EXECUTE FUNCTION @.see()",
        );
        store.commit(&ops(1)).unwrap();
        let mut several = ops(2);
        let (key, task) = ("another key".into(), 1_000_000);
        several.insert(2, RowOp::DeleteKey { key, task });
        store.commit(&several).unwrap();
        let seen = person.sees("SELECT setting FROM @.seen");
        let seen: Vec<String> = seen.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [setting, setting]);
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_journal_may_be_dropped_on_an_arbiter() {
    let address = Address::new();
    let store = address.open().unwrap();
    actix_rt::System::new().block_on(async move { drop(store) });
}

/// Changes that could follow each other, from some numbers.
fn changes(
    numbers: &[u8],
    last_block: &mut u64,
    there: &mut std::collections::BTreeSet<u64>,
) -> Vec<RowOp> {
    let mut ops = Vec::new();
    for pair in numbers.chunks_exact(2) {
        let task = u64::from(pair[1] % 4) + 1;
        // A state keeps the key that its task has.
        let key = format!("{}\\0\0", task % 3);
        let bytes = [pair[0], pair[1]];
        match pair[0] % 10 {
            0..=1 => {
                there.insert(task);
                ops.push(put_task(
                    task,
                    Some(&key),
                    State::Queued(u16::from(pair[0])),
                    &bytes,
                ));
            }
            2 if there.contains(&task) => {
                if let RowOp::PutTask(row, _) = put_task(task, Some(&key), State::Running(0), b"") {
                    ops.push(RowOp::UpdateTask(row));
                }
            }
            3 if there.contains(&task) => {
                ops.push(put_undo(task, u32::from(pair[1] / 100), &bytes))
            }
            4 => {
                there.remove(&task);
                ops.push(RowOp::DeleteTask {
                    task,
                    has_undos: true,
                });
            }
            5 => ops.push(RowOp::KeepUndos { task }),
            6 if there.contains(&task) => ops.push(RowOp::ReviveUndos { task }),
            7 => {
                *last_block += 1;
                ops.push(put_outcomes(*last_block, 1, &[task], &[(&key, task)]));
                ops.push(put_keyed_outcome(&key, task, 1, Some(&bytes)));
            }
            8 => ops.push(RowOp::DeleteKey {
                key: key.into(),
                task,
            }),
            _ if *last_block > 0 => ops.push(RowOp::DeleteOutcomes {
                block: u64::from(pair[1]) % *last_block + 1,
                at: 1,
                keys: vec![(key.into(), task)],
            }),
            _ => ops.push(RowOp::SetMeta("last task", pair[1].to_string())),
        }
    }
    ops
}

#[cfg(feature = "testing")]
mod as_in_memory {
    use super::*;
    use crate::journal::{durability::Durability, memory::disk::Disk, tests::support::all_of};

    proptest! {
        #![proptest_config(ProptestConfig { cases: env::var("BATRUN_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60), failure_persistence: None, ..Default::default() })]

        /// Whatever their order is, and however many commits they come in.
        #[test]
        #[ignore = "needs a server: .ci/postgres"]
        fn postgres_makes_of_changes_what_memory_makes(
            commits in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8)
        ) {
            let mut address = Address::new();
            address.choices.lease = LONG;
            let mut store = address.open().unwrap();
            let mut memory = Disk::new().journal(Durability::Power).unwrap().store;
            let (mut last_block, mut there) = (0, Default::default());
            for numbers in &commits {
                let ops = changes(numbers, &mut last_block, &mut there);
                store.commit(&ops).unwrap();
                memory.commit(&ops).unwrap();
                prop_assert_eq!(all_of(&mut store).unwrap(), all_of(&mut *memory).unwrap());
            }
            store.close(Writes::Succeeded);
        }
    }
}
