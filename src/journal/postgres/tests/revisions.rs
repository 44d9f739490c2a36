//! Processes with other stages, or other versions of them, beside each other.

use super::*;

/// A node with these stages that has made its first commit, and has this task.
fn with_task(address: &Address, stages: &[(&str, u32)], task: u64) -> Postgres {
    let (mut store, _) = address.open_with(stages).unwrap();
    begins(&mut store);
    store
        .commit(&[
            insert_task(task, None, State::Queued(0), b"context"),
            put_undo(task, 0, b"value"),
        ])
        .unwrap();
    store
}

/// The tasks that a new node with these stages can have, with the stages of their rows.
fn claimed(address: &Address, stages: &[(&str, u32)]) -> (Vec<u64>, Vec<String>) {
    let (mut store, _) = address.open_with(stages).unwrap();
    let mut claimer = store.claimer().unwrap().unwrap();
    let load = Load {
        room: 10,
        queued: 0,
    };
    let mut tasks = Vec::new();
    let mut names = Vec::new();
    for ((row, ..), owners) in claimer.claim(load).unwrap() {
        tasks.push(row.id);
        let stages = claimer.stages_of(owners.revision).unwrap();
        assert_eq!(stages, store.stages_of(owners.revision).unwrap());
        let stages = stages
            .iter()
            .map(|row| format!("{} {}", row.name, row.version));
        names.extend(stages);
    }
    claimer.settle();
    (tasks, names)
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c8_a_node_takes_only_tasks_of_stages_that_it_has_in_that_version_and_order() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    // It goes on to live, so that no other one is the first.
    let _other = with_task(&address, &[("other", 1)], 99);
    let mut old = with_task(&address, &[("pay", 1), ("ship", 1)], 1);
    old.close(Writes::Succeeded);
    let none = (Vec::new(), Vec::new());
    for stages in [
        &[("pay", 2), ("ship", 1)][..],
        &[("pay", 1)],
        &[("ship", 1), ("pay", 1)],
        &[("pay", 1), ("ship", 2), ("bill", 1)],
    ] {
        assert_eq!(claimed(&address, stages), none, "{stages:?}");
    }
    let more = [("check", 7), ("pay", 1), ("pack", 1), ("ship", 1)];
    let names = vec!["pay 1".to_owned(), "ship 1".to_owned()];
    assert_eq!(claimed(&address, &more), (vec![1], names));
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c8_the_first_one_gets_what_fits_and_says_what_is_stranded() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    with_task(&address, &[("pay", 1)], 1).close(Writes::Succeeded);
    with_task(&address, &[("pay", 2)], 2).close(Writes::Succeeded);
    let (mut store, begun) = address.open_with(&[("pay", 2)]).unwrap();
    assert!(!begun.joined);
    assert_eq!(store.claimer().unwrap().unwrap().stranded().unwrap(), 1);
    let mut tasks = Vec::new();
    store.tasks(&mut |(row, ..)| tasks.push(row.id)).unwrap();
    assert_eq!(tasks, [2]);
    begins(&mut store);
    let (mut other, begun) = address.open_with(&[("pay", 1)]).unwrap();
    assert!(begun.joined);
    assert_eq!(other.claimer().unwrap().unwrap().stranded().unwrap(), 0);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c8_a_task_that_is_written_has_the_numbers_of_the_one_that_wrote_it() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let _other = with_task(&address, &[("other", 1)], 99);
    with_task(&address, &[("pay", 1)], 1).close(Writes::Succeeded);
    let (mut store, _) = address.open_with(&[("check", 1), ("pay", 1)]).unwrap();
    let mut claimer = store.claimer().unwrap().unwrap();
    let load = Load { room: 1, queued: 0 };
    assert_eq!(claimer.claim(load).unwrap().len(), 1);
    claimer.settle();
    store
        .commit(&[update_task(1, None, State::Queued(1), Some(b"context"))])
        .unwrap();
    store.close(Writes::Succeeded);
    let none = (Vec::new(), Vec::new());
    assert_eq!(claimed(&address, &[("pay", 1)]), none);
    assert_eq!(claimed(&address, &[("check", 1), ("pay", 1)]).0, [1]);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c8_a_task_of_a_process_without_stages_is_anybodys() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let _other = with_task(&address, &[("other", 1)], 99);
    let (mut without, begun) = address.open_with(&[]).unwrap();
    assert!(begun.joined);
    without
        .commit(&[insert_task(5, None, State::Queued(0), b"context")])
        .unwrap();
    let person = address.person();
    assert_eq!(
        person.counts("SELECT owner::bigint FROM @.task WHERE id = 5"),
        0
    );
    assert_eq!(claimed(&address, &[("pay", 3)]), (vec![5], Vec::new()));
    // It is another one's now.
    let why = refused(without.commit(&[update_task(5, None, State::Queued(0), Some(b"mine"))]));
    assert!(why.contains("are another one"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c1_what_nobody_has_is_for_those_that_have_nothing_waiting() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let stages = [("pay", 1)];
    let mut busy = with_task(&address, &stages, 1);
    let (mut idle, _) = address.open_with(&stages).unwrap();
    busy.commit(&[RowOp::Release { task: 1 }]).unwrap();
    let mut busy = busy.claimer().unwrap().unwrap();
    let mut idle = idle.claimer().unwrap().unwrap();
    let load = |room, queued| Load { room, queued };
    // Nobody is idle yet, as far as is known.
    assert_eq!(idle.claim(load(0, 0)).unwrap().len(), 0);
    assert_eq!(idle.idle(false).unwrap(), (0, 0));
    let person = address.person();
    person.does("UPDATE @.node SET room = 10 WHERE id = 2");
    assert_eq!(busy.claim(load(10, 3)).unwrap().len(), 0);
    // Not more, as long as some wait for it.
    assert_eq!(busy.idle(false).unwrap(), (0, 0));
    idle.settle();
    assert_eq!(idle.claim(load(10, 0)).unwrap().len(), 1);
    assert_eq!(busy.idle(false).unwrap(), (1, 10));
    person.does("UPDATE @.node SET queued = 3 WHERE id = 2");
    assert_eq!(busy.idle(false).unwrap(), (0, 0));
    assert_eq!(busy.idle(true).unwrap(), (1, 10));
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c4_undos_that_are_kept_keep_the_numbers_of_their_stages() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut old = with_task(&address, &[("pay", 1)], 1);
    old.commit(&[
        RowOp::KeepUndos { task: 1 },
        RowOp::DeleteTask {
            task: 1,
            has_undos: false,
        },
        put_keyed_outcome("key", 1, 1, None),
    ])
    .unwrap();
    assert_eq!(old.numbers_of_kept("key", 1).unwrap(), None);
    let (mut new, _) = address.open_with(&[("check", 1), ("pay", 1)]).unwrap();
    let numbers = new.numbers_of_kept("key", 1).unwrap();
    assert_eq!(numbers, Some([(0, 1)].into()));
    let (mut other, _) = address.open_with(&[("pay", 2)]).unwrap();
    assert_eq!(other.numbers_of_kept("key", 1).unwrap(), Some([].into()));
}
