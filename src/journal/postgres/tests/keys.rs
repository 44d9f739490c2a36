//! Keys, which several nodes take at once.

use super::*;

fn take(key: &str, task: u64, take: Take) -> Vec<RowOp> {
    let state = match take {
        Take::New => State::Queued(0),
        Take::Back => State::RollingBack,
    };
    let digest = Some(task);
    let put = insert_task(task, Some(key), state, b"x");
    let key = key.into();
    vec![
        RowOp::TakeKey {
            key,
            task,
            digest,
            take,
        },
        put,
    ]
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c4_a_key_is_taken_by_one_task_whichever_node_is_asked() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let mut second = address.open().unwrap();
    assert_eq!(first.commit(&take("a", 1, Take::New)).unwrap(), []);
    let both = [take("a", 2, Take::New), take("b", 3, Take::New)].concat();
    let lost = |task, owner| Lost {
        task,
        owner: Some(owner),
        digest: Some(owner),
        own_digest: None,
    };
    assert_eq!(second.commit(&both).unwrap(), [lost(2, 1)]);
    let person = address.person();
    assert_eq!(person.counts("SELECT count(*) FROM @.task"), 2);
    assert_eq!(
        first.task_elsewhere("b").unwrap(),
        Some(Elsewhere::InFlight(3))
    );
    // It has ended: still taken.
    let ended = [
        RowOp::DeleteTask {
            task: 1,
            has_undos: false,
        },
        put_keyed_outcome("a", 1, 1, None),
    ];
    first.commit(&ended).unwrap();
    assert_eq!(first.task_elsewhere("a").unwrap(), None);
    let again = second.commit(&take("a", 4, Take::New)).unwrap();
    assert_eq!(
        again
            .iter()
            .map(|lost| (lost.task, lost.owner))
            .collect::<Vec<_>>(),
        [(4, Some(1))]
    );
    // A stuck one keeps its key, whoever wants to give it back.
    let stuck = [
        take("c", 7, Take::New),
        vec![put_keyed_outcome("c", 7, 1, None)],
    ];
    first.commit(&stuck.concat()).unwrap();
    let (key, task) = ("c".into(), 7);
    second.commit(&[RowOp::DeleteKey { key, task }]).unwrap();
    assert_eq!(
        second.task_elsewhere("c").unwrap(),
        Some(Elsewhere::InFlight(7))
    );
    person.does("UPDATE @.task SET stuck = true WHERE id = 7");
    assert_eq!(
        second.task_elsewhere("c").unwrap(),
        Some(Elsewhere::Stuck(7))
    );
    // It has failed, so that one who takes such keys has it.
    address.reuses_keys = true;
    let mut third = address.open().unwrap();
    assert_eq!(third.commit(&take("a", 5, Take::New)).unwrap(), []);
    assert_eq!(
        third.commit(&take("b", 6, Take::New)).unwrap(),
        [lost(6, 3)]
    );
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c4_many_nodes_that_take_the_same_keys_at_once() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let mut nodes = vec![first];
    nodes.extend((0..3).map(|_| address.open().unwrap()));
    let lost: usize = thread::scope(|scope| {
        let all: Vec<_> = nodes
            .iter_mut()
            .enumerate()
            .map(|(node, store)| {
                scope.spawn(move || {
                    let mut lost = 0;
                    for round in 0..20 {
                        // Each in an order of its own.
                        let mut keys: Vec<u64> = (0..20).map(|key| round * 20 + key).collect();
                        keys.rotate_left(node * 5);
                        let task = |key| 1_000_000 * (node as u64 + 1) + key;
                        let ops: Vec<_> = keys
                            .iter()
                            .flat_map(|key| take(&format!("k{key}"), task(key), Take::New))
                            .collect();
                        lost += store.commit(&ops).unwrap().len();
                    }
                    lost
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(lost, 3 * 400);
    let person = address.person();
    assert_eq!(person.counts("SELECT count(*) FROM @.key"), 400);
    assert_eq!(
        person.counts("SELECT count(*) FROM @.task JOIN @.key ON id = key.task"),
        400
    );
    assert_eq!(person.counts("SELECT count(*) FROM @.task"), 400);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c4_the_answer_about_a_key_survives_the_connection() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    store.commit(&take("a", 1, Take::New)).unwrap();
    store.commit(&take("b", 2, Take::New)).unwrap();
    // The whole commit arrives, and its answer does not.
    proxy.cut_after(1, Way::ToClient);
    let lost = store.commit(&take("a", 3, Take::New)).unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].task, lost[0].owner), (3, Some(1)));
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c4_of_two_nodes_that_take_the_same_task_back_one_does() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let mut second = address.open().unwrap();
    first.commit(&take("a", 1, Take::New)).unwrap();
    let end = [
        RowOp::DeleteTask {
            task: 1,
            has_undos: false,
        },
        put_keyed_outcome("a", 1, 1, None),
    ];
    first.commit(&end).unwrap();
    // Only what is done is taken back.
    let lost = second.commit(&take("a", 1, Take::Back)).unwrap();
    assert_eq!(lost.len(), 1);
    address.person().does("UPDATE @.key SET \"end\" = 'done'");
    assert_eq!(first.commit(&take("a", 1, Take::Back)).unwrap(), []);
    let lost = second.commit(&take("a", 1, Take::Back)).unwrap();
    assert_eq!((lost.len(), lost[0].task, lost[0].owner), (1, 1, Some(1)));
    assert_eq!(
        second.task_elsewhere("a").unwrap(),
        Some(Elsewhere::InFlight(1))
    );
}
