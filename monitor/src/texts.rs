//! Texts and numbers on their way into JSON.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use batrun::{
    Outcome,
    state::{End, Rollback},
};
use serde::{Serialize, Serializer};

/// A whole number as a string, since JavaScript's numbers end at 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) u64);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl From<Duration> for Whole {
    fn from(time: Duration) -> Self {
        Whole(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes of a text that are shown.
const MOST: usize = 4_096;

type Redact = dyn Fn(&str) -> String + Send + Sync;

/// Texts as they are shown: redacted by the application's hook, and of bounded length.
#[derive(Clone, Default)]
pub(crate) struct Texts(pub(crate) Option<Arc<Redact>>);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Texts").field(&self.0.is_some()).finish()
    }
}

impl Texts {
    pub(crate) fn show(&self, text: &str) -> String {
        let text = match &self.0 {
            Some(redact) => redact(text),
            None => text.to_owned(),
        };
        cut(text)
    }

    /// On one line, and with nothing in it that turns the direction of what follows.
    pub(crate) fn show_line(&self, text: impl fmt::Display) -> String {
        one_line(&self.show_any(text))
    }

    pub(crate) fn show_any(&self, text: impl fmt::Display) -> String {
        self.show(&text.to_string())
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match letter.is_control() || turns {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

fn cut(mut text: String) -> String {
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" …");
    }
    text
}

/// An outcome without values.
pub(crate) fn without_values(outcome: &mut Outcome) {
    outcome.key = None;
    if let Rollback::Stuck(stuck) = &mut outcome.rollback {
        stuck.key = None;
        stuck
            .undos
            .iter_mut()
            .for_each(|undo| undo.undo = HIDDEN.to_owned());
    }
}

/// In place of a value.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The stage in which a task ended, and its error.
pub(crate) fn end_of(end: &End) -> (Option<&str>, Option<String>) {
    match end {
        End::Failed { stage, failure } => (Some(stage), Some(failure.to_string())),
        End::TimedOut { stage } => (Some(stage), Some("timed out".to_owned())),
        End::Cancelled { stage, .. } => (Some(stage), Some("cancelled".to_owned())),
        _ => (None, None),
    }
}

/// The text with each run of digits as one sign, so that errors that differ by a number are one group.
pub(crate) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_ascii_digit() {
            true if masked.ends_with('#') => {}
            true => masked.push('#'),
            false => masked.push(letter),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_stay_whole() {
        let text = serde_json::to_string(&[Whole(u64::MAX), Whole::from(Duration::MAX)]).unwrap();
        assert_eq!(text, r#"["18446744073709551615","18446744073709551615"]"#);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Texts::default().show(&"ä".repeat(5_000));
        assert_eq!(long, "ä".repeat(2_048) + " …");
    }

    #[test]
    fn a_line_is_one_line() {
        let line = Texts::default().show_line("a\u{1b}[2J\nb\u{202e}c <b>\u{2028}");
        assert_eq!(line, r"a\u{1b}[2J\nb\u{202e}c <b>\u{2028}");
    }

    #[test]
    fn errors_that_differ_by_numbers_are_one_group() {
        assert_eq!(
            masked("port 8080: timed out after 30 s"),
            "port #: timed out after # s"
        );
        assert_eq!(masked("12"), masked("7"));
        assert_eq!(masked("#1"), "#");
    }
}
