//! What is kept of a task that has not ended, and how each change makes the next of it. Pure: no
//! clock, no file.

use serde::{Deserialize, Serialize};

use super::note::Note;
use crate::{
    FailureKind,
    task::{End, Event, Illegal, Outcome, StageIx, State, next},
};

/// Enough to go on with a task, or to take it back.
///
/// Its context is not in here: only the file holds that, between a restart and the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) more: More,
    pub(super) undos: Vec<Mark>,
}

/// What there is besides stage and state. Names are short because each row has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct More {
    /// In a column of its own.
    #[serde(skip)]
    pub(super) key: Option<Box<str>>,
    /// Of the stage it is in, from 1.
    #[serde(rename = "a")]
    pub(super) attempt: u32,
    /// How many attempts of this stage ended with the process.
    #[serde(rename = "i", skip_serializing_if = "is_default")]
    pub(super) interrupted: u32,
    /// How many of these were kills.
    #[serde(rename = "x", skip_serializing_if = "is_default")]
    pub(super) kills: u32,
    #[serde(rename = "g", skip_serializing_if = "is_default")]
    pub(super) generation: u32,
    /// An undo of the failed attempt was cancelled, so the next attempt is another generation.
    #[serde(rename = "u", skip_serializing_if = "is_default")]
    pub(super) undone: bool,
    /// Nanoseconds to its deadline, as of `seen`.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<u64>,
    /// Nanoseconds it gets once the first stage takes it up.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    pub(super) work_timeout: Option<u64>,
    /// When `left` was looked at, in milliseconds since 1970.
    #[serde(rename = "s", skip_serializing_if = "is_default")]
    pub(super) seen: u64,
    /// Why it is rolled back.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<Kept<End>>,
    /// It is stuck: what its outcome says.
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    pub(super) stuck: Option<Kept<Outcome>>,
    /// It is stuck because it can't be used as it is, and is as it was before.
    #[serde(rename = "q", skip_serializing_if = "is_default")]
    pub(super) quarantined: bool,
}

/// What is kept of an undo besides its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(rename = "t")]
    pub(super) stage: StageIx,
    #[serde(rename = "a")]
    pub(super) attempt: u32,
    #[serde(rename = "g")]
    pub(super) generation: u32,
    /// How often its cancel was started.
    #[serde(rename = "n")]
    pub(super) tries: u32,
    /// How many of these ended with the process.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    pub(super) interrupted: u32,
    /// Its cancel was started, and has not returned.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub(super) running: bool,
    /// It was cancelled between two attempts.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub(super) cleaned: bool,
    #[serde(rename = "s")]
    pub(super) status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    #[serde(rename = "r")]
    Registered,
    #[serde(rename = "w")]
    Withdrawn,
    #[serde(rename = "c")]
    Cancelled,
    #[serde(rename = "f")]
    Failed(FailureKind, String),
}

/// A part of an outcome, compared by how it is shown: an error has no other identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Kept<T>(pub(super) Box<T>);

impl<T: std::fmt::Debug> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What has to be written besides the task itself.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// The task's own row.
    Row,
    /// The task's own row, with this context.
    Context(Vec<u8>),
    /// Nothing yet: what the last stage returned.
    Output(Vec<u8>),
    /// A new undo, with this value.
    Undo(usize, Vec<u8>),
    /// An undo that has changed, and whether the task's own row has too.
    Undone(usize, bool),
    /// The task has ended and leaves.
    Gone,
    /// The task has ended and stays, because it is stuck.
    Stuck,
}

/// A change that can't have happened to this task.
#[derive(Debug, thiserror::Error)]
pub(super) enum Odd {
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error("undo {0} is not the next one, or none")]
    Undo(usize),
}

impl Live {
    pub(super) fn accepted(
        key: Option<Box<str>>,
        left: Option<u64>,
        work_timeout: Option<u64>,
        now: u64,
    ) -> Self {
        let more = More {
            key,
            attempt: 1,
            left,
            work_timeout,
            seen: if left.is_some() { now } else { 0 },
            ..More::default()
        };
        Live {
            state: State::Queued(0),
            more,
            undos: Vec::new(),
        }
    }

    /// Whether it waits for a person.
    pub(super) fn is_stuck(&self) -> bool {
        self.more.stuck.is_some()
    }

    fn apply(&mut self, event: Event) -> Result<(), Illegal> {
        self.state = next(self.state, event)?;
        Ok(())
    }

    /// The stage it is in; `None` once it is rolled back.
    pub(super) fn stage(&self) -> Option<StageIx> {
        match self.state {
            State::Queued(k) | State::Running(k) | State::Cleaning(k) | State::Stopping(k) => {
                Some(k)
            }
            State::RollingBack | State::Ended => None,
        }
    }

    /// Takes a change in. `last` is the pipeline's last stage.
    pub(super) fn take(&mut self, note: Note, last: StageIx, now: u64) -> Result<Effect, Odd> {
        match note {
            // The first of all; there is no second one.
            Note::Accepted { context, .. } => Ok(Effect::Context(context)),
            Note::Started {
                stage,
                attempt,
                left,
            } => {
                if self.state == State::Cleaning(stage) {
                    self.apply(Event::Cleaned(stage))?;
                    self.more.generation += u32::from(std::mem::take(&mut self.more.undone));
                }
                self.apply(Event::Start(stage))?;
                self.more.attempt = attempt;
                self.more.work_timeout = None;
                if left.is_some() {
                    self.more.left = left;
                    self.more.seen = now;
                }
                Ok(Effect::Row)
            }
            Note::UndoRegistered {
                stage,
                attempt,
                undo,
                value,
            } => {
                if undo != self.undos.len() {
                    return Err(Odd::Undo(undo));
                }
                self.undos.push(Mark {
                    stage,
                    attempt,
                    generation: self.more.generation,
                    tries: 0,
                    interrupted: 0,
                    running: false,
                    cleaned: false,
                    status: Status::Registered,
                });
                Ok(Effect::Undo(undo, value))
            }
            Note::UndoWithdrawn { undo } => {
                self.undo(undo)?.status = Status::Withdrawn;
                Ok(Effect::Undone(undo, false))
            }
            // Written with its end, which follows at once: until then it may run again.
            Note::Finished { stage, output } if stage == last => Ok(Effect::Output(output)),
            Note::Finished { stage, output } => {
                self.apply(Event::Finish(stage))?;
                let more = &mut self.more;
                (more.attempt, more.interrupted, more.kills) = (1, 0, 0);
                (more.generation, more.undone) = (0, false);
                Ok(Effect::Context(output))
            }
            Note::AttemptFailed { stage } => {
                self.apply(Event::CleanUp(stage))?;
                Ok(Effect::Row)
            }
            Note::Stopped { end } => {
                // Whoever decided that may have seen it in the stage before.
                if let Some(stage) = self.stage() {
                    self.apply(Event::Stop)?;
                    self.apply(Event::Stopped(stage))?;
                }
                self.more.end = Some(Kept(end));
                Ok(Effect::Row)
            }
            Note::CancelStarted { undo, attempt } => {
                let mark = self.undo(undo)?;
                mark.tries = attempt;
                mark.running = true;
                Ok(Effect::Undone(undo, false))
            }
            Note::CancelEnded { undo, failure } => {
                let mark = self.undo(undo)?;
                mark.running = false;
                let cancelled = failure.is_none();
                mark.status = match failure {
                    None => Status::Cancelled,
                    Some(failure) => Status::Failed(failure.kind(), crate::guard::shown(&failure)),
                };
                let cleaned = cancelled && matches!(self.state, State::Cleaning(_));
                self.undo(undo)?.cleaned = cleaned;
                let first = cleaned && !self.more.undone;
                self.more.undone |= cleaned;
                Ok(Effect::Undone(undo, first))
            }
            Note::Done => {
                if let State::Running(stage) = self.state {
                    self.apply(Event::Complete(stage))?;
                }
                Ok(Effect::Gone)
            }
            Note::Ended(outcome) => {
                if !outcome.rollback.is_stuck() {
                    return Ok(Effect::Gone);
                }
                if let Some(stage) = self.stage() {
                    // Given up while a stage was still at work on it.
                    self.apply(Event::Stop)?;
                    self.apply(Event::Stopped(stage))?;
                    self.more.end = Some(Kept(Box::new(outcome.end.clone())));
                }
                self.more.stuck = Some(Kept(outcome));
                Ok(Effect::Stuck)
            }
            Note::Resolved => Ok(Effect::Gone),
        }
    }

    fn undo(&mut self, undo: usize) -> Result<&mut Mark, Odd> {
        self.undos.get_mut(undo).ok_or(Odd::Undo(undo))
    }
}
