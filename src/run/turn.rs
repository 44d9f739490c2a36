//! What a worker does to a task's life: takes it up, hands it on, gives it back, ends it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::{call::recorded, desk::Desk, hand::Hand, pool::FromWorker, worker::Seat};
use crate::{
    Failure,
    clock::{Reading, nanos},
    error::FailureKind,
    guard,
    ledger::{Change, Value},
    message::ToReporter,
    stage::{Stage, is_stopping},
    task::{Ended, Event, Life, StageIx, State, TaskId, TaskRef, UndoStatus},
};

pub(super) struct Started {
    pub(super) id: TaskId,
    pub(super) attempt: u32,
}

/// Takes a task up, unless it has ended by now (G2).
#[inline]
pub(super) fn start<S: Stage>(
    seat: &Seat<S>,
    task: &TaskRef,
    hand: &mut Hand<S>,
) -> Option<Started> {
    let mut life = task.life();
    if life.attempt == 1 {
        hand.left_queue += 1;
    }
    if life.deadline <= hand.reading.now {
        if life.stop(Ended::TimedOut).is_some() {
            drop(life);
            seat.core.tell_reporter(ToReporter::Stopped(task.clone()));
        }
        return None;
    }
    life.apply(Event::Start(seat.stage)).ok()?;
    life.worker = seat.worker;
    let (id, attempt) = (life.id, life.attempt);
    hand.waits += seat.core.clock.between(life.queued, hand.reading.count);
    hand.counts.started += 1;
    if let Some(timeout) = life.work_timeout.take() {
        let deadline = hand.reading.now.saturating_add(timeout).min(life.deadline);
        life.deadline = deadline;
        drop(life);
        seat.core.table.set_deadline(task.slot, deadline);
    } else {
        drop(life);
    }
    log::debug!(
        "task {id} stage {} attempt {attempt}: started",
        seat.settings.name
    );
    Some(Started { id, attempt })
}

/// Whether a task that was taken up has ended before its stage was called: it isn't called then.
pub(super) fn ended_meanwhile<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
) -> bool {
    hand.reading.refresh(&seat.core.clock);
    let mut life = task.life();
    if life.deadline <= hand.reading.now {
        life.stop(Ended::TimedOut);
    }
    let ended = !matches!(life.state, State::Running(_));
    drop(life);
    if ended {
        hand.counts.stopped += 1;
        stopped(seat, task);
    }
    ended
}

/// Hands a result on, unless the task has ended by now; `false` once suspended.
pub(super) async fn finish<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    hand: &mut Hand<S>,
    task: TaskRef,
    id: TaskId,
    output: S::Output,
) -> bool {
    if !hand.reserve(&seat.hop) {
        hand.step_aside(seat);
        // Until there is room at the next stage, the task counts as running here: it can still be
        // stopped, and its result is then dropped.
        let room = wait_for_room(seat, desk, &task).await;
        hand.reading = Reading::take(&seat.core.clock);
        match room {
            Room::Reserved => hand.reserved = 1,
            Room::Stopping => {
                guard::drop_quietly(output);
                hand.counts.stopped += 1;
                stopped(seat, &task);
                return true;
            }
            Room::Suspended => {
                guard::drop_quietly(output);
                return false;
            }
        }
    }
    if !taken_in_time(seat, hand, &task, id) {
        guard::drop_quietly(output);
        return true;
    }
    if seat.core.ledger.is_some() {
        // Its own room is kept; what was reserved for the rest goes back where this has to wait.
        let held = hand.reserved.min(1);
        hand.reserved -= held;
        let change = Change::Finished {
            stage: seat.stage,
            output: Value::of(&output),
        };
        let record = seat.core.record(id, change);
        if !recorded(seat, desk, hand, record).await {
            guard::drop_quietly(output);
            return false;
        }
        hand.reserved += held;
    }
    hand.pass_on(task, output);
    true
}

/// Whether a result counts: whether it came before the deadline, and before any other end (G1).
#[inline]
pub(super) fn taken_in_time<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    id: TaskId,
) -> bool {
    let last = seat.hop.room.is_none();
    let event = if last {
        Event::Complete(seat.stage)
    } else {
        Event::Finish(seat.stage)
    };
    let mut life = task.life();
    if life.deadline <= hand.reading.now || life.apply(event).is_err() {
        // Late, even if nobody has noticed yet.
        life.stop(Ended::TimedOut);
        drop(life);
        hand.counts.stopped += 1;
        stopped(seat, task);
        return false;
    }
    life.attempt = 1;
    life.generation = 0;
    life.queued = hand.reading.count;
    drop(life);
    log::debug!("task {id} stage {}: finished", seat.settings.name);
    hand.counts.finished += 1;
    true
}

pub(super) enum Room {
    Reserved,
    Stopping,
    Suspended,
}

pub(super) async fn wait_for_room<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    task: &TaskRef,
) -> Room {
    let Some(room) = seat.hop.room.as_deref() else {
        return Room::Reserved;
    };
    let mut acquire = pin!(room.acquire());
    let mut stopping = is_stopping(task);
    poll_fn(|cx| {
        if desk.is_suspended() {
            return Poll::Ready(Room::Suspended);
        }
        if stopping || desk.take_halt() && is_stopping(task) {
            stopping = true;
            return Poll::Ready(Room::Stopping);
        }
        match acquire.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(permit)) => {
                permit.forget();
                Poll::Ready(Room::Reserved)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Room::Suspended),
        }
    })
    .await
}

/// What was working on an ended task has stopped: its rollback may begin (G5).
pub(super) fn stopped<S: Stage>(seat: &Seat<S>, task: &TaskRef) {
    let mut life = task.life();
    if life.apply(Event::Stopped(seat.stage)).is_ok() {
        let (id, attempt) = (life.id, life.attempt);
        drop(life);
        log::debug!(
            "task {id} stage {} attempt {attempt}: stopped",
            seat.settings.name
        );
        seat.core.tell_reporter(ToReporter::Stopped(task.clone()));
    }
}

/// An attempt failed: another one, or the end.
pub(super) fn failed<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    failure: Failure,
    copy: Option<S::Input>,
    attempt: u32,
) {
    let now = hand.reading.now;
    hand.counts.failed += 1;
    if failure.kind() == FailureKind::Panic {
        hand.counts.panicked += 1;
    }
    let mut life = task.life();
    if life.deadline <= now {
        life.stop(Ended::TimedOut);
    }
    if matches!(life.state, State::Stopping(_)) {
        drop(life);
        guard::drop_quietly(copy);
        hand.counts.stopped += 1;
        return stopped(seat, task);
    }
    let id = life.id;
    let delay = nanos(seat.settings.retry.delay(attempt));
    let due = now.saturating_add(delay);
    // A wait that the deadline would cut short is none: the task fails now, with this error (G10).
    let again = failure.is_retryable() && due < life.deadline;
    if let (true, Some(input)) = (again, copy) {
        // The reporter also sees to it that the failure is recorded before anything follows.
        let cleaning = seat.core.ledger.is_some() || has_undos(&life, seat.stage, attempt);
        let event = if cleaning {
            Event::CleanUp(seat.stage)
        } else {
            Event::Retry(seat.stage)
        };
        if life.apply(event).is_err() {
            return;
        }
        if !cleaning {
            life.attempt += 1;
            life.queued = seat.core.clock.count();
        }
        drop(life);
        hand.counts.retried += 1;
        let what = if cleaning {
            "cleaning up"
        } else {
            "to be retried"
        };
        log::debug!(
            "task {id} stage {} attempt {attempt}: failed, {what}: {}",
            seat.settings.name,
            guard::shown(&failure)
        );
        // The pool first: it must know the task before the reporter answers for it.
        seat.tell(FromWorker::Retry {
            task: task.clone(),
            input,
            due,
            cleaning,
        });
        if cleaning {
            let (task, stage) = (task.clone(), seat.stage);
            seat.core.tell_reporter(ToReporter::CleanUp {
                task,
                stage,
                failure,
            });
        }
        return;
    }
    log::debug!(
        "task {id} stage {} attempt {attempt}: failed: {}",
        seat.settings.name,
        guard::shown(&failure)
    );
    if life.fail(seat.stage, failure).is_ok() {
        drop(life);
        seat.core.tell_reporter(ToReporter::Stopped(task.clone()));
    }
}

/// Whether an attempt registered an undo that is to be cancelled.
pub(super) fn has_undos(life: &Life, stage: StageIx, attempt: u32) -> bool {
    life.undos.iter().any(|undo| {
        undo.stage == stage
            && undo.attempt == attempt
            && matches!(undo.status, UndoStatus::Registered)
    })
}
