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
    desk::{Desk, How},
    hand::{Hand, Wait},
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
    stage::{Stage, TaskContext, Watch, is_stopping},
    task::{TaskId, TaskRef, fence},
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

impl<O> Verdict<O> {
    /// What it is once the call's future has panicked when it was dropped.
    fn unless_dropped_by(self, failure: Failure) -> Self {
        match self {
            Verdict::Returned(result) => {
                guard::drop_quietly(result);
                Verdict::Panicked(failure)
            }
            other => other,
        }
    }
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
    how: How,
) -> bool {
    let clock = &seat.core.clock;
    let mut hand = Hand::new(batch, clock, how);
    let began = hand.reading.count;
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let watch = Watch::default();
    let budget = clock.counts_in(BUDGET_NS);
    // Nothing to record, to copy or to time: a result can go on without a second look.
    let plain =
        seat.core.ledger.is_none() && seat.copy.is_none() && seat.settings.timeout.is_none();
    let kept = loop {
        let recalled = seat.recall.load(Ordering::Relaxed);
        if recalled || seat.core.is_paused() || desk.is_suspended() || hand.is_empty() {
            break true;
        }
        let task = hand.next_task();
        let Some(Started { id, attempt }) = start(seat, &task, &mut hand) else {
            guard::drop_quietly(hand.next_value());
            hand.reading.refresh(clock);
            continue;
        };
        let mut copy = None;
        if !plain {
            match prepare(seat, desk, &mut hand, &task, id, attempt).await {
                Prepared::Ready(copied) => copy = copied,
                Prepared::Ended => continue,
                Prepared::Suspended => break true,
                Prepared::Panicked(failure) => {
                    failed(seat, &mut hand, &task, failure, None, attempt);
                    break false;
                }
            }
        }
        let context = TaskContext::new(&seat.core, &task, id, seat.stage, attempt, &watch);
        let call_began = hand.reading.count;
        let call_now = hand.reading.now;
        let mut passed = false;
        let slow = 'call: {
            let mut future = pin!(None);
            // The call is made and polled, and its result passed on, in one go, and nothing is put
            // down in between: a value that is read soon after it was written, and in other pieces,
            // stalls the processor for longer than most of the rest takes.
            let first = guard::run(|| {
                future.set(Some(stage.run(hand.next_value(), &context)));
                let Some(call) = future.as_mut().as_pin_mut() else {
                    return First::Pending;
                };
                let polled = call.poll(&mut Context::from_waker(&waker));
                if polled.is_ready() {
                    // Before anything follows from it: its drop is the user's, and may panic.
                    future.set(None);
                }
                match polled {
                    Poll::Ready(Ok(output)) if plain && hand.reserve(&seat.hop) => {
                        hand.reading.refresh(clock);
                        hand.tally(seat, call_began);
                        if taken_in_time(seat, &mut hand, &task, id) {
                            hand.pass_value(seat, output);
                            First::PassedOn
                        } else {
                            guard::drop_quietly(output);
                            // Which may have taken its time.
                            hand.reading.refresh(clock);
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
                    hand.step_aside(seat, Wait::Call);
                    let call = future.as_mut();
                    let verdict = wait_for(seat, desk, &task, &context, call, call_now).await;
                    hand.reading = Reading::take(clock);
                    verdict
                }
                Err(failure) => Verdict::Panicked(failure),
            };
            Some(match guard::run(|| future.set(None)) {
                Ok(()) => (verdict, true),
                Err(failure) => (verdict.unless_dropped_by(failure), false),
            })
        };
        if let Some((verdict, dropped)) = slow {
            hand.reading.refresh(clock);
            hand.tally(seat, call_began);
            let call = Call {
                task,
                id,
                attempt,
                copy,
                began: call_now,
            };
            match conclude(seat, desk, &mut hand, call, verdict, dropped).await {
                Some(true) => {}
                Some(false) => break false,
                None => break true,
            }
            // What was dropped meanwhile may have taken its time.
            hand.reading.refresh(clock);
        } else if passed {
            hand.pass_task(task);
        }
        if hand.reading.count.saturating_sub(began) > budget {
            break true;
        }
    };
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

/// What is done about a task that was taken up, before its stage is called.
enum Prepared<I> {
    /// A copy of the input, for another attempt.
    Ready(Option<I>),
    Ended,
    Suspended,
    /// While the input was copied: the user's panic, before the stage saw the task.
    Panicked(Failure),
}

/// Records that a task was taken up, and copies its input.
async fn prepare<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    id: TaskId,
    attempt: u32,
) -> Prepared<S::Input> {
    // What is left in the hand may be handed back while this waits.
    let input = hand.next_value();
    if seat.core.ledger.is_some() {
        let first = seat.stage == 0 && attempt == 1;
        let change = Change::Started {
            stage: seat.stage,
            attempt,
            // It may have got one only now.
            deadline: first.then(|| seat.core.left(task.deadline())).flatten(),
        };
        let record = seat.core.record(id, change);
        if !recorded(seat, desk, hand, record).await {
            guard::drop_quietly(input);
            return Prepared::Suspended;
        }
    }
    let copied = match seat.copy {
        Some(copy) if tries(seat, task, attempt) <= seat.settings.retry.retries() => {
            guard::run(|| copy(&input)).map(Some)
        }
        _ => Ok(None),
    };
    // Time has passed since it was taken up, in the ledger or in copying.
    if ended_meanwhile(seat, hand, task) {
        guard::drop_quietly((input, copied));
        return Prepared::Ended;
    }
    match copied {
        Ok(copy) => {
            hand.put_back_value(input);
            Prepared::Ready(copy)
        }
        Err(failure) => {
            guard::drop_quietly(input);
            Prepared::Panicked(failure)
        }
    }
}

/// Which try this attempt is: those that ended with the process don't count.
fn tries<S: Stage>(seat: &Seat<S>, task: &TaskRef, attempt: u32) -> u32 {
    if seat.core.ledger.is_some() {
        task.tries(seat.stage)
    } else {
        attempt
    }
}

/// A call that is over.
struct Call<I> {
    task: TaskRef,
    id: TaskId,
    attempt: u32,
    copy: Option<I>,
    began: Nanos,
}

/// What follows from a call that was not quick. Whether the stage value may be used again; `None`
/// once suspended.
async fn conclude<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    hand: &mut Hand<S>,
    call: Call<S::Input>,
    verdict: Verdict<S::Output>,
    dropped: bool,
) -> Option<bool> {
    let Call {
        task,
        id,
        attempt,
        copy,
        began,
    } = call;
    let kept = match &verdict {
        Verdict::Returned(_) => true,
        Verdict::Panicked(_) | Verdict::Suspended => false,
        Verdict::Overran | Verdict::Aborted => seat.settings.keep_on_abort && dropped,
    };
    let took = hand.reading.now.saturating_sub(began);
    let overran = |timeout| took > nanos(timeout);
    match verdict {
        Verdict::Suspended => {
            guard::drop_quietly(copy);
            return Some(false);
        }
        Verdict::Returned(Ok(output)) if seat.settings.timeout.is_some_and(overran) => {
            guard::drop_quietly(output);
            failed(seat, hand, &task, overrun(seat), copy, attempt);
        }
        Verdict::Returned(Ok(output)) => {
            guard::drop_quietly(copy);
            if !finish(seat, desk, hand, task, id, output).await {
                return None;
            }
        }
        Verdict::Aborted => {
            guard::drop_quietly(copy);
            hand.counts.stopped += 1;
            stopped(seat, &task);
        }
        Verdict::Overran => failed(seat, hand, &task, overrun(seat), copy, attempt),
        Verdict::Panicked(failure) | Verdict::Returned(Err(failure)) => {
            failed(seat, hand, &task, failure, copy, attempt);
        }
    }
    Some(kept)
}

fn overrun<S: Stage>(seat: &Seat<S>) -> Failure {
    let text = format!("the attempt took longer than {:?}", seat.timeout());
    Failure::of(FailureKind::AttemptTimeout, text)
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
            hand.step_aside(seat, Wait::Record);
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
