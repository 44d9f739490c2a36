//! A worker waits while it runs a batch: for a call that was not ready at once, room at the
//! next stage, a record.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::sleep_until;

use super::{
    call_end::{CallEnd, Flow},
    env::WaitReason,
    run_batch::BatchRun,
};
use crate::{
    clock::{Nanos, Reading, nanos},
    failure::{self, Failure},
    ledger::{AllRecorded, Change, Recorded},
    panic_guard,
    shared::{hop::Batch, messages::ToReporter},
    stage::{Stage, TaskContext},
    task::{StopReason, TaskId, TaskRef, fence},
};

/// The result of preparing a call.
pub(super) enum Prepared<I> {
    /// With a copy of the input, if there may be another attempt.
    Ready(Option<I>),
    /// The task's end is decided by now.
    Ended,
    Suspended,
    /// Copying the input panicked, before the stage saw the task.
    Panicked(Failure),
}

/// The end of a wait for room.
pub(super) enum Room {
    Reserved,
    /// The task was stopped meanwhile.
    Stopped,
    Suspended,
}

impl<S: Stage> BatchRun<'_, S> {
    /// Records that a task was taken up, and copies its input for another attempt.
    pub(super) async fn prepare(
        &mut self,
        task: &TaskRef,
        id: TaskId,
        attempt: u32,
    ) -> Prepared<S::Input> {
        let env = self.env;
        // The rest of the batch may be handed back while this waits.
        let input = self.next_input();
        if !env.shared.is_plain {
            self.note_start(task, attempt);
        }
        if env.shared.ledger.is_some() {
            let first = env.stage == 0 && attempt == 1;
            let change = Change::Started {
                stage: env.stage,
                attempt,
                // It may have got one only now.
                deadline: first
                    .then(|| env.shared.time_left(task.deadline()))
                    .flatten(),
            };
            let record = env.shared.record(id, change);
            self.preparing = true;
            let flow = self.wait_for_record(record).await;
            self.preparing = false;
            if flow == Flow::Suspended {
                panic_guard::drop_quietly(input);
                return Prepared::Suspended;
            }
        }
        let copied = match env.copy {
            Some(copy) if self.tries(task, attempt) <= env.config.retry.retries() => {
                failure::catch(|| copy(&input)).map(Some)
            }
            _ => Ok(None),
        };
        // Time has passed since it was taken up, in the ledger or in copying.
        self.reading.refresh(&env.shared.clock);
        if self.stop_if_late(task) {
            // No attempt: it is not counted as one.
            env.let_go(task);
            panic_guard::drop_quietly((input, copied));
            return Prepared::Ended;
        }
        match copied {
            Ok(copy) => {
                self.put_back_input(input);
                Prepared::Ready(copy)
            }
            Err(failure) => {
                panic_guard::drop_quietly(input);
                Prepared::Panicked(failure)
            }
        }
    }

    /// Stops the task if its deadline has passed. `true` if its end is decided, for this or another
    /// reason.
    pub(super) fn stop_if_late(&mut self, task: &TaskRef) -> bool {
        if self
            .reading
            .has_passed(task.deadline(), &self.env.shared.clock)
        {
            task.stop(StopReason::Late);
        }
        task.is_ending()
    }

    /// The number of this try: attempts that ended with the process don't count.
    pub(super) fn tries(&self, task: &TaskRef, attempt: u32) -> u32 {
        if self.env.shared.ledger.is_some() {
            task.tries(self.env.stage)
        } else {
            attempt
        }
    }

    /// Waits for a call that was not ready at once, out of the others' way.
    pub(super) async fn wait_for_call<F>(
        &mut self,
        task: &TaskRef,
        context: &TaskContext<'_, S::Undo>,
        mut future: Pin<&mut Option<F>>,
        began: Nanos,
    ) -> CallEnd<S::Output>
    where
        F: Future<Output = Result<S::Output, Failure>>,
    {
        self.step_aside(WaitReason::Call);
        let (env, inbox) = (self.env, self.inbox);
        let clock = &env.shared.clock;
        let mut timer = env.config.timeout.map(|timeout| {
            let at = clock.instant(began.saturating_add(nanos(timeout)));
            Box::pin(sleep_until(at))
        });
        // A stop may have been decided during the first poll, its announcement still under way.
        fence();
        let mut stopped = !task.is_running();
        let mut timed_out = false;
        let end = self
            .give_way(poll_fn(|cx| {
                if inbox.is_suspended() && !context.is_shielded() {
                    return Poll::Ready(CallEnd::Suspended);
                }
                if inbox.take_check_stop() && !task.is_running() {
                    stopped = true;
                }
                if let Some(timer) = &mut timer
                    && !timed_out
                {
                    timed_out = timer.as_mut().poll(cx).is_ready();
                }
                if stopped {
                    context.wake_watchers();
                }
                let dropped = || match (stopped, timed_out) {
                    _ if context.is_shielded() => None,
                    (true, _) => Some(CallEnd::Aborted),
                    (false, true) => Some(CallEnd::TimedOut),
                    (false, false) => None,
                };
                if let Some(end) = dropped() {
                    return Poll::Ready(end);
                }
                if let Some(future) = future.as_mut().as_pin_mut() {
                    match failure::catch_poll(future, cx) {
                        Poll::Ready(Ok(result)) => return Poll::Ready(CallEnd::Returned(result)),
                        Poll::Ready(Err(failure)) => {
                            return Poll::Ready(CallEnd::Panicked(failure));
                        }
                        Poll::Pending => {}
                    }
                }
                // Its shield may just have ended: this was its last poll then.
                dropped().map_or(Poll::Pending, Poll::Ready)
            }))
            .await;
        self.reading = Reading::take(clock);
        end
    }

    /// Waits for room at the next stage, out of the others' way. The task counts as running here
    /// meanwhile: it can still be stopped, and its result is then dropped.
    pub(super) async fn wait_for_room(&mut self, task: &TaskRef) -> Room {
        self.step_aside(WaitReason::Room);
        let inbox = self.inbox;
        let Some(room) = self.env.hop.room.as_deref() else {
            return Room::Reserved;
        };
        let mut acquire = pin!(room.acquire());
        // A stop may have been decided just now, its announcement still under way.
        fence();
        let stopped = !task.is_running();
        let got = self
            .give_way(poll_fn(|cx| {
                if inbox.is_suspended() {
                    return Poll::Ready(Room::Suspended);
                }
                if stopped || inbox.take_check_stop() && !task.is_running() {
                    return Poll::Ready(Room::Stopped);
                }
                acquire.as_mut().poll(cx).map(|permit| match permit {
                    Ok(permit) => {
                        permit.forget();
                        Room::Reserved
                    }
                    Err(_) => Room::Suspended,
                })
            }))
            .await;
        self.reading = Reading::take(&self.env.shared.clock);
        got
    }

    /// Waits until a change is recorded, out of the others' way.
    pub(super) async fn wait_for_record(&mut self, record: Recorded) -> Flow {
        let result = match record.ready() {
            Ok(result) => Some(result),
            Err(later) => {
                self.step_aside(WaitReason::Record);
                let inbox = self.inbox;
                let mut later = pin!(later);
                let result = self
                    .give_way(poll_fn(|cx| {
                        if inbox.is_suspended() {
                            return Poll::Ready(None);
                        }
                        later.as_mut().poll(cx).map(Some)
                    }))
                    .await;
                self.reading = Reading::take(&self.env.shared.clock);
                result
            }
        };
        match result {
            Some(Ok(())) => Flow::Continue,
            Some(Err(error)) => {
                self.env.shared.suspend(&error);
                Flow::Suspended
            }
            None => Flow::Suspended,
        }
    }

    /// Waits, and remembers if it has given its thread to others for that.
    async fn give_way<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let polled = wait.as_mut().poll(cx);
            self.yielded |= polled.is_pending();
            polled
        })
        .await
    }

    /// Sends a batch on once all of it is recorded; the worker goes on meanwhile, or leaves: its thread
    /// may end before that, so it is none of its business any more.
    pub(super) fn send_once_recorded(&mut self, out: Batch<S::Output>) {
        let records: AllRecorded = std::mem::take(&mut self.unrecorded);
        let (shared, hop) = (self.env.shared.clone(), self.env.hop.clone());
        let sent = async move {
            match records.wait().await {
                Ok(()) if shared.is_suspended() => {}
                Ok(()) => hop.send(out),
                Err(error) => shared.suspend(&error),
            }
        };
        let message = ToReporter::RunDetached(Box::pin(sent));
        self.env.shared.tell_reporter(message);
    }
}
