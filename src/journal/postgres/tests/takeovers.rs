//! The history of takeovers, which outlasts tasks and nodes.

use super::{looks::look, *};
use crate::journal::JournalTakeover;

const ROOM: Load = Load {
    room: 10,
    queued: 0,
};

/// The pairs of nodes, how the other one has gone, and the number of tasks: the last takeover first.
fn pairs(takeovers: &[JournalTakeover]) -> Vec<(i32, i32, bool, u64)> {
    let pair = |one: &JournalTakeover| (one.node, one.from, one.killed, one.tasks);
    takeovers.iter().map(pair).collect()
}

fn taken(address: &Address) -> Vec<(i32, i32, bool, u64)> {
    pairs(&look(address).takeovers().unwrap())
}

/// As if it had stood still for longer than its lease.
fn stands_still(address: &Address, node: i32) {
    address.person().does(&format!(
        "UPDATE @.node SET lease_until = clock_timestamp() - interval '1 s', lease = '1 ms' WHERE id = {node}"
    ));
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_who_has_taken_over_whom_is_remembered_when_tasks_and_nodes_have_gone() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    for number in 1..=5 {
        first.commit(&ops(number)).unwrap();
    }
    let mut second = address.open().unwrap();
    let person = address.person();
    let names = "UPDATE @.node SET name = 'host-' || id || ' \\\\ 7' WHERE id > 0";
    person.does(names);
    // Tasks that nobody has are no takeover.
    person.does("UPDATE @.task SET owner = 0 WHERE id = 5");
    let mut claimer = second.claimer().unwrap().unwrap();
    assert_eq!(claimer.claim(ROOM).unwrap().len(), 1);
    claimer.settle();
    assert_eq!(taken(&address), []);

    stands_still(&address, 1);
    let few = Load { room: 3, ..ROOM };
    assert_eq!(claimer.claim(few).unwrap().len(), 3);
    assert_eq!(taken(&address), [(2, 1, true, 3)]);
    // The same ones again, as after an answer that was lost: they are counted once.
    assert_eq!(claimer.claim(few).unwrap().len(), 3);
    claimer.settle();
    assert_eq!(taken(&address), [(2, 1, true, 3)]);
    assert_eq!(claimer.claim(ROOM).unwrap().len(), 1);
    claimer.settle();
    assert_eq!(taken(&address), [(2, 1, true, 4)]);

    // The next one is the first of those that live, and gets what this one leaves.
    second.close(Writes::Succeeded);
    let mut third = address.open().unwrap();
    begins(&mut third);
    assert_eq!(taken(&address), [(3, 2, false, 5), (2, 1, true, 4)]);

    person.does("DELETE FROM @.task; SELECT @.renew(3, 0)");
    let mut journal = look(&address);
    assert_eq!(
        journal.nodes().unwrap().len(),
        1,
        "the others are forgotten"
    );
    let takeovers = journal.takeovers().unwrap();
    assert_eq!(pairs(&takeovers), [(3, 2, false, 5), (2, 1, true, 4)]);
    let [last, before] = &takeovers[..] else {
        panic!("{takeovers:?}")
    };
    assert_eq!(
        (&*before.name, &*before.from_name, &*last.from_name),
        ("host-2 \\ 7", "host-1 \\ 7", "host-2 \\ 7")
    );
    let own = &journal.nodes().unwrap()[0];
    assert_eq!(last.name, own.name);
    assert!(
        last.at >= before.at && last.at >= own.began,
        "{takeovers:?}"
    );
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c3_takeovers_of_long_ago_and_all_but_the_last_thousand_are_forgotten() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let mut second = address.open().unwrap();
    let person = address.person();
    // The higher the node, the longer ago.
    let of_before = |count: u32, node: u32, ago: &str| {
        person.does(&format!(
            "INSERT INTO @.takeover SELECT {node}, 'x', n, 'y', false, 1, clock_timestamp() - interval '{ago}' \
                 - n * interval '1 s' FROM generate_series(1, {count}) n"
        ));
    };
    let kept = || person.counts("SELECT count(*) FROM @.takeover");
    of_before(7, 1000, "30 days");
    of_before(995, 2000, "29 days");
    let mut claimer = second.claimer().unwrap().unwrap();
    let mut takes_one = |number: u64| {
        first.commit(&ops(number)).unwrap();
        person.does("UPDATE @.node SET state = 'left' WHERE id = 1");
        assert_eq!(claimer.claim(ROOM).unwrap().len(), 1);
        claimer.settle();
        person.does("UPDATE @.node SET state = 'live' WHERE id = 1");
    };
    takes_one(1);
    assert_eq!(kept(), 996);
    of_before(10, 3000, "1 days");
    takes_one(2);
    assert_eq!(kept(), 1_000);
    let takeovers = look(&address).takeovers().unwrap();
    assert_eq!(pairs(&takeovers)[0], (2, 1, false, 2));
    let oldest = takeovers.last().unwrap();
    assert_eq!((oldest.node, oldest.from), (2000, 989));
}
