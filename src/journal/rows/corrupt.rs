//! What is said of a row that is not what was written.

use std::fmt::Display;

/// A row that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is corrupt: {why}")]
pub(in crate::journal) struct Corrupt {
    pub(in crate::journal) what: String,
    pub(in crate::journal) why: String,
}

impl Corrupt {
    pub(in crate::journal) fn new(what: impl Display, why: impl Display) -> Self {
        Corrupt {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}

/// Whether a checksum is the one that was written.
pub(super) fn agree(what: impl Display, written: u32, sum: u32) -> Result<(), Corrupt> {
    if written == sum {
        Ok(())
    } else {
        Err(Corrupt::new(what, "its checksum differs"))
    }
}
