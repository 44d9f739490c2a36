//! The entry point of the fuzz target for rows.

use super::{
    outcome_block::OutcomeBlock,
    task::{STATE_NAMES, TaskRow},
};
use crate::{
    journal::{codec::decode, task_state::TaskDetails, undo_state::UndoState},
    task::Outcome,
};

/// Reads bytes as anything that a column may hold. Each is an error or a value, never a panic.
pub(crate) fn read_rows(bytes: &[u8]) {
    let _ = decode::<OutcomeBlock>(bytes);
    let _ = decode::<Outcome>(bytes);
    let _ = decode::<UndoState>(bytes);
    let _ = decode::<TaskDetails>(bytes);
    // Behind a checksum that is right, too.
    for state in STATE_NAMES {
        let mut row = TaskRow {
            id: 1,
            key: None,
            stage: Some(0),
            state: state.into(),
            stuck: false,
            details: bytes.to_vec(),
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        if let Ok(task) = row.into_state() {
            let again = TaskRow::of(1, &task)
                .and_then(|row| row.into_state().map_err(|error| error.to_string()));
            assert_eq!(again, Ok(task), "a task is written as it was read");
        }
    }
}
