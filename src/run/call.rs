//! A worker's way through a batch: one stage call after the other, and what a call that isn't ready
//! at once waits for.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use tokio::time::sleep_until;

use super::{
    desk::Desk,
    hand::Hand,
    pool::FromWorker,
    turn::{Started, ended_meanwhile, failed, finish, start, stopped, taken_in_time},
    worker::Seat,
};
use crate::{
    Failure,
    clock::{Nanos, Reading, nanos},
    error::FailureKind,
    guard,
    ledger::{Change, Recorded},
    message::Batch,
    stage::{Stage, TaskContext, is_stopping},
    task::{TaskRef, fence},
};

/// How long a worker may keep its thread from the others before it hands the rest of its batch
/// back: long against the cost of that, short against the runtime's timers.
const BUDGET_NS: Nanos = 200_000;

/// How a stage call ended.
pub(super) enum Verdict<O> {
    Returned(Result<O, Failure>),
    Panicked(Failure),
    /// The attempt's own timeout passed, and its future was dropped.
    Overran,
    /// The task was ended, and the call's future was dropped.
    Aborted,
    /// The pipeline was suspended.
    Suspended,
}

/// How a call's first poll went.
enum First<O> {
    /// It was ready, and its result is on its way.
    PassedOn,
    /// It was ready, but its task had ended.
    Stopped,
    /// It was ready, and there is more to do.
    Returned(Result<O, Failure>),
    Pending,
}

/// Runs a batch; `false` when the stage value must not be used again.
pub(super) async fn run_batch<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    batch: Batch<S::Input>,
    careful: bool,
) -> bool {
    let clock = &seat.core.clock;
    let mut hand = Hand::new(batch, clock, careful);
    let began = hand.reading.count;
    let mut kept = true;
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    // Nothing to record, to copy or to time: a result can go on without a second look.
    let plain =
        seat.core.ledger.is_none() && seat.copy.is_none() && seat.settings.timeout.is_none();
    loop {
        if seat.recall.load(Ordering::Relaxed) || seat.core.is_paused() || desk.is_suspended() {
            break;
        }
        let Some((task, input)) = hand.next() else {
            break;
        };
        let Some(started) = start(seat, &task, &mut hand) else {
            guard::drop_quietly(input);
            hand.reading.refresh(clock);
            continue;
        };
        let Started { id, attempt } = started;
        if seat.core.ledger.is_some() {
            let change = Change::Started {
                stage: seat.stage,
                attempt,
            };
            let record = seat.core.record(id, change);
            if !recorded(seat, desk, &mut hand, record).await {
                guard::drop_quietly(input);
                break;
            }
        }
        let copy = match seat.copy {
            Some(copy) if attempt <= seat.settings.retry.retries() => {
                guard::run(|| copy(&input)).map(Some)
            }
            _ => Ok(None),
        };
        // Time has passed since it was taken up, in the ledger or in copying.
        if !plain && ended_meanwhile(seat, &mut hand, &task) {
            guard::drop_quietly((input, copy));
            continue;
        }
        let context = TaskContext::new(&seat.core, &task, id, seat.stage, attempt);
        let call_began = hand.reading.count;
        let call_now = hand.reading.now;
        let mut passed = false;
        let slow = 'call: {
            Some(match copy {
                // A copy that panics is the user's panic, before the stage saw the task.
                Err(failure) => (None, Verdict::Panicked(failure), true),
                Ok(copy) => {
                    let mut future = pin!(None);
                    // The call is made, polled, and its result passed on in one go, so that what
                    // moves through it stays in registers: a value that is written in one size and
                    // read in another stalls the processor longer than all the rest takes.
                    let first = guard::run(|| {
                        future.set(Some(stage.run(input, &context)));
                        let Some(call) = future.as_mut().as_pin_mut() else {
                            return First::Pending;
                        };
                        match call.poll(&mut Context::from_waker(&waker)) {
                            Poll::Ready(Ok(output)) if plain && hand.reserve(&seat.hop) => {
                                hand.reading.refresh(clock);
                                hand.tally(seat, call_began);
                                if taken_in_time(seat, &mut hand, &task, id) {
                                    hand.pass_value(seat, output);
                                    First::PassedOn
                                } else {
                                    guard::drop_quietly(output);
                                    First::Stopped
                                }
                            }
                            Poll::Ready(result) => First::Returned(result),
                            Poll::Pending => First::Pending,
                        }
                    });
                    let verdict = match first {
                        // The way of nearly every task.
                        Ok(First::PassedOn) => {
                            passed = true;
                            break 'call None;
                        }
                        Ok(First::Stopped) => break 'call None,
                        Ok(First::Returned(result)) => Verdict::Returned(result),
                        Ok(First::Pending) => {
                            hand.step_aside(seat);
                            let verdict =
                                wait_for(seat, desk, &task, &context, future.as_mut(), call_now)
                                    .await;
                            hand.reading = Reading::take(clock);
                            verdict
                        }
                        Err(failure) => Verdict::Panicked(failure),
                    };
                    let dropped = match &verdict {
                        // Completed: what is left of it has no drop of the user's.
                        Verdict::Returned(_) => true,
                        _ => guard::run(|| future.set(None)).is_ok(),
                    };
                    (copy, verdict, dropped)
                }
            })
        };
        let Some((copy, verdict, dropped)) = slow else {
            if passed {
                hand.pass_task(task);
            }
            if clock.between(began, hand.reading.count) > BUDGET_NS {
                break;
            }
            continue;
        };
        hand.reading.refresh(clock);
        hand.tally(seat, call_began);
        kept = match &verdict {
            Verdict::Returned(_) => true,
            Verdict::Panicked(_) | Verdict::Suspended => false,
            Verdict::Overran | Verdict::Aborted => seat.settings.keep_on_abort && dropped,
        };
        let verdict = match verdict {
            Verdict::Returned(Ok(output)) => {
                let overran = seat.settings.timeout.is_some_and(|timeout| {
                    hand.reading.now.saturating_sub(call_now) > nanos(timeout)
                });
                if overran {
                    guard::drop_quietly(output);
                    Verdict::Overran
                } else {
                    Verdict::Returned(Ok(output))
                }
            }
            other => other,
        };
        match verdict {
            Verdict::Suspended => {
                guard::drop_quietly(copy);
                break;
            }
            Verdict::Returned(Ok(output)) => {
                guard::drop_quietly(copy);
                let passed_on = finish(seat, desk, &mut hand, task, id, output);
                if !passed_on.await {
                    break;
                }
            }
            Verdict::Aborted => {
                guard::drop_quietly(copy);
                hand.counts.stopped += 1;
                stopped(seat, &task);
            }
            Verdict::Overran => {
                let text = format!("the attempt took longer than {:?}", seat.timeout());
                let failure = Failure::of(FailureKind::AttemptTimeout, text);
                failed(seat, &mut hand, &task, failure, copy, attempt);
            }
            Verdict::Panicked(failure) | Verdict::Returned(Err(failure)) => {
                failed(seat, &mut hand, &task, failure, copy, attempt);
            }
        }
        if !kept || clock.between(began, hand.reading.count) > BUDGET_NS {
            break;
        }
    }
    let pace = hand.pace(clock.between(began, clock.count()));
    let rest = hand.finish(seat);
    if desk.is_suspended() {
        drop(rest);
    } else if kept {
        seat.tell(FromWorker::Idle {
            worker: seat.worker,
            rest,
            pace,
        });
    } else {
        seat.tell(FromWorker::Lost {
            worker: seat.worker,
            rest,
        });
    }
    kept
}

/// Waits for a call that wasn't ready at once.
pub(super) async fn wait_for<S: Stage, F>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    task: &TaskRef,
    context: &TaskContext<'_, S::Undo>,
    mut future: Pin<&mut Option<F>>,
    began: Nanos,
) -> Verdict<S::Output>
where
    F: Future<Output = Result<S::Output, Failure>>,
{
    let mut timer = seat.settings.timeout.map(|timeout| {
        let at = seat
            .core
            .clock
            .instant(began.saturating_add(nanos(timeout)));
        Box::pin(sleep_until(at))
    });
    // A stop may have been decided during the first poll, its announcement still under way.
    fence();
    let mut stopping = is_stopping(task);
    let mut overran = false;
    poll_fn(|cx| {
        if desk.is_suspended() && !context.is_shielded() {
            return Poll::Ready(Verdict::Suspended);
        }
        if desk.take_halt() && is_stopping(task) {
            stopping = true;
        }
        if let Some(timer) = &mut timer
            && !overran
        {
            overran = timer.as_mut().poll(cx).is_ready();
        }
        if stopping {
            context.tell_watchers();
        }
        if (stopping || overran) && !context.is_shielded() {
            return Poll::Ready(if stopping {
                Verdict::Aborted
            } else {
                Verdict::Overran
            });
        }
        if let Some(future) = future.as_mut().as_pin_mut() {
            match guard::poll(future, cx) {
                Poll::Ready(Ok(result)) => return Poll::Ready(Verdict::Returned(result)),
                Poll::Ready(Err(failure)) => return Poll::Ready(Verdict::Panicked(failure)),
                Poll::Pending => {}
            }
        }
        // Its shield may just have ended: this was its last poll.
        if (stopping || overran) && !context.is_shielded() {
            return Poll::Ready(if stopping {
                Verdict::Aborted
            } else {
                Verdict::Overran
            });
        }
        Poll::Pending
    })
    .await
}

/// Waits until a change is recorded, out of the others' way; `false` once suspended.
pub(super) async fn recorded<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    hand: &mut Hand<S>,
    record: Recorded,
) -> bool {
    let result = match record.ready() {
        Ok(result) => Some(result),
        Err(later) => {
            hand.step_aside(seat);
            let mut later = pin!(later);
            let result = poll_fn(|cx| {
                if desk.is_suspended() {
                    return Poll::Ready(None);
                }
                later.as_mut().poll(cx).map(Some)
            })
            .await;
            hand.reading = Reading::take(&seat.core.clock);
            result
        }
    };
    match result {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            seat.core.unrecorded(&error);
            false
        }
        None => false,
    }
}
