//! People look into the journal.

use tokio::runtime::Builder;

use super::*;
use crate::{
    journal::{
        JournalDatabase, JournalError, JournalNode, JournalNodeState, JournalSchema,
        rows::task::TaskRow,
        tests::support::{outcome, task_state},
    },
    task::TaskId,
};

pub(super) fn named(address: &Address) -> JournalSchema {
    JournalSchema::Named(address.choices.schema.clone().unwrap())
}

pub(super) fn look(address: &Address) -> JournalDatabase {
    JournalDatabase::look(&address.server, &named(address)).unwrap()
}

/// A task that waits for a person.
pub(super) fn put_stuck(id: u64, key: Option<&str>) -> RowOp {
    let mut task = task_state(key, State::RollingBack);
    let outcome = outcome(id);
    task.details.end = Some(crate::journal::task_state::DebugEq(Box::new(
        outcome.end.clone(),
    )));
    task.details.stuck = Some(crate::journal::task_state::DebugEq(Box::new(outcome)));
    let row = TaskRow::of(id, &task).unwrap();
    let context = crate::journal::rows::blob::Blob::context(id, b"context".to_vec());
    RowOp::InsertTask(row, context)
}

/// The numbers of the tasks that can be read, and the damage of the others.
fn tasks(journal: &mut JournalDatabase) -> (Vec<u64>, Vec<String>) {
    let (mut read, mut damage) = (Vec::new(), Vec::new());
    journal
        .tasks(|task| match task {
            Ok(found) => read.push(found.task.id.0),
            Err(corrupt) => damage.push(corrupt.to_string()),
        })
        .unwrap();
    (read, damage)
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_look_shows_everything_as_it_was_at_one_moment() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let (mut old, _) = address.open_with(&[("pay", 1), ("ship", 1)]).unwrap();
    old.commit(&[RowOp::SetMeta("pipeline", "or\0ders".to_owned())])
        .unwrap();
    let (mut new, _) = address.open_with(&[("pay", 2), ("ship", 1)]).unwrap();
    old.commit(&ops(1)).unwrap();
    old.commit(&[put_stuck(2, Some("stuck"))]).unwrap();
    new.commit(&[insert_task(1 << 40, None, State::Running(1), b"x")])
        .unwrap();
    let mut journal = look(&address);
    // None of this is seen.
    new.commit(&ops((1 << 40) + 1)).unwrap();
    old.close(Writes::Succeeded);

    assert_eq!(journal.pipeline(), Some("or\0ders"));
    assert!(journal.corrupt().is_empty());
    let nodes = journal.nodes().unwrap();
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| {
            let versions = node.stages.iter().map(|stage| stage.version);
            (
                node.id,
                node.state,
                node.tasks,
                versions.collect::<Vec<_>>(),
            )
        })
        .collect();
    let live = JournalNodeState::Live;
    assert_eq!(nodes, [(1, live, 2, vec![1, 1]), (2, live, 1, vec![2, 1])]);
    assert_eq!(tasks(&mut journal), (vec![1, 2, 1 << 40], vec![]));
    let one = journal.task(TaskId(1)).unwrap().unwrap();
    assert_eq!((one.node, one.has_node, one.taken_over), (Some(1), true, 0));
    assert_eq!(one.task.stage.as_deref(), Some("pay"));
    assert_eq!(one.task.key.as_deref(), Some("key 1"));
    assert_eq!(one.task.undos[0].value.bytes(), b"value");
    assert_eq!(one.task.undos[0].stage.as_ref(), "ship");
    let other = journal.task(TaskId(1 << 40)).unwrap().unwrap();
    assert_eq!(other.task.stage.as_deref(), Some("ship"));
    assert!(journal.task(TaskId(7)).unwrap().is_none());
    let of_key = journal.task_of_key("stuck").unwrap().unwrap();
    assert_eq!(of_key.task.id, TaskId(2));
    assert!(of_key.task.stuck.is_some());
    assert!(journal.task_of_key("none").unwrap().is_none());
    let mut stuck = Vec::new();
    journal
        .stuck(|task| stuck.push(task.unwrap().task.id.0))
        .unwrap();
    assert_eq!(stuck, [2]);
    let mut first = Vec::new();
    journal
        .first_tasks(1, |task| first.push(task.unwrap().task.id.0))
        .unwrap();
    assert_eq!(first, [1]);
    let counts = journal.counts().unwrap();
    assert_eq!(counts.iter().map(|count| count.tasks).sum::<u64>(), 3);
    assert!(counts.iter().any(|count| count.stuck && count.tasks == 1));
    assert_eq!(journal.outcomes_kept().unwrap(), 1);
    let mut outcomes = Vec::new();
    journal
        .outcomes(|outcome| outcomes.push(outcome.unwrap()))
        .unwrap();
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].key.as_deref(), Some("key 1"));
    let kept = journal.outcome_of("key 1").unwrap().unwrap();
    assert_eq!(kept.output.unwrap().bytes(), b"output");
    assert_eq!(journal.stranded().unwrap(), []);
    let upkeep = journal.upkeep().unwrap();
    assert!(
        upkeep
            .tables
            .iter()
            .any(|table| table.name == "task" && table.bytes > 0)
    );

    let mut later = look(&address);
    assert_eq!(tasks(&mut later).0, [1, 2, 1 << 40, (1 << 40) + 1]);
    assert_eq!(later.nodes().unwrap()[0].state, JournalNodeState::Left);
    // Nobody has the first version any more.
    let stranded = later.stranded().unwrap();
    assert_eq!((stranded[0].tasks, stranded[0].stuck), (2, 1));
    assert_eq!(stranded[0].stages[0].version, 1);
    assert!(!later.task(TaskId(1)).unwrap().unwrap().has_node);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn damaged_rows_are_shown_beside_the_others() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let (mut store, _) = address.open_with(&[("pay", 1), ("ship", 1)]).unwrap();
    begins(&mut store);
    for number in 1..=450 {
        store
            .commit(&[
                insert_task(number, None, State::Queued(0), b"context"),
                put_undo(number, 0, b"value"),
            ])
            .unwrap();
    }
    store.commit(&ops(451)).unwrap();
    assert_eq!(tasks(&mut look(&address)), ((1..=451).collect(), vec![]));
    address.person().does(
        "UPDATE @.task SET more = 'x' WHERE id = 3;
         UPDATE @.task SET stage = 70000 WHERE id = 4;
         UPDATE @.task SET context = 'x' WHERE id = 5;
         UPDATE @.undo SET value = 'x' WHERE task = 6;
         UPDATE @.undo SET undo = 1 WHERE task = 7;
         UPDATE @.undo SET undo = -1 WHERE task = 8;
         DELETE FROM @.task WHERE id IN (9, 200, 450);
         UPDATE @.outcomes SET body = 'x';
         UPDATE @.key SET output = 'x';
         UPDATE @.word SET value = 'y';
         UPDATE @.stage SET name = 'x' WHERE number = 1",
    );
    let mut journal = look(&address);
    let corrupt: Vec<_> = journal.corrupt().iter().map(ToString::to_string).collect();
    assert_eq!(corrupt.len(), 2, "{corrupt:?}");
    assert!(
        corrupt[1].contains("stage 1 of revision 1: checksum mismatch"),
        "{corrupt:?}"
    );
    let (read, damage) = tasks(&mut journal);
    assert_eq!(read.len(), 451 - 9 + 1, "{damage:?}");
    for what in [
        "the row of task 3: checksum",
        "task 4: 70000 is impossible",
        "the context of task 5: checksum",
        "undo 0 of task 6: checksum",
        "undo 0 of task 7: it is missing",
        "an undo of task 8: -1 is impossible",
        "undo 0 of task 9: its task is missing",
        "undo 0 of task 200: its task is missing",
        "undo 0 of task 450: its task is missing",
    ] {
        let told = damage.iter().filter(|told| told.contains(what));
        assert_eq!(told.count(), 1, "{what}: {damage:?}");
    }
    let mut outcomes = Vec::new();
    journal.outcomes(|outcome| outcomes.push(outcome)).unwrap();
    assert!(outcomes.iter().all(Result::is_err) && outcomes.len() == 1);
    assert!(journal.outcome_of("key 451").is_err());
    let why = journal.task(TaskId(3)).unwrap_err().to_string();
    assert!(why.contains("checksum mismatch"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_place_without_a_journal_is_refused_without_the_password() {
    let address = Address::new();
    let server = format!("{} password=hunter2", address.server);
    let look = |server: &str, name: &str| {
        let refused = JournalDatabase::look(server, &JournalSchema::Named(name.to_owned()));
        let error = refused.unwrap_err();
        let why = format!("{error} {error:?}");
        assert!(!why.contains("hunter2"), "{why}");
        (error, why)
    };
    drop(address.open().unwrap());
    let schema = address.choices.schema.clone().unwrap();
    let (_, why) = look(&server, "no such one");
    assert!(
        why.contains("no journal in the schema \\\"no such one\\\""),
        "{why}"
    );
    assert!(why.contains(&schema), "{why}");
    let person = address.person();
    person.does("UPDATE @.batrun SET format = 7");
    let (error, _) = look(&server, &schema);
    assert!(matches!(error, JournalError::Format { found: 7, .. }));
    person.does("DROP TABLE @.batrun");
    let (error, _) = look(&server, &schema);
    assert!(matches!(error, JournalError::NotAJournal { .. }));
    let (_, why) = look(&server.replace("user=batrun", "user=nobody_here"), &schema);
    assert!(why.contains("nobody_here"), "{why}");
    let (_, why) = look("postgres://me:hunter2@127.0.0.1:1/x", &schema);
    assert!(why.contains("127.0.0.1:1"), "{why}");
    let (_, why) = look("hunter2", &schema);
    assert!(why.contains("the address of a journal"), "{why}");
    let (_, why) = look(&server, "pg_x");
    assert!(why.contains("choose another one"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_look_from_a_runtime_blocks_it_and_does_not_panic() {
    let address = Address::new();
    drop(address.open().unwrap());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut journal = look(&address);
        assert_eq!(journal.outcomes_kept().unwrap(), 0);
        let refused = journal.retry(&[TaskId(1)], Duration::ZERO);
        assert!(matches!(refused, Err(JournalError::NotStuck { .. })));
        drop(journal);
    });
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn without_its_connection_a_look_shows_nothing_more() {
    let address = Address::new();
    drop(address.open().unwrap());
    let server = format!("{} application_name=looker", address.server);
    let mut journal = JournalDatabase::look(&server, &named(&address)).unwrap();
    assert_eq!(journal.outcomes_kept().unwrap(), 0);
    address.person().sees(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'looker'",
    );
    journal.outcomes_kept().unwrap_err();
    let why = journal.nodes().unwrap_err().to_string();
    assert!(why.contains("look again"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn d1_tasks_are_counted_as_far_as_ten_thousand_for_those_who_look_often() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let (mut first, _) = address.open_with(&[("pay", 1)]).unwrap();
    begins(&mut first);
    let (_second, _) = address.open_with(&[("pay", 2)]).unwrap();
    let person = address.person();
    for (node, more) in [(0, 1), (1, 2), (2, 9_001 - 10_000)] {
        person.does(&format!(
            "INSERT INTO @.task SELECT {node} * 100000 + n, NULL, 0, 'queued', n <= 4000, '', 0, '', 0, {node}, 1 \
                 FROM generate_series(1, 10000 + {more}) n"
        ));
    }
    person.does("UPDATE @.node SET state = 'left' WHERE id = 1");
    let mut journal = look(&address);
    let counted =
        |nodes: Vec<JournalNode>| -> Vec<u64> { nodes.iter().map(|node| node.tasks).collect() };
    let cluster = journal.cluster().unwrap();
    assert_eq!((cluster.counted_to, cluster.waiting), (10_000, 10_000));
    assert_eq!(counted(cluster.nodes), [10_000, 9_001]);
    // Those of nobody, and those of the node that has left.
    let [stranded] = &cluster.stranded[..] else {
        panic!("{:?}", cluster.stranded)
    };
    assert_eq!((stranded.tasks, stranded.stuck), (20_000, 8_000));
    assert_eq!(counted(journal.nodes().unwrap()), [10_002, 9_001]);
    let stranded = &journal.stranded().unwrap()[0];
    assert_eq!((stranded.tasks, stranded.stuck), (20_003, 8_000));
}
