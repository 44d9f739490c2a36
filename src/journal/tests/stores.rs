//! The promises of a store, which the SQLite file and the memory keep alike.

use std::path::Path;

use super::support::{
    all_of, insert_task, put_keyed_outcome, put_outcomes, put_undo, undo_state, update_task,
};
#[cfg(feature = "testing")]
use crate::journal::memory::disk::Disk;
#[cfg(feature = "postgres")]
use crate::journal::postgres::support::Address;
use crate::{
    journal::{
        durability::Durability,
        error::JournalError,
        rows::{stage::StageRow, undo::UndoRow},
        sqlite::{database::Sqlite, path::canonical_path},
        store::{RowOp, Store, Writes},
        undo_state::StoredUndoStatus,
    },
    task::State,
};

/// A place where a store can be opened again and again.
trait Place {
    fn open(&self) -> Box<dyn Store>;
}

struct InFile(tempfile::TempDir);

impl Place for InFile {
    fn open(&self) -> Box<dyn Store> {
        let path = self.0.path().join("x.journal");
        Box::new(Sqlite::open(&path, Durability::Power).unwrap())
    }
}

#[cfg(feature = "testing")]
impl Place for Disk {
    fn open(&self) -> Box<dyn Store> {
        self.journal(Durability::Power).unwrap().store
    }
}

/// The journal of one pipeline on a server.
#[cfg(feature = "postgres")]
struct OnServer(Address);

#[cfg(feature = "postgres")]
impl Place for OnServer {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.0.open().unwrap())
    }
}

/// Makes tests of these: on a file and in memory, and on a server if there is one.
macro_rules! on_each {
    ($($test:ident,)*) => {
        mod here {
            $(
                #[test]
                fn $test() {
                    super::$test(&super::InFile(tempfile::tempdir().unwrap()));
                    #[cfg(feature = "testing")]
                    super::$test(&super::Disk::new());
                }
            )*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(
                #[test]
                #[ignore = "needs a server: .ci/postgres"]
                fn $test() {
                    super::$test(&super::OnServer(super::Address::new()));
                }
            )*
        }
    };
}

on_each! {
    a_new_one_is_empty,
    what_was_committed_is_there_also_after_it_was_opened_again,
    a_state_leaves_the_context_and_a_result_replaces_it,
    what_is_gone_is_gone_with_its_undos_and_nothing_else,
    an_undo_without_its_task_is_corrupt,
    outcomes_are_forgotten_with_their_keys_unless_another_task_has_it_by_now,
    j1_a_task_that_got_another_outcome_keeps_its_key_when_the_first_one_goes,
    j1_undos_are_kept_and_come_back_as_they_were,
}

fn a_new_one_is_empty(place: &dyn Place) {
    let mut store = place.open();
    let summary = store.summary().unwrap();
    assert!(summary.meta.is_empty());
    assert_eq!((summary.outcomes, summary.last_block), (0, 0));
    store.tasks(&mut |_| panic!("a task")).unwrap();
    assert!(store.keyed_outcome("x").unwrap().is_none());
    assert!(store.outcome_blocks(0, 10).unwrap().is_empty());
}

fn what_was_committed_is_there_also_after_it_was_opened_again(place: &dyn Place) {
    let mut store = place.open();
    let large = vec![7; 1 << 20];
    let ops = [
        RowOp::SetMeta("pipeline", "orders \"of\" ü \0 today".to_owned()),
        RowOp::SetMeta("last task", "3".to_owned()),
        RowOp::ReplaceStages(vec![
            StageRow::new(0, "first", 1),
            StageRow::new(1, "second", 7),
        ]),
        // Not in the order in which they are read.
        insert_task(i64::MAX as u64, Some(""), State::Queued(0), b""),
        insert_task(1, Some("schlüssel \0 1"), State::Running(1), &large),
        insert_task(2, None, State::Cleaning(0), b"two"),
        put_undo(2, 1, b"b"),
        put_undo(2, 0, b"a"),
        put_undo(1, 0, &large),
        put_outcomes(1, 9, &[4, 5], &[("k", 4)]),
        put_outcomes(2, 10, &[], &[]),
        put_keyed_outcome("k", 4, 5, Some(b"output")),
    ];
    store.commit(&ops).unwrap();
    let all = all_of(&mut *store).unwrap();
    let stages = all.iter().filter(|line| line.starts_with("stage")).count();
    assert_eq!(all.len() - stages, 1 + 3 + 3 + 2 + 1);
    let at = |what: &str| all.iter().position(|line| line.starts_with(what)).unwrap();
    assert!(at("task 1 ") < at("undo 1 0") && at("undo 1 0") < at("task 2 "));
    assert!(at("undo 2 0") < at("undo 2 1"));
    assert!(at("undo 2 1") < at("task 9223372036854775807"));
    let summary = store.summary().unwrap();
    assert_eq!((summary.outcomes, summary.last_block), (2, 2));
    store.close(Writes::Succeeded);
    drop(store);
    assert_eq!(all_of(&mut *place.open()).unwrap(), all);
}

fn a_state_leaves_the_context_and_a_result_replaces_it(place: &dyn Place) {
    let mut store = place.open();
    let ops = [
        insert_task(1, Some("k"), State::Queued(0), b"before"),
        put_undo(1, 0, b"undo"),
    ];
    store.commit(&ops).unwrap();
    let mut changed = undo_state();
    changed.status = StoredUndoStatus::Undone;
    let ops = [
        update_task(1, Some("k"), State::Running(0), None),
        RowOp::UpdateUndo(UndoRow::of(1, 0, &changed).unwrap()),
    ];
    store.commit(&ops).unwrap();
    let all = all_of(&mut *store).unwrap().join("\n");
    assert!(
        all.contains("Running(0)") && all.contains("Undone"),
        "{all}"
    );
    assert!(all.contains(&format!("{:?}", b"before")), "{all}");
    assert!(all.contains(&format!("{:?}", b"undo")), "{all}");
    store
        .commit(&[update_task(1, Some("k"), State::Queued(1), Some(b"after"))])
        .unwrap();
    let all = all_of(&mut *store).unwrap().join("\n");
    assert!(all.contains(&format!("{:?}", b"after")), "{all}");
    assert!(all.contains("undo 1 0"), "{all}");
}

fn what_is_gone_is_gone_with_its_undos_and_nothing_else(place: &dyn Place) {
    let mut store = place.open();
    let ops = [
        insert_task(1, None, State::Queued(0), b"x"),
        insert_task(2, None, State::Queued(0), b"y"),
        put_undo(1, 0, b"a"),
        put_undo(1, 1, b"a"),
        put_undo(2, 0, b"b"),
    ];
    store.commit(&ops).unwrap();
    let gone = RowOp::DeleteTask {
        task: 1,
        has_undos: true,
    };
    store.commit(&[gone]).unwrap();
    let all = all_of(&mut *store).unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1].starts_with("task 2") && all[2].starts_with("undo 2"));
}

fn an_undo_without_its_task_is_corrupt(place: &dyn Place) {
    let mut store = place.open();
    let before = insert_task(1, None, State::Queued(0), b"x");
    let after = insert_task(3, None, State::Queued(0), b"x");
    store
        .commit(&[before, put_undo(2, 0, b"a"), after])
        .unwrap();
    let error = store.tasks(&mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "undo 0 of task 2: its task is missing");
}

fn outcomes_are_forgotten_with_their_keys_unless_another_task_has_it_by_now(place: &dyn Place) {
    let mut store = place.open();
    let ops = [
        put_outcomes(1, 1, &[1, 2], &[("a", 1), ("b", 2)]),
        put_keyed_outcome("a", 1, 1, None),
        put_keyed_outcome("b", 2, 1, None),
        put_outcomes(2, 2, &[3], &[("b", 3)]),
        put_keyed_outcome("b", 3, 2, Some(b"o")),
    ];
    store.commit(&ops).unwrap();
    let oldest = store.outcome_blocks(0, 1).unwrap();
    assert_eq!((oldest.len(), oldest[0].number), (1, 1));
    assert_eq!(store.outcome_blocks(1, 9).unwrap()[0].number, 2);
    let keys = oldest[0].block().unwrap().keys;
    store
        .commit(&[RowOp::DeleteOutcomes {
            block: 1,
            at: 1,
            keys,
        }])
        .unwrap();
    assert!(store.keyed_outcome("a").unwrap().is_none());
    assert_eq!(store.keyed_outcome("b").unwrap().unwrap().task, 3);
    assert_eq!(store.summary().unwrap().outcomes, 1);
}

fn j1_a_task_that_got_another_outcome_keeps_its_key_when_the_first_one_goes(place: &dyn Place) {
    let mut store = place.open();
    let ops = [
        put_outcomes(1, 1, &[1], &[("a", 1)]),
        put_outcomes(2, 7, &[1], &[("a", 1)]),
        put_keyed_outcome("a", 1, 7, None),
    ];
    store.commit(&ops).unwrap();
    let delete = |block, at| RowOp::DeleteOutcomes {
        block,
        at,
        keys: vec![("a".into(), 1)],
    };
    store.commit(&[delete(1, 1)]).unwrap();
    assert!(store.keyed_outcome("a").unwrap().is_some());
    store.commit(&[delete(2, 7)]).unwrap();
    assert!(store.keyed_outcome("a").unwrap().is_none());
}

fn j1_undos_are_kept_and_come_back_as_they_were(place: &dyn Place) {
    let mut store = place.open();
    let both = [
        put_undo(1, 0, b"x"),
        put_undo(1, 1, b"y"),
        put_undo(2, 0, b"z"),
    ];
    store
        .commit(&[
            insert_task(1, None, State::RollingBack, b"c"),
            insert_task(2, None, State::RollingBack, b"c"),
        ])
        .unwrap();
    store.commit(&both).unwrap();
    let kept = |store: &mut dyn Store, task| {
        let kept = store.kept_undos(task).unwrap().into_iter();
        kept.map(|(row, value)| (row.undo, value.bytes))
            .collect::<Vec<_>>()
    };
    let keep = RowOp::KeepUndos { task: 1 };
    let delete = RowOp::DeleteTask {
        task: 1,
        has_undos: false,
    };
    store.commit(&[keep.clone(), delete.clone()]).unwrap();
    let xy = vec![(0, b"x".to_vec()), (1, b"y".to_vec())];
    assert_eq!(kept(&mut *store, 1), xy);
    assert!(kept(&mut *store, 2).is_empty());
    // Back, and kept again.
    let back = [
        insert_task(1, None, State::RollingBack, b"c"),
        RowOp::ReviveUndos { task: 1 },
    ];
    store.commit(&back).unwrap();
    assert!(kept(&mut *store, 1).is_empty());
    store
        .tasks(&mut |(row, _, undos)| assert_eq!(undos.len() as u64, 3 - row.id))
        .unwrap();
    store.commit(&[keep, delete]).unwrap();
    assert_eq!(kept(&mut *store, 1), xy);
    // They go with the key, by hand or because the outcome is too old.
    store.commit(&[put_keyed_outcome("a", 1, 3, None)]).unwrap();
    let forget = RowOp::DeleteKey {
        key: "a".into(),
        task: 1,
    };
    store.commit(&[forget]).unwrap();
    assert!(kept(&mut *store, 1).is_empty() && store.keyed_outcome("a").unwrap().is_none());
}

/// In a database each process has its own.
#[test]
fn stages_replace_those_before() {
    stages_replace(&InFile(tempfile::tempdir().unwrap()));
    #[cfg(feature = "testing")]
    stages_replace(&Disk::new());
}

fn stages_replace(place: &dyn Place) {
    let mut store = place.open();
    assert!(store.summary().unwrap().stages.is_empty());
    let stages = |names: &[&str]| {
        let rows = names.iter().enumerate();
        RowOp::ReplaceStages(
            rows.map(|(n, name)| StageRow::new(n as u16, name, 1))
                .collect(),
        )
    };
    store.commit(&[stages(&["a", "b", "c"])]).unwrap();
    store.commit(&[stages(&["c", "a"])]).unwrap();
    let names: Vec<_> = store.summary().unwrap().stages;
    let names: Vec<_> = names.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["c", "a"]);
}

#[test]
fn one_at_a_time() {
    let place = InFile(tempfile::tempdir().unwrap());
    let path = place.0.path().join("x.journal");
    let store = place.open();
    let refused = Sqlite::open(&path, Durability::Power).map(drop);
    assert!(
        matches!(refused, Err(JournalError::Held { .. })),
        "{refused:?}"
    );
    drop(store);
    place.open();
}

#[test]
fn sqlites_name_for_what_is_in_memory_is_a_files_name_like_others() {
    let path = canonical_path(Path::new(":memory:")).unwrap();
    assert!(path.is_absolute() && path.ends_with(":memory:"), "{path:?}");
}
