//! A worker: an actor that owns a stage value and awaits one call of it at a time.
//!
//! Its body is one future, spawned once in its context. Calls that are ready at once (most are, in
//! a pipeline that hurries) cost no allocation and no wake.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler};
use tokio::time::{Sleep, sleep, sleep_until};

use super::{
    desk::{Desk, Job, ToWorker},
    hand::Hand,
    pool::{FromWorker, Pool},
};
use crate::{
    Failure,
    clock::{Nanos, Reading, nanos},
    core::Core,
    error::FailureKind,
    guard,
    ledger::{Change, Recorded, Value},
    message::{Batch, Hop, ToReporter},
    report::Board,
    stage::{CancelContext, Stage, TaskContext, is_stopping},
    task::{Ended, Event, Life, StageIx, State, TaskId, TaskRef, UndoStatus},
    work::{Factory, Settings},
};

/// How long a worker may keep its thread from the others before it hands the rest of its batch
/// back: long against the cost of that, short against the runtime's timers.
const BUDGET_NS: Nanos = 200_000;

/// What a worker knows of its place.
pub(super) struct Seat<S: Stage> {
    pub(super) core: Arc<Core>,
    pub(super) stage: StageIx,
    pub(super) worker: u32,
    pub(super) settings: Arc<Settings>,
    pub(super) factory: Factory<S>,
    pub(super) copy: Option<fn(&S::Input) -> S::Input>,
    pub(super) pool: Addr<Pool<S>>,
    pub(super) hop: Hop<S::Output>,
    pub(super) room: Arc<tokio::sync::Semaphore>,
    pub(super) board: Arc<Board>,
    /// The pool wants back what has not been started.
    pub(super) recall: Arc<AtomicBool>,
}

/// A worker of a pool.
pub(super) struct Worker<S: Stage> {
    desk: Rc<Desk<S::Input>>,
    body: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<S: Stage> Worker<S> {
    pub(super) fn new(seat: Seat<S>) -> Self {
        let desk = Rc::new(Desk::new());
        let body = body(seat, desk.clone());
        Worker {
            desk,
            body: Some(Box::pin(body)),
        }
    }
}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        if let Some(body) = self.body.take() {
            ctx.spawn(actix::fut::wrap_future(body).map(|(), _: &mut Self, ctx| ctx.stop()));
        }
    }
}

impl<S: Stage> Handler<ToWorker<S::Input>> for Worker<S> {
    type Result = ();

    fn handle(&mut self, message: ToWorker<S::Input>, _: &mut Self::Context) {
        self.desk.put(message);
    }
}

/// How a stage call ended.
enum Verdict<O> {
    Returned(Result<O, Failure>),
    Panicked(Failure),
    /// The attempt's own timeout passed, and its future was dropped.
    Overran,
    /// The task was ended, and the call's future was dropped.
    Aborted,
    /// The pipeline was suspended.
    Suspended,
}

async fn body<S: Stage>(seat: Seat<S>, desk: Rc<Desk<S::Input>>) {
    let mut value: Option<S> = None;
    let mut failures = 0;
    while !desk.is_suspended() {
        let Some(stage) = &mut value else {
            match seat.factory.build() {
                Ok(built) => {
                    value = Some(built);
                    failures = 0;
                    seat.tell(FromWorker::Ready {
                        worker: seat.worker,
                    });
                }
                Err(failure) => {
                    failures += 1;
                    seat.tell(FromWorker::NotBuilt {
                        worker: seat.worker,
                        failure,
                    });
                    if !wait_to_rebuild(&desk, seat.settings.restart.delay(failures)).await {
                        break;
                    }
                }
            }
            continue;
        };
        let Some(job) = desk.next().await else { break };
        let kept = match job {
            Job::Work(batch) => run_batch(&seat, &desk, stage, batch).await,
            Job::Cancel {
                task,
                undo,
                attempt,
            } => run_cancel(&seat, &desk, stage, task, undo, attempt).await,
        };
        if !kept {
            guard::drop_quietly(value.take());
            if desk.is_leaving() {
                break;
            }
        }
    }
    guard::drop_quietly(value);
    seat.tell(FromWorker::Left {
        worker: seat.worker,
    });
}

/// `false` when the worker is to leave instead.
async fn wait_to_rebuild<I>(desk: &Desk<I>, delay: Duration) -> bool {
    let mut delay = pin!(sleep(delay));
    poll_fn(|cx| {
        if desk.is_leaving() {
            return Poll::Ready(false);
        }
        delay.as_mut().poll(cx).map(|()| true)
    })
    .await
}

/// Runs a batch; `false` when the stage value must not be used again.
async fn run_batch<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    batch: Batch<S::Input>,
) -> bool {
    let clock = &seat.core.clock;
    let mut reading = Reading::take(clock);
    let began = reading.count;
    let mut hand = Hand::new(batch);
    let mut waited = false;
    let mut kept = true;
    // Nothing to record, to copy or to time: a result can go on without a second look.
    let plain =
        seat.core.ledger.is_none() && seat.copy.is_none() && seat.settings.timeout.is_none();
    while let Some((task, input)) = hand.next() {
        if seat.recall.load(Ordering::Relaxed) || seat.core.is_paused() || desk.is_suspended() {
            hand.put_back(task, input);
            break;
        }
        let Some(started) = start(seat, &task, &reading, &mut hand) else {
            guard::drop_quietly(input);
            continue;
        };
        let Started { id, attempt } = started;
        if seat.core.ledger.is_some() {
            hand.step_aside(seat, &mut waited);
            let change = Change::Started {
                stage: seat.stage,
                attempt,
            };
            if !recorded(seat, desk, seat.core.record(id, change)).await {
                guard::drop_quietly(input);
                break;
            }
            reading = Reading::take(clock);
            if is_stopping(&task) {
                guard::drop_quietly(input);
                stopped(seat, &task);
                continue;
            }
        }
        let copy = match seat.copy {
            Some(copy) if attempt <= seat.settings.retry.retries() => {
                guard::run(|| copy(&input)).map(Some)
            }
            _ => Ok(None),
        };
        let context = TaskContext::new(&seat.core, &task, id, seat.stage, attempt);
        let call_began = reading.count;
        let call_now = reading.now;
        let mut passed = false;
        let slow = 'call: {
            Some(match copy {
                // A copy that panics is the user's panic, before the stage saw the task.
                Err(failure) => (None, Verdict::Panicked(failure), true),
                Ok(copy) => {
                    // The call itself is made within the future, so that its panic is caught too.
                    let mut future = pin!(Some(async { stage.run(input, &context).await }));
                    let first = poll_fn(|cx| {
                        Poll::Ready(match future.as_mut().as_pin_mut() {
                            Some(future) => guard::poll(future, cx),
                            None => Poll::Pending,
                        })
                    })
                    .await;
                    let verdict = match first {
                        // The way of nearly every task, its result moved but once.
                        Poll::Ready(Ok(Ok(output))) if plain && hand.reserve(&seat.hop) => {
                            reading.refresh(clock);
                            hand.tally(seat, call_began, &reading, &mut waited);
                            passed = taken_in_time(seat, &mut hand, &task, id, &reading);
                            if passed {
                                hand.pass_value(output);
                            } else {
                                guard::drop_quietly(output);
                            }
                            break 'call None;
                        }
                        Poll::Ready(Ok(result)) => Verdict::Returned(result),
                        Poll::Ready(Err(failure)) => Verdict::Panicked(failure),
                        Poll::Pending => {
                            hand.step_aside(seat, &mut waited);
                            let verdict =
                                wait_for(seat, desk, &task, &context, future.as_mut(), call_now)
                                    .await;
                            reading = Reading::take(clock);
                            verdict
                        }
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
            if clock.between(began, reading.count) > BUDGET_NS {
                break;
            }
            continue;
        };
        reading.refresh(clock);
        hand.tally(seat, call_began, &reading, &mut waited);
        kept = match &verdict {
            Verdict::Returned(_) => true,
            Verdict::Panicked(_) | Verdict::Suspended => false,
            Verdict::Overran | Verdict::Aborted => seat.settings.keep_on_abort && dropped,
        };
        let verdict = match verdict {
            Verdict::Returned(Ok(output)) => {
                let overran = seat
                    .settings
                    .timeout
                    .is_some_and(|timeout| reading.now.saturating_sub(call_now) > nanos(timeout));
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
                let passed_on = finish(
                    seat,
                    desk,
                    &mut hand,
                    task,
                    id,
                    output,
                    &mut reading,
                    &mut waited,
                );
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
                failed(seat, &mut hand, &task, failure, copy, reading.now, attempt);
            }
            Verdict::Panicked(failure) | Verdict::Returned(Err(failure)) => {
                failed(seat, &mut hand, &task, failure, copy, reading.now, attempt);
            }
        }
        if !kept || clock.between(began, reading.count) > BUDGET_NS {
            break;
        }
    }
    let pace = hand.pace(clock.between(began, clock.count()), waited);
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

struct Started {
    id: TaskId,
    attempt: u32,
}

/// Takes a task up, unless it has ended by now (G2).
#[inline]
fn start<S: Stage>(
    seat: &Seat<S>,
    task: &TaskRef,
    reading: &Reading,
    hand: &mut Hand<S>,
) -> Option<Started> {
    let mut life = task.life();
    if life.attempt == 1 {
        hand.left_queue += 1;
    }
    if life.deadline <= reading.now {
        if life.stop(Ended::TimedOut).is_some() {
            drop(life);
            seat.core.tell_reporter(ToReporter::Stopped(task.clone()));
        }
        return None;
    }
    life.apply(Event::Start(seat.stage)).ok()?;
    life.worker = seat.worker;
    let (id, attempt) = (life.id, life.attempt);
    hand.waits += seat.core.clock.between(life.queued, reading.count);
    hand.counts.started += 1;
    if let Some(timeout) = life.work_timeout.take() {
        let deadline = reading.now.saturating_add(timeout).min(life.deadline);
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

/// Waits for a call that wasn't ready at once.
async fn wait_for<S: Stage, F>(
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
    // A stop may have been taken during the first poll, its announcement still under way.
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

/// Hands a result on, unless the task has ended by now; `false` once suspended.
#[expect(
    clippy::too_many_arguments,
    reason = "the state of one loop, not a concept"
)]
async fn finish<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    hand: &mut Hand<S>,
    task: TaskRef,
    id: TaskId,
    output: S::Output,
    reading: &mut Reading,
    waited: &mut bool,
) -> bool {
    if !hand.reserve(&seat.hop) {
        hand.step_aside(seat, waited);
        // Until there is room at the next stage, the task counts as running here: it can still be
        // stopped, and its result is then dropped.
        let room = wait_for_room(seat, desk, &task).await;
        *reading = Reading::take(&seat.core.clock);
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
    if !taken_in_time(seat, hand, &task, id, reading) {
        guard::drop_quietly(output);
        return true;
    }
    if seat.core.ledger.is_some() {
        // Its own room is kept; what was reserved for the rest goes back.
        let held = hand.reserved.min(1);
        hand.reserved -= held;
        hand.step_aside(seat, waited);
        let change = Change::Finished {
            stage: seat.stage,
            output: Value::of(&output),
        };
        let recorded = recorded(seat, desk, seat.core.record(id, change)).await;
        *reading = Reading::take(&seat.core.clock);
        if !recorded {
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
fn taken_in_time<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    id: TaskId,
    reading: &Reading,
) -> bool {
    let last = seat.hop.room.is_none();
    let event = if last {
        Event::Complete(seat.stage)
    } else {
        Event::Finish(seat.stage)
    };
    let mut life = task.life();
    if life.deadline <= reading.now || life.apply(event).is_err() {
        // Late, even if nobody has noticed yet.
        life.stop(Ended::TimedOut);
        drop(life);
        hand.counts.stopped += 1;
        stopped(seat, task);
        return false;
    }
    life.attempt = 1;
    life.generation = 0;
    life.queued = reading.count;
    drop(life);
    log::debug!("task {id} stage {}: finished", seat.settings.name);
    hand.counts.finished += 1;
    true
}

enum Room {
    Reserved,
    Stopping,
    Suspended,
}

async fn wait_for_room<S: Stage>(seat: &Seat<S>, desk: &Desk<S::Input>, task: &TaskRef) -> Room {
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
fn stopped<S: Stage>(seat: &Seat<S>, task: &TaskRef) {
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
fn failed<S: Stage>(
    seat: &Seat<S>,
    hand: &mut Hand<S>,
    task: &TaskRef,
    failure: Failure,
    copy: Option<S::Input>,
    now: Nanos,
    attempt: u32,
) {
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
fn has_undos(life: &Life, stage: StageIx, attempt: u32) -> bool {
    life.undos.iter().any(|undo| {
        undo.stage == stage
            && undo.attempt == attempt
            && matches!(undo.status, UndoStatus::Registered)
    })
}

/// Waits until a change is recorded; `false` once suspended.
async fn recorded<S: Stage>(seat: &Seat<S>, desk: &Desk<S::Input>, recorded: Recorded) -> bool {
    let mut recorded = pin!(recorded);
    poll_fn(|cx| {
        if desk.is_suspended() {
            return Poll::Ready(false);
        }
        recorded.as_mut().poll(cx).map(|result| match result {
            Ok(()) => true,
            Err(error) => {
                seat.core.unrecorded(&error);
                false
            }
        })
    })
    .await
}

/// Runs a cancel; `false` when the stage value must not be used again.
async fn run_cancel<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    task: TaskRef,
    number: usize,
    attempt: u32,
) -> bool {
    let mut life = task.life();
    let id = life.id;
    let taken = life
        .undos
        .get_mut(number)
        .and_then(|undo| Some((undo.generation, undo.value.take()?)));
    drop(life);
    let mut kept = true;
    let result = match taken {
        // Only a ledger that was interrupted leaves an undo without its value.
        None => Err(Failure::permanent("the undo was not recorded")),
        Some((generation, value)) => {
            let copy = guard::run(|| value.duplicate());
            if let Some(undo) = task.life().undos.get_mut(number) {
                undo.value = Some(value);
            }
            match copy.map(|copy| copy.downcast::<S::Undo>()) {
                Err(failure) => Err(failure),
                Ok(Err(_)) => Err(Failure::permanent("the undo is of another type")),
                Ok(Ok(undo)) => {
                    log::debug!(
                        "task {id} stage {}: cancelling undo {number}, attempt {attempt}",
                        seat.settings.name
                    );
                    let core = &seat.core;
                    let context = CancelContext {
                        core,
                        id,
                        stage: seat.stage,
                        generation,
                        attempt,
                    };
                    let result;
                    (result, kept) = call_cancel(seat, desk, stage, *undo, &context).await;
                    result
                }
            }
        }
    };
    if desk.is_suspended() {
        return kept;
    }
    seat.board.stats(|stats| match &result {
        Ok(()) => stats.counts.cancelled += 1,
        Err(_) => stats.counts.cancel_failures += 1,
    });
    let shown = result
        .as_ref()
        .err()
        .map_or("done".to_owned(), guard::shown);
    log::debug!(
        "task {id} stage {}: cancel of undo {number}: {shown}",
        seat.settings.name
    );
    let worker = seat.worker;
    seat.tell(FromWorker::Cancelled {
        worker,
        task,
        undo: number,
        result,
        kept,
    });
    kept
}

async fn call_cancel<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    undo: S::Undo,
    context: &CancelContext<'_>,
) -> (Result<(), Failure>, bool) {
    let mut future = pin!(Some(async { stage.cancel(undo, context).await }));
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let verdict = poll_fn(|cx| {
        if desk.is_suspended() {
            return Poll::Ready(Verdict::Suspended);
        }
        if let Some(future) = future.as_mut().as_pin_mut() {
            match guard::poll(future, cx) {
                Poll::Ready(Ok(result)) => return Poll::Ready(Verdict::Returned(result)),
                Poll::Ready(Err(failure)) => return Poll::Ready(Verdict::Panicked(failure)),
                Poll::Pending => {}
            }
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(seat.settings.cancel_timeout)));
        timer.as_mut().poll(cx).map(|()| Verdict::Overran)
    })
    .await;
    let dropped = guard::run(|| future.set(None)).is_ok();
    match verdict {
        Verdict::Returned(result) => (result, dropped),
        Verdict::Panicked(failure) => (Err(failure), false),
        Verdict::Overran | Verdict::Aborted | Verdict::Suspended => {
            let text = format!(
                "the cancel took longer than {:?}",
                seat.settings.cancel_timeout
            );
            let failure = Failure::of(FailureKind::AttemptTimeout, text);
            (Err(failure), seat.settings.keep_on_abort && dropped)
        }
    }
}

impl<S: Stage> Seat<S> {
    pub(super) fn tell(&self, message: FromWorker<S::Input>) {
        self.pool.do_send(message);
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout.unwrap_or_default()
    }
}
