//! The tasks of the past that a journal keeps, a page at a time, the newest first.

use std::{fmt, str::FromStr, time::SystemTime};

use crate::task::Outcome;

/// An outcome that a journal keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PastOutcome {
    /// The outcome, with the task's key and label.
    pub outcome: Outcome,
    /// The time at which it was written, by the wall clock; in a database by that of the database.
    pub at: SystemTime,
    /// The last stage's output as MessagePack, if the task had a key and is done. A page has none:
    /// [`JournalReader::outcome_of`](crate::report::JournalReader::outcome_of) has it.
    pub output: Option<Vec<u8>>,
}

/// Outcomes that a journal keeps, the newest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PastPage {
    /// The outcomes.
    pub outcomes: Vec<PastOutcome>,
    /// The damage in the place of others, in words.
    pub corrupt: Vec<String>,
    /// The place from which the next page goes on; `None` if this was the last.
    pub next: Option<PastCursor>,
}

/// A place among the outcomes of a journal. As a text it is three numbers, which can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCursor {
    /// The time of the block in which it is, and its number.
    pub(crate) at: u64,
    pub(crate) block: u64,
    /// The number of outcomes of that block which are older.
    pub(crate) older: u64,
}

impl fmt::Display for PastCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at, self.block, self.older)
    }
}

/// A text that is no [`PastCursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place in a journal is three numbers, as the page before has it")]
pub struct NoPastCursor;

impl FromStr for PastCursor {
    type Err = NoPastCursor;

    fn from_str(text: &str) -> Result<Self, NoPastCursor> {
        let mut numbers = text.splitn(3, '-').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let cursor = (|| {
            Some(PastCursor {
                at: number()?,
                block: number()?,
                older: number()?,
            })
        })();
        cursor.ok_or(NoPastCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_a_place_in_a_journal_is_read_back() {
        let cursor = PastCursor {
            at: u64::MAX,
            block: 7,
            older: 0,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for other in ["", "1", "1-2", "1-2-3-4", "1-2-x", "-1-2-3", "1--3"] {
            assert_eq!(other.parse::<PastCursor>(), Err(NoPastCursor), "{other}");
        }
    }
}
