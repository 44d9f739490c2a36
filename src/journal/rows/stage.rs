//! The table `stage`: the stages that the numbers in other rows stand for.

use crate::{
    journal::{
        checksum::Checksum,
        corrupt::{Corrupt, verify},
    },
    task::StageIx,
};

/// A stage's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageRow {
    pub(crate) number: StageIx,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) checksum: u32,
}

impl StageRow {
    pub(crate) fn new(number: StageIx, name: &str, version: u32) -> Self {
        let mut row = StageRow {
            number,
            name: name.to_owned(),
            version,
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        row
    }

    fn compute_checksum(&self) -> u32 {
        Checksum::of("stage")
            .number(self.number.into())
            .bytes(self.name.as_bytes())
            .number(self.version.into())
            .finish()
    }

    pub(crate) fn verify(&self) -> Result<(), Corrupt> {
        let what = format_args!("stage {}", self.number);
        verify(what, self.checksum, self.compute_checksum())
    }
}
