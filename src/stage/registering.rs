//! How an undo gets into its task's record, and out again, whatever the stage is.

use std::fmt::Debug;

use crate::{
    core::Core,
    error::UndoError,
    ledger::{Change, Recorded, Value},
    task::{StageIx, State, TaskRef, Undo, UndoStatus, Undos},
};

/// Puts an undo into the task's record. Says its number, and whether the task is being stopped.
#[inline]
pub(crate) fn register<U: Clone + Debug + Send + 'static>(
    core: &Core,
    task: &TaskRef,
    stage: StageIx,
    undo: U,
) -> Result<(usize, bool, Option<Recorded>), UndoError> {
    let mut life = task.life();
    let (id, attempt, number) = (task.id(), task.attempt(), life.undos.len());
    if number >= core.max_undos {
        return Err(UndoError::TooMany {
            task: id,
            limit: core.max_undos,
        });
    }
    let stopping = match task.state() {
        State::Running(_) => false,
        State::Stopping(_) => true,
        // It was given up: its rollback is over, so an undo would be lost.
        _ => {
            log::warn!("task {id} was given up; an undo it registers now is refused");
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
    let recorded = if core.ledger.is_none() {
        let kept = life.undos.kept();
        life.undos.push(Undo {
            value: Some(Undos::boxed(kept, undo)),
            ..entry
        });
        drop(life);
        None
    } else {
        // The ledger is not called under a lock. The number is taken, so the order stands.
        life.undos.push(entry);
        drop(life);
        let value = Value::of(&undo);
        let recorded = core.record(
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
                task.life().undos.pop();
                return Err(UndoError::Unrecorded(error.text()));
            }
            Ok(Ok(())) => Recorded::now(),
            Ok(Err(error)) => Recorded::failed(error),
            Err(later) => later,
        };
        task.life().undos[number].value = Some(Box::new(undo));
        Some(recorded)
    };
    log::debug!(
        "task {id} stage {} attempt {attempt}: undo {number} registered",
        core.stage_name(stage)
    );
    Ok((number, stopping, recorded))
}

pub(crate) fn withdraw(core: &Core, task: &TaskRef, stage: StageIx, number: usize) -> Recorded {
    let mut life = task.life();
    let (id, attempt) = (task.id(), task.attempt());
    let Some(undo) = life.undos.get_mut(number) else {
        return Recorded::now();
    };
    // A stage withdraws what its own attempt registered, and nothing else.
    let own = undo.stage == stage && undo.attempt == attempt;
    if !own || !matches!(undo.status, UndoStatus::Registered) {
        return Recorded::now();
    }
    undo.status = UndoStatus::Withdrawn;
    drop(life);
    log::debug!(
        "task {id} stage {}: undo {number} withdrawn",
        core.stage_name(stage)
    );
    core.record(id, Change::UndoWithdrawn { undo: number })
}

/// Waits until a change is recorded; a failure suspends the pipeline.
pub(crate) async fn settle(core: &Core, recorded: Recorded) -> Result<(), UndoError> {
    recorded.await.map_err(|error| {
        if !error.is_refused() {
            core.unrecorded(&error);
        }
        UndoError::Unrecorded(error.text())
    })
}
