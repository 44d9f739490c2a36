//! The error with which a producer of lines or rows ends if it skipped some.

use std::{error::Error, fmt};

use batrun::Failure;

/// Number of bad lines that are named. The others are only counted, so that a file of nothing but
/// bad lines doesn't fill the memory.
pub(crate) const NAMED: usize = 10;

/// Characters of a line's error that are kept, because an error may quote its line.
const SHOWN: usize = 500;

/// The text on one line, without anything that a terminal would obey or that could pass for a line
/// of a log.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        // Separators of lines, and characters that change the direction of the text after them.
        let acts = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match letter.is_control() || acts {
            true => plain.extend(letter.escape_default()),
            false => plain.push(letter),
        }
    }
    plain
}

/// The lines that [`Lines`](crate::Lines) or [`Csv`](crate::Csv) skipped: their number, and the
/// first ten of them with the reason.
///
/// It is the error with which the producer ends if any line was bad; find it among the report's
/// `producer_errors`, by downcasting the failure's [`error`](Failure::error). Its `Display` is one
/// line: `2 bad lines: line 3: ..; line 7: ..`. Control characters in the reasons are escaped
/// (`\u{1b}`), and a reason is cut after 500 characters.
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

    pub(crate) fn note(&mut self, number: u64, error: &str) {
        self.count += 1;
        // Without the error: it may quote the line, and a log has more readers than the report.
        if self.named.len() < NAMED {
            log::warn!("line {number} is bad and was skipped; the producer's error says why");
            let mut shown: String = error.chars().take(SHOWN).collect();
            if shown.len() < error.len() {
                shown.push('…');
            }
            self.named.push((number, plain(&shown)));
        } else if self.count == NAMED as u64 + 1 {
            // An endless input of bad lines would fill the log.
            log::warn!("line {number} is bad, too; from here on they are only counted");
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
