//! The table `outcomes`: the outcomes of one commit share a row, which makes them cheap.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    journal::{
        checksum::Checksum,
        codec::{decode, encode},
        corrupt::{Corrupt, verify},
    },
    task::{Names, Outcome, TaskId},
};

/// The outcomes that one commit recorded. The names of the fields are part of the file format.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OutcomeBlock {
    /// The tasks that are done.
    pub(crate) done: Vec<u64>,
    /// Every other outcome.
    pub(crate) rest: Vec<Outcome>,
    /// The tasks among them that had a key, and so have a row in the table `kept`.
    pub(crate) keys: Vec<(Box<str>, u64)>,
    /// The labels of those that are done. The others' are in their outcomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) labels: Vec<(u64, Arc<str>)>,
}

impl OutcomeBlock {
    /// The highest task number in it; 0 if it is empty.
    pub(crate) fn last_task(&self) -> u64 {
        let rest = self.rest.iter().map(|outcome| outcome.task.0);
        rest.chain(self.done.iter().copied()).max().unwrap_or(0)
    }

    /// The outcomes with their keys, those of tasks that are done first.
    pub(crate) fn into_outcomes(self) -> impl Iterator<Item = (Outcome, Option<String>)> {
        let keys = self.keys.into_iter().map(|(key, task)| (task, key));
        let keys: HashMap<u64, Box<str>> = keys.collect();
        let labels: HashMap<u64, Arc<str>> = self.labels.into_iter().collect();
        let done = self.done.into_iter().map(move |task| {
            let label = labels.get(&task).cloned();
            Outcome::done(
                TaskId(task),
                Names {
                    label,
                    ..Names::default()
                },
            )
        });
        done.chain(self.rest).map(move |mut outcome| {
            let key = keys.get(&outcome.task.0);
            if outcome.key.is_none() {
                outcome.key = key.map(|key| (&**key).into());
            }
            (outcome, key.map(|key| key.to_string()))
        })
    }
}

/// The row of an [`OutcomeBlock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeBlockRow {
    /// From 1, in the order in which blocks were written.
    pub(crate) number: u64,
    /// The time of the commit, in milliseconds since 1970.
    pub(crate) at: u64,
    /// The number of outcomes in it.
    pub(crate) count: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) checksum: u32,
}

impl OutcomeBlockRow {
    pub(crate) fn new(number: u64, at: u64, block: &OutcomeBlock) -> Result<Self, String> {
        let mut row = OutcomeBlockRow {
            number,
            at,
            count: (block.done.len() + block.rest.len()) as u64,
            body: encode(block)?,
            checksum: 0,
        };
        row.checksum = row.compute_checksum();
        Ok(row)
    }

    fn compute_checksum(&self) -> u32 {
        Checksum::of("outcomes")
            .number(self.number)
            .number(self.at)
            .number(self.count)
            .bytes(&self.body)
            .finish()
    }

    /// The block as it was written.
    pub(crate) fn block(&self) -> Result<OutcomeBlock, Corrupt> {
        verify(self, self.checksum, self.compute_checksum())?;
        decode(&self.body).map_err(|why| Corrupt::new(self, why))
    }
}

impl fmt::Display for OutcomeBlockRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcome block {}", self.number)
    }
}
