//! The reporter's part in a rollback or a clean-up: it sends one cancel after the other, each once
//! the one before was answered, and what happens is recorded first.

mod recorded;
mod stuck;

use std::{mem, sync::Arc};

use actix::{AsyncContext, Context};
use tokio::task::AbortHandle;

pub(super) use self::recorded::Then;
use self::stuck::stuck;
use super::{
    reporter::{Reporter, StagePolicy, Step},
    rollback::{Next, Policy, Rollback},
};
use crate::{
    Failure, guard,
    ledger::{Change, Recorded},
    message::ToPool,
    task::{Ended, Event, Rollback as Went, StageIx, TaskRef, UndoStatus, end_of, fence},
};

/// A rollback or clean-up under way.
pub(super) struct Course {
    pub(super) task: TaskRef,
    /// Tells a course from one that took its place.
    number: u64,
    rollback: Rollback,
    /// A clean-up: the stage's error, should it fail.
    cleaning: Option<(StageIx, Failure)>,
    /// What it waits for.
    pub(super) waiting: Waiting,
    timer: Option<AbortHandle>,
}

impl Course {
    fn new(task: TaskRef, number: u64, rollback: Rollback) -> Self {
        Course {
            task,
            number,
            rollback,
            cleaning: None,
            waiting: Waiting::Record,
            timer: None,
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A record, then a step.
    Record,
    /// The record of its end, which holds whatever happens now.
    End,
    /// A cancel's answer.
    Cancel(usize),
    /// The delay before another try of this undo.
    Delay(usize),
}

impl Reporter {
    pub(super) fn policy(&self, stage: StageIx) -> &StagePolicy {
        &self.stages[(stage as usize).min(self.stages.len() - 1)]
    }

    fn next_course(&mut self) -> u64 {
        self.last_course += 1;
        self.last_course
    }

    /// Nothing works on this task any more: begins its rollback.
    pub(super) fn stopped(&mut self, task: TaskRef, ctx: &mut Context<Self>) {
        let id = task.id();
        let life = task.life();
        let Some(end) = life.end.clone() else { return };
        drop(life);
        let change = match &*end {
            Ended::Failed(stage, failure) => Change::Failed {
                stage: *stage,
                failure,
            },
            Ended::TimedOut(stage) => Change::TimedOut { stage: *stage },
            Ended::Cancelled(stage, cause) => Change::Cancelled {
                stage: *stage,
                cause: *cause,
            },
        };
        let recorded = self.core.record(id, change);
        self.begin(task, 0, recorded, ctx);
    }

    /// A rollback was under way when the process before ended, and is recorded as such, with what it
    /// has cancelled.
    #[cfg(feature = "journal")]
    pub(super) fn roll_back(&mut self, task: TaskRef, cancelled: usize, ctx: &mut Context<Self>) {
        self.begin(task, cancelled, Recorded::now(), ctx);
    }

    fn begin(
        &mut self,
        task: TaskRef,
        cancelled: usize,
        recorded: Recorded,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        let life = task.life();
        let on_stuck = |stage| self.policy(stage).on_stuck;
        let rollback = Rollback::last(&life.undos, self.order, on_stuck).after(cancelled);
        drop(life);
        let course = Course::new(task, self.next_course(), rollback);
        self.courses.insert(slot, course);
        self.after(slot, recorded, Then::Begin, ctx);
    }

    /// An attempt was interrupted by the end of the process before, and is recorded as such.
    #[cfg(feature = "journal")]
    pub(super) fn resumed(&mut self, task: TaskRef, stage: StageIx, ctx: &mut Context<Self>) {
        let why = "its process ended, and what it had done then could not be taken back";
        let failure = Failure::of(crate::FailureKind::Interrupted, why);
        self.clean(task, stage, failure, Recorded::now(), ctx);
    }

    /// An attempt failed and will be repeated: cancels what it registered first.
    pub(super) fn clean_up(
        &mut self,
        task: TaskRef,
        stage: StageIx,
        failure: Failure,
        ctx: &mut Context<Self>,
    ) {
        let change = Change::AttemptFailed {
            stage,
            attempt: task.attempt(),
            failure: &failure,
        };
        let recorded = self.core.record(task.id(), change);
        self.clean(task, stage, failure, recorded, ctx);
    }

    fn clean(
        &mut self,
        task: TaskRef,
        stage: StageIx,
        failure: Failure,
        recorded: Recorded,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        let life = task.life();
        let rollback = Rollback::clean_up(&life.undos, stage, task.attempt(), self.order);
        drop(life);
        let mut course = Course::new(task, self.next_course(), rollback);
        course.cleaning = Some((stage, failure));
        self.courses.insert(slot, course);
        self.after(slot, recorded, Then::Begin, ctx);
    }

    pub(super) fn step(&mut self, slot: u32, next: Next, ctx: &mut Context<Self>) {
        // A clean-up whose task was ended meanwhile becomes the final rollback.
        let retrying = match next {
            Next::Again(undo, _) => Some(undo),
            Next::Cancel(_) | Next::Over(_) => None,
        };
        if self.interrupt(slot, retrying, ctx) {
            return;
        }
        match next {
            Next::Cancel(undo) => self.announce(slot, undo, ctx),
            Next::Again(undo, n) => {
                let Some(course) = self.courses.get(&slot) else {
                    return;
                };
                let stage = course.task.life().undos[undo].stage;
                let delay = self.policy(stage).cancel_retry.delay(n);
                let Some(course) = self.courses.get_mut(&slot) else {
                    return;
                };
                course.waiting = Waiting::Delay(undo);
                let (to_self, task) = (ctx.address(), course.task.clone());
                // Not in the context, which polls all it holds at every wake.
                let timer = actix_rt::spawn(async move {
                    tokio::time::sleep(delay).await;
                    to_self.do_send(Step::Delayed { task, undo });
                });
                course.timer = Some(timer.abort_handle());
            }
            Next::Over(left) => self.over(slot, &left, ctx),
        }
    }

    /// Records that an undo's cancel begins, then sends it.
    pub(super) fn announce(&mut self, slot: u32, undo: usize, ctx: &mut Context<Self>) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        course.waiting = Waiting::Record;
        let id = course.task.id();
        let mut life = course.task.life();
        let entry = &mut life.undos[undo];
        entry.tries += 1;
        let attempt = entry.tries;
        drop(life);
        let recorded = self
            .core
            .record(id, Change::CancelStarted { undo, attempt });
        self.after(slot, recorded, Then::Send(undo), ctx);
    }

    pub(super) fn send(&mut self, slot: u32, undo: usize) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        course.waiting = Waiting::Cancel(undo);
        let task = course.task.clone();
        let life = task.life();
        let (stage, attempt) = (life.undos[undo].stage, life.undos[undo].tries);
        drop(life);
        self.core.tell_pool(
            stage,
            ToPool::Cancel {
                task,
                undo,
                attempt,
            },
        );
    }

    pub(super) fn cancel_done(
        &mut self,
        task: &TaskRef,
        undo: usize,
        result: Result<(), Failure>,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        match self.courses.get(&slot) {
            Some(course)
                if Arc::ptr_eq(&course.task, task) && course.waiting == Waiting::Cancel(undo) => {}
            // Of a task that was given up.
            _ => return,
        }
        let failure = result.err();
        let mut life = task.life();
        let (id, stage) = (task.id(), life.undos[undo].stage);
        let status = match &failure {
            None => UndoStatus::Cancelled,
            Some(failure) => UndoStatus::Failed(failure.clone()),
        };
        let before = mem::replace(&mut life.undos[undo].status, status);
        drop(life);
        // The error of the try before, perhaps: the user's.
        guard::drop_quietly(before);
        let policy = self.policy(stage);
        let failed = failure.as_ref().map(|failure| Policy {
            retries: policy.cancel_retry.retries(),
            retryable: failure.is_retryable() || failure.kind() == crate::FailureKind::Panic,
            on_stuck: policy.on_stuck,
        });
        let change = Change::CancelEnded {
            undo,
            failure: failure.as_ref(),
        };
        let recorded = self.core.record(id, change);
        self.after(slot, recorded, Then::Settle(failed), ctx);
    }

    /// A clean-up whose task was ended: if no cancel is under way, begins the final rollback.
    /// `retrying` is the undo whose cancel has failed, but not for good.
    pub(super) fn interrupt(
        &mut self,
        slot: u32,
        retrying: Option<usize>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let Some(course) = self.courses.get(&slot) else {
            return false;
        };
        let Some((stage, _)) = course.cleaning else {
            return false;
        };
        fence();
        if !course.task.is_decided() || !course.task.let_go(stage) {
            return false;
        }
        let mut life = course.task.life();
        let before = retrying
            .and_then(|undo| life.undos.get_mut(undo))
            .map(|undo| mem::replace(&mut undo.status, UndoStatus::Registered));
        drop(life);
        guard::drop_quietly(before);
        if let Some(course) = self.courses.remove(&slot) {
            self.stopped(course.task.clone(), ctx);
            // Its pool still holds the input for the attempt that won't come.
            self.core.tell_pool(stage, ToPool::Cleaned);
        }
        true
    }

    pub(super) fn over(&mut self, slot: u32, left: &[usize], ctx: &mut Context<Self>) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        if let Some((stage, failure)) = course.cleaning.take() {
            let undone = course.rollback.cancelled() > 0;
            let task = course.task.clone();
            self.courses.remove(&slot);
            if undone {
                task.next_generation();
            }
            let on = left.is_empty() && task.apply(Event::Cleaned(stage)).is_ok();
            if on {
                task.next_attempt(self.core.clock.count());
            } else if task.fail(stage, failure).is_err() {
                // Ended from outside just now, after `step` had looked for that.
                task.let_go(stage);
            }
            if !on {
                self.stopped(task, ctx);
            }
            self.core.tell_pool(stage, ToPool::Cleaned);
            return;
        }
        let went = if left.is_empty() {
            match course.rollback.cancelled() {
                0 => Went::None,
                undos => Went::Complete { undos },
            }
        } else {
            Went::Stuck(stuck(&self.core, &course.task, left, None))
        };
        let task = course.task.clone();
        self.conclude(&task, went, ctx);
    }

    /// Records a task's end, then files it.
    pub(super) fn conclude(&mut self, task: &TaskRef, went: Went, ctx: &mut Context<Self>) {
        let id = task.id();
        let Some(end) = end_of(task, &self.core.stages) else {
            return;
        };
        let recorded = self.core.record(
            id,
            Change::Ended {
                end: &end,
                rollback: &went,
            },
        );
        self.after(task.slot, recorded, Then::File(Box::new((end, went))), ctx);
    }
}
