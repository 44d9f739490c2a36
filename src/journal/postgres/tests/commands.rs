//! Decisions about tasks of other nodes.

use super::*;

/// Two nodes, the first of which has this task.
fn two_nodes(task: u64) -> (Address, Postgres, Postgres) {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut first = address.open().unwrap();
    begins(&mut first);
    let second = address.open().unwrap();
    first
        .commit(&[insert_task(task, None, State::Queued(0), b"context")])
        .unwrap();
    (address, first, second)
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c5_a_decision_is_told_to_the_node_that_has_the_task_and_to_nobody_else() {
    let (address, mut first, mut second) = two_nodes(7);
    assert!(!second.tell(1, 8, Decision::Cancel).unwrap());
    // The answer of the database may be lost: it happens once.
    assert!(second.tell(5, 7, Decision::Retry).unwrap());
    assert!(second.tell(5, 7, Decision::Retry).unwrap());
    let person = address.person();
    assert_eq!(person.counts("SELECT count(*) FROM @.command"), 1);
    let mut one = first.claimer().unwrap().unwrap();
    let mut two = second.claimer().unwrap().unwrap();
    assert!(two.told().unwrap().is_empty());
    let command = Told {
        number: 5,
        task: 7,
        decision: Decision::Retry,
        gone: false,
    };
    assert_eq!(one.told().unwrap(), [command]);
    // As long as it hasn't answered.
    assert_eq!(one.told().unwrap(), [command]);
    assert_eq!(second.answers(&[5]).unwrap(), []);
    let why = Answer::Refused("task 7 isn't stuck \\ \0".to_owned());
    // Another one has nothing to say.
    assert!(!two.answer(command, &Answer::Ended).unwrap());
    assert!(one.answer(command, &why).unwrap());
    assert!(!one.answer(command, &Answer::Done).unwrap());
    assert_eq!(one.told().unwrap(), []);
    assert_eq!(second.answers(&[5]).unwrap(), [(5, why)]);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c5_a_cancel_is_answered_once_it_is_recorded_and_by_a_node_that_lives() {
    let (address, mut first, mut second) = two_nodes(7);
    assert!(second.tell(5, 7, Decision::Cancel).unwrap());
    let mut one = first.claimer().unwrap().unwrap();
    let told = one.told().unwrap();
    assert!(!one.answer(told[0], &Answer::Done).unwrap());
    first
        .commit(&[update_task(7, None, State::RollingBack, None)])
        .unwrap();
    let person = address.person();
    person.does("UPDATE @.node SET state = 'dead' WHERE id = 1");
    assert!(!one.answer(told[0], &Answer::Done).unwrap());
    person.does("UPDATE @.node SET state = 'live' WHERE id = 1");
    assert!(one.answer(told[0], &Answer::Done).unwrap());
    assert_eq!(second.answers(&[5]).unwrap(), [(5, Answer::Done)]);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c5_only_the_node_that_was_told_answers_for_a_task_that_has_ended_since() {
    let (address, mut first, mut second) = two_nodes(7);
    assert!(second.tell(5, 7, Decision::Cancel).unwrap());
    let mut one = first.claimer().unwrap().unwrap();
    let mut two = second.claimer().unwrap().unwrap();
    assert!(!one.told().unwrap()[0].gone);
    let gone = RowOp::DeleteTask {
        task: 7,
        has_undos: false,
    };
    first.commit(&[gone]).unwrap();
    // It is just about to say what came of it.
    assert_eq!(two.told().unwrap(), []);
    assert_eq!(second.answers(&[5]).unwrap(), []);
    let told = one.told().unwrap();
    assert!(told[0].gone);
    assert!(one.answer(told[0], &Answer::Done).unwrap());
    assert_eq!(second.answers(&[5]).unwrap(), [(5, Answer::Done)]);
    // One that can't answer any more doesn't have to.
    let person = address.person();
    person
        .does("UPDATE @.command SET answer = NULL; UPDATE @.node SET state = 'dead' WHERE id = 1");
    assert_eq!(two.told().unwrap(), []);
    assert_eq!(second.answers(&[5]).unwrap(), [(5, Answer::Ended)]);
    // Answers are kept for an hour.
    person.does("UPDATE @.command SET answered = answered - interval '2 hours'");
    assert_eq!(two.told().unwrap(), []);
    assert_eq!(person.counts("SELECT count(*) FROM @.command"), 0);
}
