//! Nodes: which of them has a task, and what one that is gone can do.

use super::*;
use crate::journal::rows::stage::StageRow;

/// A node that has room for this many tasks.
fn room(room: usize) -> Load {
    Load { room, queued: 0 }
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
        .does("UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms' WHERE id > 0");
    let (mut second, begun) = address.open_with(&[("first", 1)]).unwrap();
    assert!(!begun.joined);
    let why = refused(first.commit(&ops(2)));
    assert!(why.contains("has taken"), "{why}");
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
fn c3_a_look_for_tasks_passes_by_those_of_nodes_that_live() {
    let (address, _first, _second) = two_nodes();
    let person = address.person();
    // More than would be read by mistake, and known to those who plan how to read them.
    person.does(
        "INSERT INTO @.task (id, stage, state, stuck, more, sum, context, context_sum, owner, revision) \
             SELECT n, 0, 'queued', false, '', 0, '', 0, t.owner, t.revision \
             FROM @.task t, generate_series(1000000, 1020000) n WHERE t.id = 1",
    );
    person.does("ANALYZE @.task");
    let read = "SELECT pg_stat_get_tuples_returned('@.task'::regclass) \
                    + sum(pg_stat_get_tuples_returned(indexrelid))::bigint \
                FROM pg_index WHERE indrelid = '@.task'::regclass";
    let known = "SELECT 1::bigint FROM pg_stat_force_next_flush()";
    let before = person.counts(read);
    // Of the second node. Each look has a number.
    for number in 1..=10 {
        let look = format!("SELECT count(*) FROM @.claim(2, 10, 0, {number}, {number})");
        assert_eq!(person.counts(&look), 0);
    }
    person.counts(known);
    let reads = person.counts(read) - before;
    assert!(reads < 1_000, "{reads} rows were read");
}

/// Two nodes, the first of which has a task.
fn two_nodes() -> (Address, Postgres, Postgres) {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let second = address.open().unwrap();
    first.commit(&ops(1)).unwrap();
    (address, first, second)
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_a_task_is_one_nodes_until_that_one_has_gone() {
    let (address, mut first, mut second) = two_nodes();
    let mut claimer = second.claimer().unwrap().unwrap();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
    // Nobody writes another one's task.
    let why = refused(second.commit(&[update_task(1, None, State::Queued(0), Some(b"mine"))]));
    assert!(why.contains("are another one"), "{why}");
    let mut second = address.open().unwrap();
    let mut claimer = second.claimer().unwrap().unwrap();
    first.close(Writes::Succeeded);
    let claimed = claimer.claim(room(10)).unwrap();
    assert_eq!(claimed.len(), 1);
    let ((row, context, undos), owners) = &claimed[0];
    assert_eq!(
        (row.id, &context.bytes[..], undos.len()),
        (1, &b"context"[..], 1)
    );
    assert_eq!((owners.killed, owners.count), (false, 1));
    second
        .commit(&[update_task(1, None, State::Queued(0), Some(b"mine"))])
        .unwrap();
    claimer.settle();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_a_claim_that_nobody_settled_gives_the_same_tasks_again() {
    let (_, mut first, mut second) = two_nodes();
    let mut claimer = second.claimer().unwrap().unwrap();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
    first.close(Writes::Succeeded);
    let ids = |claimed: Vec<(TaskRows, Owners)>| -> Vec<u64> {
        claimed.iter().map(|((row, ..), _)| row.id).collect()
    };
    assert_eq!(ids(claimer.claim(room(10)).unwrap()), [1]);
    // As after an answer that was lost.
    assert_eq!(ids(claimer.claim(room(10)).unwrap()), [1]);
    claimer.settle();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_a_dead_nodes_tasks_are_claimed_once_and_counted_as_killed() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut dead = address.open().unwrap();
    begins(&mut dead);
    for number in 1..=50 {
        dead.commit(&ops(number)).unwrap();
    }
    let person = address.person();
    let mut others: Vec<_> = (0..3).map(|_| address.open().unwrap()).collect();
    person.does(
        "UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms' WHERE id = 1",
    );
    person.does("SELECT @.renew(2, 0)");
    let claimed: Vec<u64> = thread::scope(|scope| {
        let all: Vec<_> = others
            .iter_mut()
            .map(|node| node.claimer().unwrap().unwrap())
            .map(|mut claimer| {
                scope.spawn(move || {
                    let mut all = Vec::new();
                    loop {
                        let some = claimer.claim(room(7)).unwrap();
                        claimer.settle();
                        if some.is_empty() {
                            return all;
                        }
                        assert!(some.iter().all(|(_, owners)| owners.killed));
                        all.extend(some.iter().map(|((row, ..), _)| row.id));
                    }
                })
            })
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    let mut sorted = claimed;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=50).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_a_lease_is_renewed_without_commits() {
    let mut address = Address::new();
    address.choices.lease = Duration::from_secs(1);
    let mut first = address.open().unwrap();
    let person = address.person();
    let renewed = "SELECT count(*) FROM @.node WHERE id > 0 AND lease_until > began + 2 * lease";
    while person.counts(renewed) == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    first.commit(&ops(1)).unwrap();
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_of_many_that_start_at_once_one_is_the_first_and_makes_the_tables() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let opened: Vec<_> = thread::scope(|scope| {
        let one = || {
            let (mut store, begun) = address.open_with(&[("first", 1)]).unwrap();
            if !begun.joined {
                begins(&mut store);
            }
            (store, begun)
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let firsts = opened.iter().filter(|(_, begun)| !begun.joined).count();
    assert_eq!(firsts, 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_journal_may_be_dropped_on_an_arbiter() {
    let address = Address::new();
    let store = address.open().unwrap();
    actix_rt::System::new().block_on(async move { drop(store) });
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c8_a_node_waits_for_the_first_commit_of_the_first_one() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| address.open_with(&[("first", 1)]).unwrap().1);
        let person = address.person();
        // It asks again and again.
        let asked = "SELECT coalesce(max(extract(epoch FROM query_start) * 1000000), 0)::bigint \
                     FROM pg_stat_activity WHERE query LIKE '%@.enter(%' AND pid <> pg_backend_pid() \
                     AND query_start > (SELECT began FROM @.node WHERE id = 1)";
        let mut times = std::collections::BTreeSet::new();
        while times.len() < 3 && !second.is_finished() {
            times.insert(person.counts(asked));
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!second.is_finished());
        begins(&mut first);
        assert!(second.join().unwrap().joined);
    });
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_if_the_first_node_is_gone_before_it_has_begun_one_of_those_that_wait_is_the_first() {
    let mut address = Address::new();
    address.choices.lease = Duration::from_millis(300);
    // It makes the tables, and has gone again.
    address.open().unwrap().close(Writes::Succeeded);
    let person = address.person();
    // This one has not heard that it is the first.
    let name = StageRow::new(0, "first", 1);
    let sum = name.checksum as i32;
    person.does(&format!(
        "SELECT @.enter('300 ms', 'gone', '\"first\" v1', '{{first}}', '{{1}}', '{{{sum}}}')"
    ));
    let lives = "SELECT count(*) FROM @.node WHERE state = 'live'";
    assert_eq!(person.counts(lives), 1);
    let opened: Vec<_> = thread::scope(|scope| {
        let one = || {
            let (mut store, begun) = address.open_with(&[("first", 1)]).unwrap();
            begins(&mut store);
            (store, begun)
        };
        let all: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let firsts = opened.iter().filter(|(_, begun)| !begun.joined).count();
    assert_eq!(firsts, 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_nodes_that_have_gone_are_forgotten_once_they_have_no_task() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let mut others: Vec<_> = (0..5).map(|_| address.open().unwrap()).collect();
    others[0].commit(&ops(1)).unwrap();
    for other in &mut others {
        other.close(Writes::Succeeded);
    }
    let mut claimer = first.claimer().unwrap().unwrap();
    assert!(claimer.claim(room(0)).unwrap().is_empty());
    claimer.settle();
    let person = address.person();
    assert_eq!(person.counts("SELECT count(*) FROM @.node WHERE id > 0"), 2);
    assert_eq!(claimer.claim(room(10)).unwrap().len(), 1);
    claimer.settle();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
    assert_eq!(person.counts("SELECT count(*) FROM @.node WHERE id > 0"), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_a_claim_that_arrives_late_gives_nothing() {
    let (address, mut first, mut second) = two_nodes();
    let mut claimer = second.claimer().unwrap().unwrap();
    assert!(claimer.claim(room(10)).unwrap().is_empty());
    claimer.settle();
    first.close(Writes::Succeeded);
    // The same claim once more, which was on its way for long.
    let person = address.person();
    let late = "DO $$ BEGIN PERFORM @.claim(2, 10, 0, 1, 1); RAISE 'no'; EXCEPTION WHEN sqlstate 'BRFEN' THEN END $$";
    person.does(late);
    assert_eq!(claimer.claim(room(10)).unwrap().len(), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c2_a_node_whose_lease_has_run_out_buries_not_itself_and_takes_nothing_of_its_own() {
    let (address, first, _second) = two_nodes();
    let person = address.person();
    person.does("UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms' WHERE id = 1");
    person.does("SELECT @.claim(1, 10, 0, 1, 1)");
    let lives = "SELECT count(*) FROM @.node WHERE id = 1 AND state = 'live'";
    assert_eq!(person.counts(lives), 1);
    assert_eq!(person.counts("SELECT max(owners)::bigint FROM @.task"), 0);
    drop(first);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_renewal_notices_commits_that_are_missing() {
    let (address, mut first, _second) = two_nodes();
    first.commit(&ops(2)).unwrap();
    let person = address.person();
    person.does("UPDATE @.node SET commits = 1 WHERE id = 1");
    let missing = "DO $$ BEGIN PERFORM @.renew(1, 3); RAISE 'no'; EXCEPTION WHEN sqlstate 'BRLST' THEN END $$";
    person.does(missing);
    person.does("SELECT @.renew(1, 1)");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_a_start_waits_for_nobody_who_looks_at_a_nodes_row() {
    let (address, first, second) = two_nodes();
    let person = address.person();
    person.does("UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms' WHERE id = 1");
    let idle = address.person();
    idle.does("BEGIN");
    idle.sees("SELECT id FROM @.node FOR UPDATE");
    let third = address.open().unwrap();
    idle.does("ROLLBACK");
    drop((first, second, third));
}
