//! The table `kept`: the outcomes of tasks that had a key, to be found by it.

use std::fmt;

use crate::{
    journal::{
        checksum::Checksum,
        codec::{decode, encode},
        corrupt::{Corrupt, verify},
    },
    task::Outcome,
};

/// The row of an outcome that can be asked for by its task's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedOutcomeRow {
    pub(crate) key: Box<str>,
    pub(crate) task: u64,
    /// The time of the commit, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) outcome: Vec<u8>,
    /// The last stage's encoded output, if the task is done.
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) checksum: u32,
}

impl KeyedOutcomeRow {
    pub(crate) fn new(
        key: Box<str>,
        at: u64,
        outcome: &Outcome,
        output: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let mut row = KeyedOutcomeRow {
            key,
            task: outcome.task.0,
            at,
            outcome: encode(outcome)?,
            output,
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        Ok(row)
    }

    fn compute_checksum(&self) -> u32 {
        Checksum::of("kept")
            .bytes(self.key.as_bytes())
            .number(self.task)
            .number(self.at)
            .bytes(&self.outcome)
            .optional_bytes(self.output.as_deref())
            .finish()
    }

    /// Verifies the checksum only.
    pub(crate) fn verify(&self) -> Result<(), Corrupt> {
        verify(self, self.checksum, self.compute_checksum())
    }

    /// The outcome as it was written.
    pub(crate) fn outcome(&self) -> Result<Outcome, Corrupt> {
        self.verify()?;
        let mut outcome: Outcome = decode(&self.outcome).map_err(|why| Corrupt::new(self, why))?;
        // Old rows have it in its column only.
        outcome.key.get_or_insert_with(|| (&*self.key).into());
        Ok(outcome)
    }
}

impl fmt::Display for KeyedOutcomeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the outcome with the key {:?}", self.key)
    }
}
