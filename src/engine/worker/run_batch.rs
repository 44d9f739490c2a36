//! A worker runs a batch: the straight way of a task through its stage.
//!
//! Nearly every task is started, called once, ready at once and passed on, all in [`BatchRun::run`].
//! Whatever has to wait goes on in [`waiting`](super::waiting); what follows from a call that failed,
//! or that was not ready at once, is in [`transitions`](super::transitions).

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use tokio::sync::Semaphore;

use super::{
    call_end::{CallEnd, Flow, StageValue},
    env::{WaitReason, WorkerEnv},
    inbox::{BatchMode, Inbox, Starts},
    tally::Tally,
    transitions::Call,
    waiting::Prepared,
};
use crate::{
    clock::{Cycles, Nanos, Reading},
    failure::{self, Failure},
    ledger::AllRecorded,
    logging, panic_guard,
    shared::hop::Batch,
    stage::{Stage, TaskContext, Watch},
    task::{Event, StopReason, TaskId, TaskRef, fence},
};

/// Time for which a worker may keep its thread from the others before it hands the rest of its batch
/// back: long against the cost of that, short against the runtime's timers.
const BUDGET_NS: Nanos = 200_000;

/// A worker's run of one batch.
pub(super) struct BatchRun<'a, S: Stage> {
    pub(super) env: &'a WorkerEnv<S>,
    pub(super) inbox: &'a Inbox<S::Input>,
    pub(super) mode: BatchMode,
    /// Not started yet, the next one last.
    pub(super) rest: Batch<S::Input>,
    /// Finished, to be sent on together.
    pub(super) out: Batch<S::Output>,
    /// Room at the next stage for that many more results.
    pub(super) reserved: usize,
    /// Tasks that have left the queue and whose room there has not been given back yet.
    pub(super) left_queue: usize,
    /// The time, as of the last call's end.
    pub(super) reading: Reading,
    pub(super) tally: Tally,
    /// The first thing that it had to wait for.
    pub(super) waited: Option<WaitReason>,
    /// It has given its thread to others since it began.
    pub(super) yielded: bool,
    /// It has handed tasks back, which come before all that wait.
    pub(super) handed_back: bool,
    /// It waits for the record of a start: the call has not begun.
    pub(super) preparing: bool,
    /// Its pool knows that it is over.
    pub(super) over: bool,
    /// Records that `out` waits for.
    pub(super) unrecorded: AllRecorded,
}

/// The result of a call's first poll.
enum FirstPoll<O> {
    /// It was ready, and its result is among those to be sent on.
    PassedOn,
    /// It was ready, but its task had ended.
    Stopped,
    /// It was ready, and there is more to do.
    Returned(Result<O, Failure>),
    Pending,
}

/// Runs a batch, and the tasks after it as long as each has to wait for something.
pub(super) async fn run_batch<S: Stage>(
    env: &WorkerEnv<S>,
    inbox: &Inbox<S::Input>,
    stage: &mut S,
    mut batch: Batch<S::Input>,
    mut mode: BatchMode,
) -> StageValue {
    // Calls are polled by hand, with the waker of this very future.
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    loop {
        let mut run = BatchRun::new(env, inbox, batch, mode);
        let began = run.reading.cycles;
        let value = run.run(stage, &waker).await;
        match run.end(value, began) {
            Some(next) => (batch, mode) = (next, WAITS),
            None => return value,
        }
    }
}

/// The mode of a task that a worker takes by itself, which its pool takes for waiting.
const WAITS: BatchMode = BatchMode {
    starts: Starts::Fenced,
    expected_to_wait: true,
};

impl<'a, S: Stage> BatchRun<'a, S> {
    fn new(
        env: &'a WorkerEnv<S>,
        inbox: &'a Inbox<S::Input>,
        mut batch: Batch<S::Input>,
        mode: BatchMode,
    ) -> Self {
        let clock = &env.shared.clock;
        // Taking the last one moves nothing.
        batch.reverse();
        BatchRun {
            env,
            inbox,
            mode,
            rest: batch,
            out: Batch::new(),
            reserved: 0,
            left_queue: 0,
            reading: Reading::take(clock),
            tally: Tally::new(clock),
            waited: None,
            yielded: false,
            handed_back: false,
            preparing: false,
            over: false,
            unrecorded: AllRecorded::default(),
        }
    }

    /// Runs one task after the other.
    async fn run(&mut self, stage: &mut S, waker: &Waker) -> StageValue {
        let env = self.env;
        let clock = &env.shared.clock;
        let began = self.reading.cycles;
        let budget = clock.cycles_in(BUDGET_NS);
        let watch = Watch::default();
        // Nothing to record, to copy or to time: a result can go on without a second look.
        let plain = env.shared.is_plain && env.copy.is_none() && env.config.timeout.is_none();
        loop {
            let hand_back = env.hand_back.load(Ordering::Relaxed);
            if hand_back
                || env.stats.is_paused()
                || self.inbox.is_suspended()
                || self.rest.is_empty()
            {
                return StageValue::Keep;
            }
            let task = self.next_task();
            // Read once: each is an atomic.
            let (id, attempt) = (task.id(), task.attempt());
            if !self.start(&task, id, attempt) {
                panic_guard::drop_quietly(self.next_input());
                self.reading.refresh(clock);
                continue;
            }
            let waited = self.reading.cycles.since(task.queued_at());
            let mut retry_input = None;
            if !plain {
                match self.prepare(&task, id, attempt).await {
                    Prepared::Ready(copied) => retry_input = copied,
                    Prepared::Ended => continue,
                    Prepared::Suspended => return StageValue::Keep,
                    Prepared::Panicked(failure) => {
                        self.tally.start(waited);
                        self.failed(&task, attempt, failure, None);
                        return StageValue::Rebuild;
                    }
                }
            }
            self.tally.start(waited);
            let context = TaskContext::new(&env.shared, &task, id, env.stage, attempt, &watch);
            let call_began = self.reading.cycles;
            let call_now = self.reading.now;
            let mut passed = false;
            let slow = 'call: {
                let mut future = pin!(None);
                // The call is made and polled, and its result passed on, in one go, and nothing is put
                // down in between: a value that is read soon after it was written, and in other pieces,
                // stalls the processor for longer than most of the rest takes.
                let first = failure::catch(|| {
                    future.set(Some(stage.run(self.next_input(), &context)));
                    let Some(call) = future.as_mut().as_pin_mut() else {
                        return FirstPoll::Pending;
                    };
                    let polled = call.poll(&mut Context::from_waker(waker));
                    if polled.is_ready() {
                        // Before anything follows from it: its drop is the user's, and may panic.
                        future.set(None);
                    }
                    match polled {
                        Poll::Ready(Ok(output)) if plain && self.reserve() => {
                            self.reading.refresh(clock);
                            self.count_call(call_began);
                            if self.claim_in_time(&task, id) {
                                self.pass_output(output);
                                FirstPoll::PassedOn
                            } else {
                                panic_guard::drop_quietly(output);
                                // That may have taken its time.
                                self.reading.refresh(clock);
                                FirstPoll::Stopped
                            }
                        }
                        Poll::Ready(result) => FirstPoll::Returned(result),
                        Poll::Pending => FirstPoll::Pending,
                    }
                });
                let end = match first {
                    // The way of nearly every task.
                    Ok(FirstPoll::PassedOn) => {
                        passed = true;
                        break 'call None;
                    }
                    Ok(FirstPoll::Stopped) => break 'call None,
                    Ok(FirstPoll::Returned(result)) => CallEnd::Returned(result),
                    Ok(FirstPoll::Pending) => {
                        self.wait_for_call(&task, &context, future.as_mut(), call_now)
                            .await
                    }
                    Err(failure) => CallEnd::Panicked(failure),
                };
                // A stopped call's future is dropped here, which is the user's code.
                Some(match failure::catch(|| future.set(None)) {
                    Ok(()) => {
                        let value = end.stage_value(env.config.keep_on_abort);
                        (end, value)
                    }
                    Err(failure) => {
                        let end = end.after_drop_panic(failure);
                        let value = end.stage_value(false);
                        (end, value)
                    }
                })
            };
            if let Some((end, value)) = slow {
                self.reading.refresh(clock);
                self.count_call(call_began);
                let call = Call {
                    task,
                    id,
                    attempt,
                    retry_input,
                    began: call_now,
                };
                match self.conclude(call, end).await {
                    Flow::Suspended => return StageValue::Keep,
                    Flow::Continue if value == StageValue::Rebuild => return value,
                    Flow::Continue => {}
                }
                // Dropping the user's values may have taken its time.
                self.reading.refresh(clock);
            } else if passed {
                // Only now: until here the task was lent to its context.
                self.out.tasks.push(task);
            }
            if self.reading.cycles.since(began) > budget {
                return StageValue::Keep;
            }
        }
    }

    /// The next task, where there is one.
    #[inline(always)]
    fn next_task(&mut self) -> TaskRef {
        // Not `pop`, which wraps the value into an option: see `Batch::pop`.
        self.rest.tasks.swap_remove(self.rest.tasks.len() - 1)
    }

    /// The context of the task that was taken last.
    #[inline(always)]
    pub(super) fn next_input(&mut self) -> S::Input {
        self.rest.values.swap_remove(self.rest.values.len() - 1)
    }

    /// Puts that back for a moment.
    pub(super) fn put_back_input(&mut self, input: S::Input) {
        self.rest.values.push(input);
    }

    /// Takes a task up, unless its end is decided by now (G2).
    #[inline(always)]
    fn start(&mut self, task: &TaskRef, id: TaskId, attempt: u32) -> bool {
        let env = self.env;
        if attempt == 1 {
            self.left_queue += 1;
        }
        if self.reading.has_passed(task.deadline(), &env.shared.clock) {
            // No return: `apply` finds it stopped, by this or by an earlier stop.
            task.stop(StopReason::Late);
        }
        // Before the place says running: a stopper reads the place first, then whom to tell.
        task.set_worker(env.worker);
        if task.apply(Event::Start(env.stage)).is_err() {
            env.let_go(task);
            return false;
        }
        if self.mode.starts == Starts::Fenced {
            // The pool may let go of stopped tasks in this batch: at least one of the two sees it.
            fence();
            if task.is_ending() {
                env.let_go(task);
                return false;
            }
        }
        if let Some(deadline) = task.begin_work(|| env.shared.clock.now()) {
            env.shared.table.set_deadline(task.slot, deadline);
        }
        logging::debug!(
            "task {id} stage {} attempt {attempt}: started",
            env.config.name
        );
        true
    }

    /// Claims a result for its task. If it came after the deadline, or after any other end, lets go of the
    /// task and returns `false` (G1).
    #[inline(always)]
    pub(super) fn claim_in_time(&mut self, task: &TaskRef, id: TaskId) -> bool {
        let env = self.env;
        let last = env.is_last_stage();
        let event = if last {
            Event::Complete(env.stage)
        } else {
            Event::Finish(env.stage)
        };
        if self.reading.has_passed(task.deadline(), &env.shared.clock) {
            // Late, even if nobody has noticed yet.
            task.stop(StopReason::Late);
        }
        if task.apply(event).is_err() {
            self.stopped(task);
            return false;
        }
        if !last {
            task.next_stage(self.reading.cycles);
        }
        logging::debug!("task {id} stage {}: finished", env.config.name);
        self.tally.counts.finished += 1;
        true
    }

    /// An attempt came to nothing, because its task was stopped.
    pub(super) fn stopped(&mut self, task: &TaskRef) {
        self.tally.counts.stopped += 1;
        self.env.let_go(task);
    }

    /// Makes sure of room for one more result, reserving for the whole rest at once; `false` when
    /// there is none now.
    #[inline(always)]
    pub(super) fn reserve(&mut self) -> bool {
        match &self.env.hop.room {
            None => true,
            Some(_) if self.reserved > 0 => true,
            Some(room) => self.reserve_more(room),
        }
    }

    #[cold]
    fn reserve_more(&mut self, room: &Semaphore) -> bool {
        let wanted = self.rest.len() + 1;
        let there = room.available_permits().min(wanted);
        // Somebody else may be quicker: then it is tried with one.
        for wanted in [there, 1] {
            if wanted > 0
                && let Ok(permits) = room.try_acquire_many(wanted as u32)
            {
                permits.forget();
                self.reserved = wanted;
                return true;
            }
        }
        false
    }

    /// Puts a result with those to be sent on. Its room was reserved, and its task follows.
    #[inline(always)]
    fn pass_output(&mut self, output: S::Output) {
        self.reserved = self.reserved.saturating_sub(1);
        if self.out.values.capacity() == 0 {
            self.out = self.env.hop.batch(self.rest.len() + 1);
        }
        self.out.values.push(output);
    }

    pub(super) fn pass_on(&mut self, task: TaskRef, output: S::Output) {
        self.pass_output(output);
        self.out.tasks.push(task);
    }

    /// Counts a call and its time.
    #[inline(always)]
    fn count_call(&mut self, began: Cycles) {
        let took = self.reading.cycles.since(began);
        let (clock, stats) = (&self.env.shared.clock, &self.env.stats);
        self.tally.call(took, self.waited.is_some(), clock, stats);
    }
}
