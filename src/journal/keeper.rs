//! The ledger of a pipeline with a journal: encodes what changes, and says what has to wait for it.

use std::any::Any;

use super::{
    note::{Note, nanos_left},
    writer::{Kept, Writer},
};
use crate::{
    Failure, LedgerError, guard,
    keeping::Codec,
    ledger::{Change, KeptOutcome, Ledger, Recorded, Transition, Value},
    task::{End, Outcome, Rollback, StageIx, StageName, TaskId},
};

pub(crate) struct Keeper {
    pub(super) writer: Writer,
    /// Of each stage.
    pub(super) codecs: Vec<Codec>,
    pub(super) names: Vec<StageName>,
    /// Tasks up to this one were there before this run.
    pub(super) recovered: TaskId,
}

impl Keeper {
    fn codec(&self, stage: StageIx) -> Result<&Codec, LedgerError> {
        self.codecs
            .get(stage as usize)
            .ok_or_else(|| LedgerError::new(format_args!("there is no stage {stage}")))
    }

    fn stage_name(&self, stage: StageIx) -> StageName {
        self.names[(stage as usize).min(self.names.len() - 1)].clone()
    }

    /// Whether what follows has to wait for this change.
    ///
    /// What begins need not: after a crash it begins again anyway. Only of tasks that have seen a
    /// crash before it is written first, so that one that crashes the process each time is noticed.
    fn waits(&self, task: TaskId, note: &Note) -> bool {
        match note {
            Note::Started { .. } | Note::CancelStarted { .. } => task <= self.recovered,
            // The end follows at once, and is waited for.
            Note::Finished { stage, .. } => *stage as usize + 1 < self.codecs.len(),
            _ => true,
        }
    }

    fn note(&self, change: Change<'_>, task: TaskId) -> Result<Note, LedgerError> {
        Ok(match change {
            Change::Accepted {
                context,
                key,
                deadline,
                work_timeout,
            } => Note::Accepted {
                key: key.map(short).transpose()?,
                context: encoded(self.codec(0)?.encode_input, context, "the context")?,
                left: nanos_left(deadline),
                work_timeout: nanos_left(work_timeout),
            },
            Change::Started {
                stage,
                attempt,
                deadline,
            } => Note::Started {
                stage,
                attempt,
                left: nanos_left(deadline),
            },
            Change::UndoRegistered {
                stage,
                attempt,
                undo,
                value,
            } => Note::UndoRegistered {
                stage,
                attempt,
                undo,
                value: encoded(self.codec(stage)?.encode_undo, value, "an undo")?,
            },
            Change::UndoWithdrawn { undo } => Note::UndoWithdrawn { undo },
            Change::Finished { stage, output } => Note::Finished {
                stage,
                output: encoded(self.codec(stage)?.encode_output, output, "the output")?,
            },
            Change::AttemptFailed { stage, .. } => Note::AttemptFailed { stage },
            Change::Failed { stage, failure } => Note::Stopped {
                end: Box::new(End::Failed {
                    stage: self.stage_name(stage),
                    failure: plain(failure),
                }),
            },
            Change::TimedOut { stage } => Note::Stopped {
                end: Box::new(End::TimedOut {
                    stage: self.stage_name(stage),
                }),
            },
            Change::Cancelled { stage, cause } => Note::Stopped {
                end: Box::new(End::Cancelled {
                    stage: self.stage_name(stage),
                    cause,
                }),
            },
            Change::CancelStarted { undo, attempt } => Note::CancelStarted { undo, attempt },
            Change::CancelEnded { undo, failure } => Note::CancelEnded {
                undo,
                failure: failure.map(|failure| Box::new(plain(failure))),
            },
            Change::Ended { end: End::Done, .. } => Note::Done,
            Change::Ended { end, rollback } => Note::Ended(Box::new(Outcome {
                task,
                end: match end {
                    End::Failed { stage, failure } => End::Failed {
                        stage: stage.clone(),
                        failure: plain(failure),
                    },
                    other => other.clone(),
                },
                rollback: plain_rollback(rollback),
                output: None,
            })),
            Change::Resolved => Note::Resolved,
        })
    }
}

/// A failure's kind and text, which is all that is kept of it: the error itself is the user's, and
/// must not be shown or dropped on the writer's thread.
fn plain(failure: &Failure) -> Failure {
    let mut text = guard::shown(failure);
    shorten(&mut text);
    Failure::as_shown(failure.kind(), text)
}

/// What is kept of how a rollback went: its texts are the user's too.
fn plain_rollback(rollback: &Rollback) -> Rollback {
    let mut rollback = rollback.clone();
    if let Rollback::Stuck(stuck) = &mut rollback {
        for undo in &mut stuck.undos {
            shorten(&mut undo.undo);
            shorten(&mut undo.error);
        }
    }
    rollback
}

/// A text that is the user's is kept up to here.
const LONGEST: usize = 64 << 10;

fn shorten(text: &mut String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ..");
    }
}

/// The bytes a key may have.
const KEY: usize = 1024;

fn short(key: &str) -> Result<Box<str>, LedgerError> {
    if key.len() > KEY {
        return Err(LedgerError::refused(format_args!(
            "the key has {} bytes, and {KEY} are the most",
            key.len()
        )));
    }
    Ok(key.into())
}

fn encoded(
    encode: fn(Value<'_>) -> Option<Result<Vec<u8>, String>>,
    value: Value<'_>,
    what: &str,
) -> Result<Vec<u8>, LedgerError> {
    match encode(value) {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(why)) => Err(LedgerError::refused(format_args!(
            "{what} can't be encoded: {why}"
        ))),
        None => Err(LedgerError::refused(format_args!(
            "{what} is of another type than its stage says"
        ))),
    }
}

impl Ledger for Keeper {
    fn record(&self, Transition { task, change }: Transition<'_>) -> Recorded {
        let note = match self.note(change, task) {
            Ok(note) => note,
            Err(error) => return Recorded::failed(error),
        };
        if let Note::Accepted { key: Some(_), .. } = &note {
            return match self.writer.keyed(task, note) {
                Err(error) => Recorded::failed(error),
                Ok(answered) => Recorded::later(async { answered.await.map_err(|_| closed())? }),
            };
        }
        let waits = self.waits(task, &note);
        match self.writer.note(task, note, waits) {
            Err(error) => Recorded::failed(error),
            Ok(mark) if waits => Recorded::at(mark),
            Ok(_) => Recorded::now(),
        }
    }

    fn outcome_of(&self, key: &str) -> KeptOutcome {
        let asked = self.writer.outcome_of(key);
        let decode = self.codecs.last().map(|codec| codec.decode_output);
        Box::pin(async move {
            let kept: Option<Kept> = asked?.await.map_err(|_| closed())??;
            let Some((outcome, output)) = kept else {
                return Ok(None);
            };
            let output = match (output, decode) {
                (Some(bytes), Some(decode)) => match decode(&bytes) {
                    Ok(output) => Some(output),
                    Err(why) => {
                        log::warn!("the output of task {} can't be read: {why}", outcome.task);
                        None
                    }
                },
                _ => None,
            };
            Ok(Some(with_output(outcome, output)))
        })
    }

    fn close(&self) {
        self.writer.close();
    }
}

fn with_output(
    outcome: Outcome,
    output: Option<Box<dyn Any + Send>>,
) -> Outcome<Box<dyn Any + Send>> {
    let Outcome {
        task,
        end,
        rollback,
        ..
    } = outcome;
    Outcome {
        task,
        end,
        rollback,
        output,
    }
}

fn closed() -> LedgerError {
    LedgerError::new("the journal was closed")
}
