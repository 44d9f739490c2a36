//! Rows are read as they were written, or not at all.

use proptest::prelude::*;

use super::support::{outcome, task_state};
use crate::{
    failure::Failure,
    journal::{
        codec::{decode, encode},
        rows::{outcome_block::OutcomeBlock, task::TaskRow},
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

/// As it is without a key and a label.
#[derive(serde::Serialize)]
struct NamelessOutcome {
    task: u64,
    end: End,
    rollback: NamelessRollback,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum NamelessRollback {
    Stuck(NamelessStuck),
}

#[derive(serde::Serialize)]
struct NamelessStuck {
    task: u64,
    undos: Vec<StuckUndo>,
}

#[derive(serde::Serialize)]
struct NamelessBlock {
    done: Vec<u64>,
    rest: Vec<NamelessOutcome>,
    keys: Vec<(Box<str>, u64)>,
}

fn nameless_outcome(task: u64) -> NamelessOutcome {
    NamelessOutcome {
        task,
        end: outcome(task).end,
        rollback: NamelessRollback::Stuck(NamelessStuck {
            task,
            undos: Vec::new(),
        }),
    }
}

#[test]
fn d08_names_take_no_room_where_there_are_none() {
    let block = |rest| OutcomeBlock {
        done: vec![1, 2],
        rest,
        ..OutcomeBlock::default()
    };
    let nameless = NamelessBlock {
        done: vec![1, 2],
        rest: Vec::new(),
        keys: Vec::new(),
    };
    assert_eq!(
        encode(&block(Vec::new())).unwrap(),
        encode(&nameless).unwrap()
    );
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
    assert_eq!(
        encode(&stuck).unwrap(),
        encode(&nameless_outcome(3)).unwrap()
    );
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
