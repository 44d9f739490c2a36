//! Commits whose connection is cut, or whose answer is late.

use super::*;

/// Makes such commits, and cuts the connection of each later on its way, by so many bytes a time.
fn cut_everywhere(step: usize, changes: impl Fn(u64) -> Vec<RowOp>) {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    let mut number = 0;
    let mut commit = |store: &mut Postgres| {
        number += 1;
        store.commit(&changes(number)).unwrap();
        number as i64
    };
    commit(&mut store);
    for way in [Way::ToServer, Way::ToClient] {
        let before = proxy.passed(way);
        commit(&mut store);
        let whole = proxy.passed(way) - before;
        let cuts = proxy.cuts();
        let points: Vec<_> = (1..whole).step_by(step).collect();
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
fn c6_a_commit_happens_once_wherever_its_connection_is_cut() {
    // A step that meets each kind of message.
    cut_everywhere(3, ops);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_commit_of_several_parts_happens_once_wherever_its_connection_is_cut() {
    cut_everywhere(23, |number| {
        let mut parts = ops(number);
        let (key, task) = ("another key".into(), number + 1_000_000);
        parts.insert(2, RowOp::DeleteKey { key, task });
        parts
    });
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
