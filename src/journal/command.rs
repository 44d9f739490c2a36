//! A decision about a task that another process has, and the answer.

// Only a store that several processes use has others.
#![cfg_attr(not(feature = "postgres"), allow(dead_code))]

/// A decision about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Cancel,
    Retry,
    Resolve,
}

impl Decision {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Decision::Cancel => "cancel",
            Decision::Retry => "retry",
            Decision::Resolve => "resolve",
        }
    }

    /// The decision with this name; `None` if it is one of a later version.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Decision::Cancel, Decision::Retry, Decision::Resolve];
        all.into_iter().find(|decision| decision.as_str() == name)
    }
}

/// The answer of the process that had to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The decision has taken.
    Done,
    /// The task had ended, or was about to for another reason.
    Ended,
    /// The reason, for people.
    Refused(String),
}

const ENDED: &str = "ended";
const REFUSED: &str = "refused: ";

impl Answer {
    pub(super) fn read(text: &str) -> Self {
        match text {
            "cancelled" | "retried" | "resolved" => Answer::Done,
            ENDED => Answer::Ended,
            other => Answer::Refused(other.strip_prefix(REFUSED).unwrap_or(other).to_owned()),
        }
    }

    /// The text of the answer to this decision.
    pub(super) fn text(&self, to: Decision) -> String {
        match (self, to) {
            (Answer::Done, Decision::Cancel) => "cancelled".to_owned(),
            (Answer::Done, Decision::Retry) => "retried".to_owned(),
            (Answer::Done, Decision::Resolve) => "resolved".to_owned(),
            (Answer::Ended, _) => ENDED.to_owned(),
            (Answer::Refused(why), _) => format!("{REFUSED}{why}"),
        }
    }
}

/// A decision that waits for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) number: i64,
    pub(super) task: u64,
    pub(super) decision: Decision,
    /// The task has ended since this process was told of it.
    pub(super) gone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        for decision in [Decision::Cancel, Decision::Retry, Decision::Resolve] {
            assert_eq!(Decision::named(decision.as_str()), Some(decision));
            for answer in [
                Answer::Done,
                Answer::Ended,
                Answer::Refused("task 4 is not stuck".to_owned()),
            ] {
                assert_eq!(Answer::read(&answer.text(decision)), answer);
            }
        }
        assert_eq!(Decision::named("dance"), None);
    }
}
