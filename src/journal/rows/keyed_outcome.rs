//! The table `kept`: the outcomes of tasks that had a key, to be found by it.

use std::{borrow::Cow, fmt};

use crate::{
    journal::{
        checksum::Checksum,
        codec::{decode, encode},
        corrupt::{Corrupt, verify},
    },
    task::{EndKind, Outcome},
};

/// The row of an outcome that can be asked for by its task's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedOutcomeRow {
    pub(crate) key: Box<str>,
    pub(crate) task: u64,
    /// The time of the commit, in milliseconds since 1970.
    pub(crate) at: u64,
    /// The outcome's [`EndKind`], in words.
    pub(crate) end: Cow<'static, str>,
    /// The digest of the context that the task was submitted with.
    pub(crate) digest: Option<u64>,
    /// The number of undos in the table `kept_undo`; `None` if the task can't be taken back.
    pub(crate) undos: Option<u32>,
    pub(crate) outcome: Vec<u8>,
    /// The last stage's encoded output, if the task is done.
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) checksum: u32,
}

/// The outcome of a task that had a key.
#[derive(Clone)]
pub(crate) struct KeyedOutcome {
    pub(crate) key: Box<str>,
    pub(crate) outcome: Outcome,
    /// The last stage's encoded output, if the task is done.
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) digest: Option<u64>,
    /// The number of undos that are kept; `None` if the task can't be taken back.
    pub(crate) undos: Option<u32>,
}

impl KeyedOutcomeRow {
    pub(crate) fn new(kept: &KeyedOutcome, at: u64) -> Result<Self, String> {
        let mut row = KeyedOutcomeRow {
            key: kept.key.clone(),
            task: kept.outcome.task.0,
            at,
            end: kept.outcome.end.kind().as_str().into(),
            digest: kept.digest,
            undos: kept.undos,
            outcome: encode(&kept.outcome)?,
            output: kept.output.clone(),
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
            .bytes(self.end.as_bytes())
            .number(self.digest.is_some().into())
            .number(self.digest.unwrap_or_default())
            .number(self.undos.map_or(u64::MAX, u64::from))
            .bytes(&self.outcome)
            .optional_bytes(self.output.as_deref())
            .finish()
    }

    /// The kind of its end, as the row has it.
    pub(crate) fn end(&self) -> Result<EndKind, Corrupt> {
        let known = EndKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == self.end);
        known.ok_or_else(|| Corrupt::new(self, "unknown end"))
    }

    /// Verifies the checksum only.
    pub(crate) fn verify(&self) -> Result<(), Corrupt> {
        verify(self, self.checksum, self.compute_checksum())
    }

    /// The outcome as it was written.
    pub(crate) fn outcome(&self) -> Result<Outcome, Corrupt> {
        self.verify()?;
        decode(&self.outcome).map_err(|why| Corrupt::new(self, why))
    }
}

impl fmt::Display for KeyedOutcomeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the outcome with the key {:?}", self.key)
    }
}
