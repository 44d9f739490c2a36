//! The error of data that is not what was written.

use std::fmt::Display;

/// A row, or the whole file, is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub(super) struct Corrupt {
    /// The row, as people know it: `undo 1 of task 7`.
    pub(super) what: String,
    pub(super) why: String,
}

impl Corrupt {
    pub(super) fn new(what: impl Display, why: impl Display) -> Self {
        Corrupt {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}

/// Compares the checksum that was stored with the one computed from what was read.
pub(super) fn verify(what: impl Display, stored: u32, computed: u32) -> Result<(), Corrupt> {
    if stored == computed {
        Ok(())
    } else {
        Err(Corrupt::new(what, "checksum mismatch"))
    }
}
