//! The way of an undo into its task's record, and out again, whatever the stage is.

use std::fmt::Debug;

use super::error::UndoError;
use crate::{
    ledger::{Change, Recorded, Value},
    logging,
    report::{Event, EventKind},
    shared::Shared,
    task::{StageIx, State, TaskRef, Undo, UndoStatus, Undos},
};

/// Puts an undo into the task's record. Returns its number, `true` if the task is being stopped, and its
/// record (`None` without a ledger).
#[inline]
pub(crate) fn register<U: Clone + Debug + Send + 'static>(
    shared: &Shared,
    task: &TaskRef,
    stage: StageIx,
    undo: U,
) -> Result<(usize, bool, Option<Recorded>), UndoError> {
    let mut details = task.details();
    let (id, attempt, number) = (task.id(), task.attempt(), details.undos.len());
    if number >= shared.max_undos {
        return Err(UndoError::TooMany {
            task: id,
            limit: shared.max_undos,
        });
    }
    let stopping = match task.state() {
        State::Running(_) => false,
        State::Stopping(_) => true,
        // It was given up: its rollback is over, so an undo would be lost.
        _ => {
            // The logger is the program's code.
            drop(details);
            logging::warning!("task {id} was given up; an undo it registers now is refused");
            return Err(UndoError::Stopping(id));
        }
    };
    let generation = task.generation();
    let entry = Undo {
        stage,
        attempt,
        generation,
        value: None,
        status: UndoStatus::Registered,
        tries: 0,
    };
    let recorded = if shared.is_plain {
        let kept = details.undos.kept();
        details.undos.push(Undo {
            value: Some(Undos::boxed(kept, undo)),
            ..entry
        });
        drop(details);
        None
    } else if shared.ledger.is_none() {
        details.undos.push(Undo {
            value: Some(Box::new(undo)),
            ..entry
        });
        drop(details);
        note(shared, task, stage, number);
        None
    } else {
        // The ledger is not called under a lock. The number is taken, so the order stands.
        details.undos.push(entry);
        drop(details);
        let value = Value::of(&undo);
        let recorded = shared.record(
            id,
            Change::UndoRegistered {
                stage,
                attempt,
                undo: number,
                value,
            },
        );
        let recorded = match recorded.ready() {
            Ok(Err(error)) if error.is_refused() => {
                // It is none, and the next one gets its number. Nobody else registers any meanwhile.
                task.details().undos.pop();
                return Err(UndoError::Unrecorded(error.text()));
            }
            Ok(Ok(())) => Recorded::now(),
            Ok(Err(error)) => Recorded::failed(error),
            Err(later) => later,
        };
        task.details().undos[number].value = Some(Box::new(undo));
        note(shared, task, stage, number);
        Some(recorded)
    };
    logging::debug!(
        "task {id} stage {} attempt {attempt}: undo {number} registered",
        shared.stage_name(stage)
    );
    Ok((number, stopping, recorded))
}

/// Tells the recorder, if there is one.
fn note(shared: &Shared, task: &TaskRef, stage: StageIx, undo: usize) {
    if let Some(recorder) = &shared.board.recorder {
        let (now, number) = (shared.clock.cycles(), undo as u32);
        recorder.add_one(task, Event::new(now, stage, EventKind::Registered, number));
    }
}

pub(crate) fn withdraw(shared: &Shared, task: &TaskRef, stage: StageIx, number: usize) -> Recorded {
    let mut details = task.details();
    let (id, attempt) = (task.id(), task.attempt());
    let Some(undo) = details.undos.get_mut(number) else {
        return Recorded::now();
    };
    // A stage withdraws what its own attempt registered, and nothing else.
    let own = undo.stage == stage && undo.attempt == attempt;
    if !own || !matches!(undo.status, UndoStatus::Registered) {
        return Recorded::now();
    }
    undo.status = UndoStatus::Withdrawn;
    drop(details);
    logging::debug!(
        "task {id} stage {}: undo {number} withdrawn",
        shared.stage_name(stage)
    );
    shared.record(id, Change::UndoWithdrawn { undo: number })
}

/// Waits until a change is recorded; a failure suspends the pipeline.
pub(crate) async fn settle(shared: &Shared, recorded: Recorded) -> Result<(), UndoError> {
    recorded.await.map_err(|error| {
        if !error.is_refused() {
            shared.suspend(&error);
        }
        UndoError::Unrecorded(error.text())
    })
}
