//! What a worker does to a task's life: takes it up, hands it on, gives it back, ends it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::{
    desk::Desk,
    hand::{Hand, Wait},
    pool::FromWorker,
    worker::Seat,
};
use crate::{
    Failure,
    clock::{Reading, nanos},
    error::FailureKind,
    guard,
    ledger::{Change, Value},
    message::ToReporter,
    stage::{Stage, is_stopping},
    task::{Event, StageIx, Stop, TaskId, TaskRef, UndoStatus, fence},
};

pub(super) struct Started {
    pub(super) id: TaskId,
    pub(super) attempt: u32,
}

/// Takes a task up, unless it has ended by now (G2).
#[inline(always)]
pub(super) fn start<S: Stage>(
    seat: &Seat<S>,
    task: &TaskRef,
    hand: &mut Hand<S>,
) -> Option<Started> {
    let (id, attempt) = (task.id(), task.attempt());
    if attempt == 1 {
        hand.left_queue += 1;
    }
    if task.deadline() <= hand.reading.now {
        task.stop(Stop::Late);
    }
    task.set_worker(seat.worker);
    if task.apply(Event::Start(seat.stage)).is_err() {
        stopped(seat, task);
        return None;
    }
    if hand.how.careful {
        fence();
        if task.is_decided() {
            stopped(seat, task);
            return None;
        }
    }
    hand.waits += hand.reading.count.saturating_sub(task.queued_at());
    hand.counts.started += 1;
    if let Some(deadline) = task.begin_work(hand.reading.now) {
        seat.core.table.set_deadline(task.slot, deadline);
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
    if task.deadline() <= hand.reading.now {
        task.stop(Stop::Late);
    }
    let ended = task.is_decided();
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
        hand.step_aside(seat, Wait::Room);
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
    if seat.core.ledger.is_some() {
        match record(seat, hand, &task, id, &output) {
            Noted::Going => {}
            Noted::Over => {
                guard::drop_quietly(output);
                return true;
            }
            Noted::Suspended => {
                guard::drop_quietly(output);
                return false;
            }
        }
    }
    if !taken_in_time(seat, hand, &task, id) {
        guard::drop_quietly(output);
        return true;
    }
    hand.pass_on(seat, task, output);
    true
}

enum Noted {
    /// It is recorded, or will be before the batch is sent on.
    Going,
    /// The task goes no further.
    Over,
    Suspended,
}

/// Records a result while the task is still this worker's, so that nobody else records anything of
/// it meanwhile. Should its end be decided just then, that is recorded later and holds.
fn record<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    id: TaskId,
    output: &S::Output,
) -> Noted {
    if task.deadline() <= hand.reading.now {
        task.stop(Stop::Late);
    }
    if task.is_decided() {
        hand.counts.stopped += 1;
        stopped(seat, task);
        return Noted::Over;
    }
    let change = Change::Finished {
        stage: seat.stage,
        output: Value::of(output),
    };
    match seat.core.record(id, change).ready() {
        Ok(Ok(())) => Noted::Going,
        Ok(Err(error)) if error.is_refused() => {
            let failure = Failure::permanent(error);
            failed(seat, hand, task, failure, None, task.attempt());
            Noted::Over
        }
        Ok(Err(error)) => {
            seat.core.unrecorded(&error);
            Noted::Suspended
        }
        // The worker goes on, and its results once they are recorded.
        Err(later) => {
            hand.hold(later);
            Noted::Going
        }
    }
}

/// Whether a result counts: whether it came before the deadline, and before any other end (G1).
#[inline(always)]
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
    if task.deadline() <= hand.reading.now {
        // Late, even if nobody has noticed yet.
        task.stop(Stop::Late);
    }
    if task.apply(event).is_err() {
        hand.counts.stopped += 1;
        stopped(seat, task);
        return false;
    }
    if !last {
        task.next_stage(hand.reading.count);
    }
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
    // A stop may have been decided just now, its announcement still under way.
    fence();
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

/// Lets go of a task whose end was decided: its rollback may begin (G5).
pub(super) fn stopped<S: Stage>(seat: &Seat<S>, task: &TaskRef) {
    if task.let_go(seat.stage) {
        let (id, attempt) = (task.id(), task.attempt());
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
    if task.deadline() <= now {
        task.stop(Stop::Late);
    }
    if task.is_decided() {
        guard::drop_quietly(copy);
        hand.counts.stopped += 1;
        return stopped(seat, task);
    }
    let id = task.id();
    let tries = if seat.core.ledger.is_some() {
        task.tries(seat.stage)
    } else {
        attempt
    };
    let delay = nanos(seat.settings.retry.delay(tries));
    let due = now.saturating_add(delay);
    // A wait that the deadline would cut short is none: the task fails now, with this error (G10).
    let again = failure.is_retryable() && due < task.deadline();
    if let (true, Some(input)) = (again, copy) {
        // The reporter also sees to it that the failure is recorded before anything follows.
        let cleaning = seat.core.ledger.is_some() || has_undos(task, seat.stage, attempt);
        let event = if cleaning {
            Event::CleanUp(seat.stage)
        } else {
            task.next_attempt(seat.core.clock.count());
            Event::Retry(seat.stage)
        };
        if task.apply(event).is_err() {
            guard::drop_quietly(input);
            hand.counts.stopped += 1;
            return stopped(seat, task);
        }
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
    if task.fail(seat.stage, failure).is_ok() {
        seat.core.tell_reporter(ToReporter::Stopped(task.clone()));
    } else {
        hand.counts.stopped += 1;
        stopped(seat, task);
    }
}

/// Whether an attempt registered an undo that is to be cancelled.
fn has_undos(task: &TaskRef, stage: StageIx, attempt: u32) -> bool {
    task.life().undos.iter().any(|undo| {
        undo.stage == stage
            && undo.attempt == attempt
            && matches!(undo.status, UndoStatus::Registered)
    })
}
