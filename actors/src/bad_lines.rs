//! The error with which a producer of lines or rows ends if it skipped some.

use std::{error::Error, fmt};

use batrun::Failure;

/// Number of bad lines that are named. The others are only counted, so that a file of nothing but
/// bad lines doesn't fill the memory.
pub(crate) const NAMED: usize = 10;

/// The lines that [`Lines`](crate::Lines) or [`Csv`](crate::Csv) skipped: their number, and the
/// first ten of them with the reason.
///
/// It is the error with which the producer ends if any line was bad; find it among the report's
/// `producer_errors`, by downcasting the failure's [`error`](Failure::error). Its `Display` is one
/// line: `2 bad lines: line 3: ..; line 7: ..`.
#[derive(Debug, Default)]
pub struct BadLines {
    count: u64,
    named: Vec<(u64, String)>,
}

impl BadLines {
    /// # Errors
    /// A permanent failure with these lines, if there are any: a second reading meets them again.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        match self.count {
            0 => Ok(()),
            _ => Err(Failure::permanent(self)),
        }
    }

    pub(crate) fn note(&mut self, number: u64, error: String) {
        // Without the error: it may quote the line, and a log has more readers than the report.
        log::warn!("line {number} is bad and was skipped; the producer's error says why");
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((number, error));
        }
    }

    /// Number of lines that were skipped.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first ten of them, in the order of the file: each line's number, counted from 1, and the
    /// reason why it was skipped.
    pub fn named(&self) -> &[(u64, String)] {
        &self.named
    }
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} bad line{plural}", self.count)?;
        for (n, (number, error)) in self.named.iter().enumerate() {
            let before = if n == 0 { ": " } else { "; " };
            write!(f, "{before}line {number}: {error}")?;
        }
        match self.count - self.named.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Error for BadLines {}
