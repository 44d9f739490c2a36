//! The table `undo`: the undos of the tasks in the table `task`.

use crate::journal::{
    checksum::Checksum,
    codec::{decode, encode},
    corrupt::{Corrupt, verify},
    undo_state::UndoState,
};

/// An undo's row. Its value is in the same row of the table, as a [`Blob`](super::blob::Blob).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UndoRow {
    pub(crate) task: u64,
    /// The undo's number within its task, from 0.
    pub(crate) undo: u32,
    /// The encoded [`UndoState`], in the column `more`.
    pub(crate) state: Vec<u8>,
    pub(crate) checksum: u32,
}

impl UndoRow {
    pub(crate) fn of(task: u64, undo: u32, state: &UndoState) -> Result<Self, String> {
        let mut row = UndoRow {
            task,
            undo,
            state: encode(state)?,
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        Ok(row)
    }

    fn compute_checksum(&self) -> u32 {
        Checksum::of("undo")
            .number(self.task)
            .number(self.undo.into())
            .bytes(&self.state)
            .finish()
    }

    /// The state as it was written.
    pub(crate) fn state(&self) -> Result<UndoState, Corrupt> {
        let what = format_args!("undo {} of task {}", self.undo, self.task);
        verify(what, self.checksum, self.compute_checksum())?;
        decode(&self.state).map_err(|why| Corrupt::new(what, why))
    }
}
