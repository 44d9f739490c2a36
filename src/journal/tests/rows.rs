//! Rows are read as they were written, or not at all.

use proptest::prelude::*;

use super::support::{outcome, task_state};
use crate::{
    failure::Failure,
    journal::{
        codec::{decode, encode},
        rows::{
            keyed_outcome::{KeyedOutcome, KeyedOutcomeRow},
            outcome_block::OutcomeBlock,
            task::TaskRow,
        },
        task_state::TaskDetails,
        undo_state::UndoState,
    },
    task::{End, Outcome, Rollback, State, StopCause, Stuck, StuckUndo, TaskId},
};

#[test]
fn a_value_is_all_of_its_bytes() {
    let mut bytes = encode(&("seven", 7, Some(1.5))).unwrap();
    let value: (String, i32, Option<f64>) = decode(&bytes).unwrap();
    assert_eq!(value, ("seven".to_owned(), 7, Some(1.5)));
    bytes.push(0);
    let error = decode::<(String, i32, Option<f64>)>(&bytes).unwrap_err();
    assert_eq!(error, "1 more bytes follow the value");
}

#[test]
fn nesting_takes_no_stack() {
    #[derive(serde::Deserialize)]
    struct Nest(Vec<Nest>);
    // An array of one, of one, of one ..
    let bytes = vec![0x91; 1_000_000];
    let read = decode::<Nest>(&bytes);
    read.map(|Nest(inner)| inner.len()).unwrap_err();
}

#[test]
fn a_length_that_is_a_lie_takes_no_memory() {
    // 4 GB of text, then nothing.
    decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
    decode::<Vec<u8>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
    decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).unwrap_err();
}

#[test]
fn an_outcome_is_read_as_it_was() {
    let stuck = Outcome {
        end: End::Cancelled {
            stage: "b".into(),
            cause: StopCause::Recovery,
        },
        rollback: Rollback::Stuck(Stuck {
            task: TaskId(3),
            key: None,
            label: Some("ada".into()),
            still_running: None,
            undos: vec![StuckUndo {
                stage: "a".into(),
                undo: "x".to_owned(),
                error: "y".to_owned(),
            }],
        }),
        ..outcome(3)
    };
    let panic = Outcome {
        end: End::Failed {
            stage: "a".into(),
            failure: Failure::panic(Box::new("boom")),
        },
        ..outcome(4)
    };
    for outcome in [outcome(2), stuck, panic] {
        let again: Outcome = decode(&encode(&outcome).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{outcome:?}"));
        assert_eq!(again.to_string(), outcome.to_string());
    }
}

/// As it was written before tasks had labels, and outcomes keys.
#[derive(serde::Serialize)]
struct OldOutcome {
    task: u64,
    end: End,
    rollback: OldRollback,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum OldRollback {
    Stuck(OldStuck),
}

#[derive(serde::Serialize)]
struct OldStuck {
    task: u64,
    undos: Vec<StuckUndo>,
}

#[derive(serde::Serialize)]
struct OldBlock {
    done: Vec<u64>,
    rest: Vec<OldOutcome>,
    keys: Vec<(Box<str>, u64)>,
}

fn old_outcome(task: u64) -> OldOutcome {
    OldOutcome {
        task,
        end: outcome(task).end,
        rollback: OldRollback::Stuck(OldStuck {
            task,
            undos: Vec::new(),
        }),
    }
}

#[test]
fn d08_rows_without_names_are_read() {
    let outcome: Outcome = decode(&encode(&old_outcome(3)).unwrap()).unwrap();
    assert_eq!(
        outcome.to_string(),
        "task 3 failed in first: no; stuck: it waits for a person"
    );
    let old = OldBlock {
        done: vec![4],
        rest: vec![old_outcome(3)],
        keys: vec![("three".into(), 3)],
    };
    let block: OutcomeBlock = decode(&encode(&old).unwrap()).unwrap();
    assert_eq!(
        (block.done, block.rest.len(), block.labels),
        (vec![4], 1, Vec::new())
    );
    // The key of an old outcome is in the row beside it.
    let kept = KeyedOutcome {
        key: "three".into(),
        outcome,
        output: None,
        digest: None,
        undos: None,
    };
    let mut row = KeyedOutcomeRow::new(&kept, 7).unwrap();
    assert_eq!(row.outcome().unwrap().key.as_deref(), Some("three"));
    row.key = "four".into();
    row.outcome().unwrap_err();
}

#[test]
fn d08_names_take_no_room_where_there_are_none() {
    let block = |rest| OutcomeBlock {
        done: vec![1, 2],
        rest,
        ..OutcomeBlock::default()
    };
    let old = OldBlock {
        done: vec![1, 2],
        rest: Vec::new(),
        keys: Vec::new(),
    };
    assert_eq!(encode(&block(Vec::new())).unwrap(), encode(&old).unwrap());
    let stuck = Stuck {
        task: TaskId(3),
        key: None,
        label: None,
        still_running: None,
        undos: Vec::new(),
    };
    let stuck = Outcome {
        rollback: Rollback::Stuck(stuck),
        ..outcome(3)
    };
    assert_eq!(encode(&stuck).unwrap(), encode(&old_outcome(3)).unwrap());
}

proptest! {
    /// Bytes from anywhere are an error or a value, and no panic (D2).
    #[test]
    fn d2_bytes_from_anywhere_do_not_panic(bytes: Vec<u8>) {
        let _ = decode::<TaskDetails>(&bytes);
        let _ = decode::<UndoState>(&bytes);
        let _ = decode::<Outcome>(&bytes);
        let _ = decode::<OutcomeBlock>(&bytes);
    }

    /// A row of which a bit was flipped is not read.
    #[test]
    fn j4_a_flipped_bit_is_noticed(id: u64, at: prop::sample::Index, bit in 0..8u8) {
        let row = TaskRow::of(id, &task_state(Some("key"), State::Running(2))).unwrap();
        prop_assert!(row.clone().into_state().is_ok());
        let mut flipped = row.clone();
        let at = at.index(flipped.details.len());
        flipped.details[at] ^= 1 << bit;
        prop_assert!(flipped.into_state().is_err());
        let mut other = row.clone();
        other.id = id.wrapping_add(1);
        prop_assert!(other.into_state().is_err());
        let mut other = row.clone();
        other.stage = Some(3);
        prop_assert!(other.into_state().is_err());
        let mut other = row;
        other.key = None;
        prop_assert!(other.into_state().is_err());
    }
}
