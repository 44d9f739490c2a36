//! What a producer of lines says of those it skipped.

use std::{error::Error, fmt};

use batrun::Failure;

/// How many bad lines are named.
pub(crate) const NAMED: usize = 10;

/// What was wrong with a reader's lines: how many were bad, and the first ten of them.
#[derive(Debug, Default)]
pub struct BadLines {
    count: u64,
    named: Vec<(u64, String)>,
}

impl BadLines {
    /// Nothing, or the failure that names them.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        match self.count {
            0 => Ok(()),
            _ => Err(Failure::permanent(self)),
        }
    }

    pub(crate) fn note(&mut self, number: u64, error: String) {
        log::warn!("line {number} is skipped: it is bad");
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((number, error));
        }
    }

    /// How many lines were bad.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first ten of them, each with its number, counted from 1, and what is wrong with it.
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
