//! People decide about tasks.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    looks::{look, put_stuck},
    *,
};
use crate::{
    journal::{JournalAnswer, JournalDecision, JournalError, NotInFlight, NotStuck},
    task::TaskId,
};

/// Long enough for whatever answers at once.
const SOON: Duration = Duration::from_secs(30);

/// A node with a task under way, one that is rolled back and two that are stuck.
fn with_tasks(address: &Address) -> Postgres {
    let (mut store, _) = address.open_with(&[("first", 1), ("second", 1)]).unwrap();
    begins(&mut store);
    store
        .commit(&[
            insert_task(1, Some("one"), State::Queued(0), b"context"),
            put_stuck(2, None),
            put_undo(2, 0, b"value"),
            put_stuck(3, None),
        ])
        .unwrap();
    store
}

/// The answer about each task.
fn answers(decisions: &[JournalDecision]) -> Vec<(u64, JournalAnswer)> {
    let decisions = decisions.iter();
    let answer = |decision: &JournalDecision| (decision.task.0, decision.answer.clone());
    decisions.map(answer).collect()
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_decision_about_a_wrong_task_changes_nothing() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let _store = with_tasks(&address);
    let mut journal = look(&address);
    for wrong in [TaskId(1), TaskId(9)] {
        for resolve in [true, false] {
            let ids = [TaskId(2), wrong];
            let refused = match resolve {
                true => journal.resolve(&ids, SOON),
                false => journal.retry(&ids, SOON),
            };
            let why = refused.unwrap_err();
            let JournalError::NotStuck { tasks, .. } = &why else {
                panic!("{why}");
            };
            let known =
                matches!(&tasks[..], [NotStuck::Live(id) | NotStuck::Unknown(id)] if *id == wrong);
            assert!(known, "{why}");
            assert!(why.to_string().contains("nothing was changed"), "{why}");
        }
    }
    let refused = journal.cancel(&[TaskId(1), TaskId(2), TaskId(9)], SOON);
    let Err(JournalError::NotInFlight { tasks, .. }) = refused else {
        panic!("{refused:?}");
    };
    let (stuck, unknown) = (
        NotInFlight::Stuck(TaskId(2)),
        NotInFlight::Unknown(TaskId(9)),
    );
    assert_eq!(tasks, [stuck, unknown]);
    assert_eq!(address.person().counts("SELECT count(*) FROM @.command"), 0);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_decision_is_the_nodes_that_has_the_task() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let _store = with_tasks(&address);
    let done = AtomicBool::new(false);
    let decided = thread::scope(|scope| {
        // The node.
        scope.spawn(|| {
            let person = address.person();
            while !done.load(Ordering::SeqCst) {
                for row in person.sees("SELECT id, task, what FROM @.told(1)") {
                    let (id, task, what): (i64, i64, &str) = (row.get(0), row.get(1), row.get(2));
                    let answer = match (task, what) {
                        (2, "retry") => "retried",
                        (3, "retry") => "refused: an undo can''t be decoded",
                        (1, "cancel") => "ended",
                        other => panic!("{other:?}"),
                    };
                    person.does(&format!("SELECT @.answer(1, {id}, '{answer}')"));
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut journal = look(&address);
        let mut decided = journal.retry(&[TaskId(3), TaskId(2)], SOON).unwrap();
        decided.extend(journal.cancel(&[TaskId(1)], SOON).unwrap());
        done.store(true, Ordering::SeqCst);
        decided
    });
    let why = "an undo can't be decoded".to_owned();
    assert_eq!(
        answers(&decided),
        [
            (2, JournalAnswer::Retried),
            (3, JournalAnswer::Refused(why)),
            (1, JournalAnswer::Ended),
        ]
    );
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_stuck_task_that_no_node_can_have_is_resolved_at_once() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut store = with_tasks(&address);
    // Its node lives.
    let mut journal = look(&address);
    let decided = journal.resolve(&[TaskId(2)], Duration::ZERO).unwrap();
    assert_eq!(answers(&decided), [(2, JournalAnswer::NoAnswerYet)]);
    store.close(Writes::Succeeded);
    // Another one that lives has its stages.
    let (mut fits, _) = address
        .open_with(&[("first", 1), ("more", 1), ("second", 1)])
        .unwrap();
    let person = address.person();
    person.does("UPDATE @.task SET owner = 0");
    let decided = journal.resolve(&[TaskId(2)], Duration::ZERO).unwrap();
    assert_eq!(answers(&decided), [(2, JournalAnswer::NoAnswerYet)]);
    fits.close(Writes::Succeeded);
    let (_other, _) = address.open_with(&[("first", 2), ("second", 1)]).unwrap();
    let decided = journal.resolve(&[TaskId(2)], SOON).unwrap();
    assert_eq!(answers(&decided), [(2, JournalAnswer::Resolved)]);
    assert_eq!(person.counts("SELECT count(*) FROM @.task"), 2);
    assert_eq!(person.counts("SELECT count(*) FROM @.undo"), 0);
    assert!(journal.task(TaskId(2)).unwrap().is_none());
    let open = "SELECT count(*) FROM @.command WHERE answer IS NULL";
    assert_eq!(person.counts(open), 0);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_decision_without_a_node_waits_for_the_next_one() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    with_tasks(&address).close(Writes::Succeeded);
    let mut journal = look(&address);
    let decided = journal.retry(&[TaskId(2), TaskId(3)], SOON).unwrap();
    let none = JournalAnswer::NoNode;
    assert_eq!(answers(&decided), [(2, none.clone()), (3, none.clone())]);
    let decided = journal.cancel(&[TaskId(1)], SOON).unwrap();
    assert_eq!(answers(&decided), [(1, none.clone())]);
    // The last decision counts.
    let decided = journal.retry(&[TaskId(2)], SOON).unwrap();
    assert_eq!(answers(&decided), [(2, none)]);
    let (_next, _) = address.open_with(&[("first", 1), ("second", 1)]).unwrap();
    let person = address.person();
    let told = person.sees("SELECT task, what FROM @.told(2) ORDER BY task");
    let told: Vec<(i64, String)> = told.iter().map(|row| (row.get(0), row.get(1))).collect();
    let told: Vec<_> = told
        .iter()
        .map(|(task, what)| (*task, what.as_str()))
        .collect();
    assert_eq!(told, [(1, "cancel"), (2, "retry"), (3, "retry")]);
    let before = person.sees("SELECT answer FROM @.command WHERE answer IS NOT NULL");
    let before: Vec<String> = before.iter().map(|row| row.get(0)).collect();
    assert_eq!(before, ["refused: another decision came after it"]);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_damaged_task_is_not_decided_about() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    with_tasks(&address).close(Writes::Succeeded);
    address
        .person()
        .does("UPDATE @.task SET stuck = true WHERE id = 1");
    let refused = look(&address).resolve(&[TaskId(1)], SOON);
    assert!(matches!(refused, Err(JournalError::Corrupt { .. })));
    assert_eq!(address.person().counts("SELECT count(*) FROM @.task"), 3);
}
