//! The transitions of a task whose call has ended and was not simply passed on: it is recorded and
//! handed on, tried again, failed, or let go of.

use super::{
    call_end::{CallEnd, Flow},
    env::{FromWorker, NextAttempt},
    run_batch::BatchRun,
    waiting::Room,
};
use crate::{
    clock::{Nanos, nanos},
    failure::{Failure, FailureKind},
    ledger::{Change, Value},
    logging, panic_guard,
    report::EventKind,
    shared::messages::ToReporter,
    stage::Stage,
    task::{Event, TaskId, TaskRef},
};

/// A call that has ended.
pub(super) struct Call<I> {
    pub(super) task: TaskRef,
    pub(super) id: TaskId,
    pub(super) attempt: u32,
    /// A copy of the input, for another attempt.
    pub(super) retry_input: Option<I>,
    pub(super) began: Nanos,
}

/// The state of a result's record.
enum ResultRecord {
    /// It is recorded, or will be before the batch is sent on.
    Going,
    /// The task goes no further.
    Over,
    Suspended,
}

impl<S: Stage> BatchRun<'_, S> {
    /// Does what follows from a call's end.
    pub(super) async fn conclude(&mut self, call: Call<S::Input>, end: CallEnd<S::Output>) -> Flow {
        let Call {
            task,
            id,
            attempt,
            retry_input,
            began,
        } = call;
        let took = self.reading.now.saturating_sub(began);
        let timed_out = |timeout| took > nanos(timeout);
        match end {
            CallEnd::Suspended => panic_guard::drop_quietly(retry_input),
            // A blocking call that returned too late.
            CallEnd::Returned(Ok(output)) if self.env.config.timeout.is_some_and(timed_out) => {
                panic_guard::drop_quietly(output);
                self.failed(&task, attempt, self.attempt_timeout(), retry_input);
            }
            CallEnd::Returned(Ok(output)) => {
                panic_guard::drop_quietly(retry_input);
                return self.finish(task, id, output).await;
            }
            CallEnd::Aborted => {
                if !self.env.shared.is_plain {
                    self.note(&task, EventKind::AttemptEnded, attempt);
                }
                panic_guard::drop_quietly(retry_input);
                self.stopped(&task);
            }
            CallEnd::TimedOut => {
                self.failed(&task, attempt, self.attempt_timeout(), retry_input);
            }
            CallEnd::Panicked(failure) | CallEnd::Returned(Err(failure)) => {
                self.failed(&task, attempt, failure, retry_input);
            }
        }
        Flow::Continue
    }

    fn attempt_timeout(&self) -> Failure {
        let text = format!("the attempt took longer than {:?}", self.env.timeout());
        Failure::of(FailureKind::AttemptTimeout, text)
    }

    /// Hands a result on, unless the task's end is decided by now.
    async fn finish(&mut self, task: TaskRef, id: TaskId, output: S::Output) -> Flow {
        if !self.reserve() {
            match self.wait_for_room(&task).await {
                Room::Reserved => self.reserved = 1,
                Room::Stopped => {
                    panic_guard::drop_quietly(output);
                    self.stopped(&task);
                    return Flow::Continue;
                }
                Room::Suspended => {
                    panic_guard::drop_quietly(output);
                    return Flow::Suspended;
                }
            }
        }
        let attempt = task.attempt();
        if self.env.shared.ledger.is_some() {
            match self.record_result(&task, id, &output) {
                ResultRecord::Going => {}
                ResultRecord::Over => {
                    panic_guard::drop_quietly(output);
                    return Flow::Continue;
                }
                ResultRecord::Suspended => {
                    panic_guard::drop_quietly(output);
                    return Flow::Suspended;
                }
            }
        }
        if self.claim_in_time(&task, id) {
            if !self.env.shared.is_plain {
                self.note(&task, EventKind::Finished, attempt);
            }
            self.pass_on(task, output);
        } else {
            if !self.env.shared.is_plain {
                self.note(&task, EventKind::AttemptEnded, attempt);
            }
            panic_guard::drop_quietly(output);
        }
        Flow::Continue
    }

    /// Records a result while the task is still this worker's, so that nobody else records anything of
    /// it meanwhile. Should its end be decided just then, that is recorded later and holds.
    fn record_result(&mut self, task: &TaskRef, id: TaskId, output: &S::Output) -> ResultRecord {
        if self.stop_if_late(task) {
            self.stopped(task);
            return ResultRecord::Over;
        }
        let change = Change::Finished {
            stage: self.env.stage,
            output: Value::of(output),
        };
        match self.env.shared.record(id, change).ready() {
            Ok(Ok(())) => ResultRecord::Going,
            Ok(Err(error)) if error.is_refused() => {
                let failure = Failure::permanent(error);
                self.failed(task, task.attempt(), failure, None);
                ResultRecord::Over
            }
            Ok(Err(error)) => {
                self.env.shared.suspend(&error);
                ResultRecord::Suspended
            }
            // The worker goes on, and its results once they are recorded.
            Err(later) => {
                self.unrecorded.add(later);
                ResultRecord::Going
            }
        }
    }

    /// An attempt failed: the task is tried again, or fails.
    pub(super) fn failed(
        &mut self,
        task: &TaskRef,
        attempt: u32,
        failure: Failure,
        retry_input: Option<S::Input>,
    ) {
        let env = self.env;
        if !env.shared.is_plain {
            self.note(task, EventKind::AttemptEnded, attempt);
        }
        if failure.kind() == FailureKind::Panic {
            self.tally.counts.panicked += 1;
        }
        if self.stop_if_late(task) {
            panic_guard::drop_quietly(retry_input);
            return self.stopped(task);
        }
        let delay = nanos(env.config.retry.delay(self.tries(task, attempt)));
        let due = self.reading.now.saturating_add(delay);
        // If the backoff would outlast the deadline, don't wait: fail now with this error (G10).
        let again = failure.is_retryable() && due < task.deadline();
        if let (true, Some(input)) = (again, retry_input) {
            return self.retry(task, attempt, failure, input, due);
        }
        logging::debug!(
            "task {} stage {} attempt {attempt}: failed: {}",
            task.id(),
            env.config.name,
            panic_guard::shown(&failure)
        );
        if task.fail(env.stage, failure).is_ok() {
            self.tally.counts.failed += 1;
            env.shared.tell_reporter(ToReporter::Stopped(task.clone()));
        } else {
            self.stopped(task);
        }
    }

    fn retry(
        &mut self,
        task: &TaskRef,
        attempt: u32,
        failure: Failure,
        input: S::Input,
        due: Nanos,
    ) {
        let env = self.env;
        // With a ledger the reporter also sees to it that the failure is recorded before anything
        // follows.
        let next = if env.shared.ledger.is_some() || task.has_undos(env.stage, attempt) {
            NextAttempt::AfterCleanUp
        } else {
            NextAttempt::WhenDue
        };
        let event = match next {
            NextAttempt::AfterCleanUp => Event::CleanUp(env.stage),
            NextAttempt::WhenDue => {
                task.next_attempt(env.shared.clock.cycles());
                Event::Retry(env.stage)
            }
        };
        if task.apply(event).is_err() {
            panic_guard::drop_quietly(input);
            return self.stopped(task);
        }
        self.tally.counts.failed += 1;
        self.tally.counts.retried += 1;
        logging::debug!(
            "task {} stage {} attempt {attempt}: failed, {}: {}",
            task.id(),
            env.config.name,
            match next {
                NextAttempt::AfterCleanUp => "cleaning up",
                NextAttempt::WhenDue => "to be retried",
            },
            panic_guard::shown(&failure)
        );
        // The pool first: it must know the task before the reporter answers for it.
        env.tell(FromWorker::Retry {
            task: task.clone(),
            input,
            due,
            next,
        });
        if next == NextAttempt::AfterCleanUp {
            env.shared.tell_reporter(ToReporter::CleanUp {
                task: task.clone(),
                stage: env.stage,
                failure,
            });
        }
    }
}
