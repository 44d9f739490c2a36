//! The way of an undo into its task's record, and out again, whatever the stage is.

use std::fmt::Debug;

use super::error::UndoError;
use crate::{
    ledger::{Change, Recorded, Value},
    logging,
    report::{Event, EventKind},
    shared::Shared,
    task::{StageIx, State, TaskRef, Undo, UndoStatus},
};

/// An undo's place in its task's record.
pub(crate) struct Place {
    /// Among the undos of its task.
    pub(crate) number: usize,
    /// Its task is being stopped.
    pub(crate) is_stopping: bool,
}

/// Puts an undo into its task's record, where there is no ledger.
#[inline(always)]
pub(crate) fn register<U: Clone + Debug + Send + 'static>(
    shared: &Shared,
    task: &TaskRef,
    stage: StageIx,
    undo: U,
) -> Result<Place, UndoError> {
    let mut details = task.details();
    let place = match place(shared, task, &details.undos) {
        Ok(place) => place,
        Err(error) => {
            drop(details);
            return Err(refused(error));
        }
    };
    let (attempt, generation) = (task.attempt(), task.generation());
    details.undos.register(stage, attempt, generation, undo);
    drop(details);
    if !shared.is_plain {
        note(shared, task, stage, place.number);
    }
    say(shared, task, stage, place.number);
    Ok(place)
}

/// The same where there is one: the effect waits until the undo is recorded there.
pub(crate) fn record<U: Clone + Debug + Send + 'static>(
    shared: &Shared,
    task: &TaskRef,
    stage: StageIx,
    undo: U,
) -> Result<(Place, Recorded), UndoError> {
    let mut details = task.details();
    let place = match place(shared, task, &details.undos) {
        Ok(place) => place,
        Err(error) => {
            drop(details);
            return Err(refused(error));
        }
    };
    let (attempt, number) = (task.attempt(), place.number);
    // The ledger is not called under a lock. The number is taken, so the order stands.
    details.undos.push(Undo {
        stage,
        attempt,
        generation: task.generation(),
        value: None,
        status: UndoStatus::Registered,
        tries: 0,
    });
    drop(details);
    let value = Value::of(&undo);
    let change = Change::UndoRegistered {
        stage,
        attempt,
        undo: number,
        value,
    };
    let recorded = match shared.record(task.id(), change).ready() {
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
    say(shared, task, stage, number);
    Ok((place, recorded))
}

/// The place of the next undo, unless there is none for it.
#[inline(always)]
fn place(shared: &Shared, task: &TaskRef, undos: &[Undo]) -> Result<Place, UndoError> {
    let number = undos.len();
    if number >= shared.max_undos {
        return Err(UndoError::TooMany {
            task: task.id(),
            limit: shared.max_undos,
        });
    }
    let is_stopping = match task.state() {
        State::Running(_) => false,
        State::Stopping(_) => true,
        // It was given up: its rollback is over, so an undo would be lost.
        _ => return Err(UndoError::Stopping(task.id())),
    };
    Ok(Place {
        number,
        is_stopping,
    })
}

/// Under no lock: the logger is the program's code.
#[cold]
fn refused(error: UndoError) -> UndoError {
    if let UndoError::Stopping(id) = &error {
        logging::warning!("task {id} was given up; an undo it registers now is refused");
    }
    error
}

#[inline(always)]
fn say(shared: &Shared, task: &TaskRef, stage: StageIx, number: usize) {
    logging::debug!(
        "task {} stage {} attempt {}: undo {number} registered",
        task.id(),
        shared.stage_name(stage),
        task.attempt()
    );
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
