//! Drives a rollback, or the clean-up between two attempts: it sends one `Cancel` after the other, each
//! once the one before was answered, and records each step before it takes it.

use std::{mem, sync::Arc};

use actix::{AsyncContext, Context};
use tokio::task::AbortHandle;

use super::{
    Reporter, StagePolicy, ToSelf,
    after_record::AfterRecord,
    rollback_plan::{FailedCancel, NextStep, RollbackPlan},
    stuck::list_left,
};
#[cfg(feature = "journal")]
use crate::failure::FailureKind as Kind;
use crate::{
    clock::Cycles,
    failure::{Failure, FailureKind},
    ledger::{Change, Recorded},
    panic_guard,
    report::{EventKind, Events},
    shared::messages::ToPool,
    task::{End, EndReason, Event, Rollback, StageIx, TaskRef, UndoStatus, fence},
};

/// A rollback or clean-up under way.
pub(super) struct ActiveRollback {
    pub(super) task: TaskRef,
    /// Tells it from one that took its place.
    pub(super) number: u64,
    pub(super) plan: RollbackPlan,
    /// For a clean-up: the stage, and its error should the clean-up fail.
    cleaning: Option<(StageIx, Failure)>,
    pub(super) waiting_for: WaitingFor,
    /// The counter's value when it began.
    pub(super) began: Cycles,
    /// The undos that it has run, with their times.
    pub(super) steps: Events,
    timer: Option<AbortHandle>,
}

impl ActiveRollback {
    pub(super) fn new(task: TaskRef, number: u64, plan: RollbackPlan, began: Cycles) -> Self {
        ActiveRollback {
            task,
            began,
            steps: Events::default(),
            number,
            plan,
            cleaning: None,
            waiting_for: WaitingFor::Record,
            timer: None,
        }
    }
}

impl Drop for ActiveRollback {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// A record, then a step.
    Record,
    /// Its turn, since it is one of several suspects.
    Turn,
    /// The record of its end, which holds whatever happens now.
    EndRecord,
    /// The answer to the `Cancel` of this undo.
    CancelDone(usize),
    /// The delay before another try of this undo.
    Delay(usize),
}

impl Reporter {
    fn policy(&self, stage: StageIx) -> &StagePolicy {
        &self.stages[(stage as usize).min(self.stages.len() - 1)]
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_rollback += 1;
        self.last_rollback
    }

    /// Nothing works on this task any more: begins its rollback.
    pub(super) fn stopped(&mut self, task: TaskRef, ctx: &mut Context<Self>) {
        let id = task.id();
        let details = task.details();
        let Some(end) = details.end.clone() else {
            return;
        };
        drop(details);
        let change = match &*end {
            EndReason::Failed(stage, failure) => Change::Failed {
                stage: *stage,
                failure,
            },
            EndReason::TimedOut(stage) => Change::TimedOut { stage: *stage },
            EndReason::Cancelled(stage, cause) => Change::Cancelled {
                stage: *stage,
                cause: *cause,
            },
            // It begins where it is recorded.
            #[cfg(feature = "journal")]
            EndReason::TakenBack => return,
            #[cfg(feature = "journal")]
            EndReason::Released => return self.release(task, ctx),
        };
        let recorded = self.shared.record(id, change);
        self.begin(task, 0, recorded, ctx);
    }

    /// A rollback was under way when the previous process ended, and is recorded as such, with the undos
    /// that have run.
    #[cfg(feature = "journal")]
    pub(super) fn roll_back_restored(
        &mut self,
        task: TaskRef,
        undone: usize,
        ctx: &mut Context<Self>,
    ) {
        self.begin(task, undone, Recorded::now(), ctx);
    }

    /// Begins a rollback once that is recorded. `undone` of the task's undos have run before.
    pub(super) fn begin(
        &mut self,
        task: TaskRef,
        undone: usize,
        recorded: Recorded,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        let details = task.details();
        let on_stuck = |stage| self.policy(stage).on_stuck;
        let plan = RollbackPlan::last(&details.undos, self.order, on_stuck).after(undone);
        drop(details);
        let active =
            ActiveRollback::new(task, self.next_number(), plan, self.shared.clock.cycles());
        self.rollbacks.insert(slot, active);
        self.after(slot, recorded, AfterRecord::Begin, ctx);
    }

    /// An attempt was interrupted by the end of the previous process, and is recorded as such.
    #[cfg(feature = "journal")]
    pub(super) fn clean_up_restored(
        &mut self,
        task: TaskRef,
        stage: StageIx,
        ctx: &mut Context<Self>,
    ) {
        let why = "its process ended, and what it had done by then could not be taken back";
        let failure = Failure::of(Kind::Interrupted, why);
        self.clean(task, stage, failure, Recorded::now(), ctx);
    }

    /// An attempt failed and will be repeated: runs the undos that it registered first.
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
        let recorded = self.shared.record(task.id(), change);
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
        let details = task.details();
        let plan = RollbackPlan::clean_up(&details.undos, stage, task.attempt(), self.order);
        drop(details);
        let mut active =
            ActiveRollback::new(task, self.next_number(), plan, self.shared.clock.cycles());
        active.cleaning = Some((stage, failure));
        self.rollbacks.insert(slot, active);
        self.after(slot, recorded, AfterRecord::Begin, ctx);
    }

    pub(super) fn step(&mut self, slot: u32, next: NextStep, ctx: &mut Context<Self>) {
        // A clean-up whose task was stopped meanwhile becomes the final rollback.
        let retrying = match next {
            NextStep::Retry(undo, _) => Some(undo),
            NextStep::Run(_) | NextStep::Over(_) => None,
        };
        if self.interrupt_clean_up(slot, retrying, ctx) {
            return;
        }
        match next {
            NextStep::Run(undo) => self.record_cancel(slot, undo, ctx),
            NextStep::Retry(undo, n) => self.delay(slot, undo, n, ctx),
            NextStep::Over(left) => self.over(slot, &left, ctx),
        }
    }

    /// Waits before the `n`th retry of an undo.
    fn delay(&mut self, slot: u32, undo: usize, n: u32, ctx: &mut Context<Self>) {
        let Some(active) = self.rollbacks.get(&slot) else {
            return;
        };
        let stage = active.task.details().undos[undo].stage;
        let delay = self.policy(stage).cancel_retry.delay(n);
        let Some(active) = self.rollbacks.get_mut(&slot) else {
            return;
        };
        active.waiting_for = WaitingFor::Delay(undo);
        let (to_self, task) = (ctx.address(), active.task.clone());
        // Not in the context, which polls all the futures that it holds at every wake.
        let timer = actix_rt::spawn(async move {
            tokio::time::sleep(delay).await;
            to_self.do_send(ToSelf::Delayed { task, undo });
        });
        active.timer = Some(timer.abort_handle());
    }

    /// Records that an undo is about to run, then sends its `Cancel`.
    pub(super) fn record_cancel(&mut self, slot: u32, undo: usize, ctx: &mut Context<Self>) {
        let Some(active) = self.rollbacks.get_mut(&slot) else {
            return;
        };
        active.waiting_for = WaitingFor::Record;
        let id = active.task.id();
        let mut details = active.task.details();
        let entry = &mut details.undos[undo];
        entry.tries += 1;
        let attempt = entry.tries;
        drop(details);
        let recorded = self
            .shared
            .record(id, Change::CancelStarted { undo, attempt });
        self.after(slot, recorded, AfterRecord::SendCancel(undo), ctx);
    }

    pub(super) fn send_cancel(&mut self, slot: u32, undo: usize) {
        let Some(active) = self.rollbacks.get_mut(&slot) else {
            return;
        };
        active.waiting_for = WaitingFor::CancelDone(undo);
        let task = active.task.clone();
        let details = task.details();
        let (stage, attempt) = (details.undos[undo].stage, details.undos[undo].tries);
        drop(details);
        self.note_step(slot, stage, EventKind::UndoStarted, undo);
        self.shared.tell_pool(
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
        match self.rollbacks.get(&slot) {
            Some(active)
                if Arc::ptr_eq(&active.task, task)
                    && active.waiting_for == WaitingFor::CancelDone(undo) => {}
            // Its task was given up.
            _ => return,
        }
        let failure = result.err();
        let mut details = task.details();
        let (id, stage) = (task.id(), details.undos[undo].stage);
        let status = match &failure {
            None => UndoStatus::Undone,
            Some(failure) => UndoStatus::Failed(failure.clone()),
        };
        let before = mem::replace(&mut details.undos[undo].status, status);
        drop(details);
        // It may hold the error of the try before, which is the user's.
        panic_guard::drop_quietly(before);
        let kind = match failure {
            None => EventKind::Undone,
            Some(_) => EventKind::UndoFailed,
        };
        self.note_step(slot, stage, kind, undo);
        let policy = self.policy(stage);
        let failed = failure.as_ref().map(|failure| FailedCancel {
            retries: policy.cancel_retry.retries(),
            retryable: failure.is_retryable() || failure.kind() == FailureKind::Panic,
            on_stuck: policy.on_stuck,
        });
        let change = Change::CancelEnded {
            undo,
            failure: failure.as_ref(),
        };
        let recorded = self.shared.record(id, change);
        self.after(slot, recorded, AfterRecord::Settle(failed), ctx);
    }

    /// If this is a clean-up whose task was stopped, and no undo runs now, begins the final rollback.
    /// `retrying` is the undo that has failed, but not for good.
    pub(super) fn interrupt_clean_up(
        &mut self,
        slot: u32,
        retrying: Option<usize>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let Some(active) = self.rollbacks.get(&slot) else {
            return false;
        };
        let Some((stage, _)) = active.cleaning else {
            return false;
        };
        fence();
        if !active.task.is_ending() || !active.task.let_go(stage) {
            return false;
        }
        let mut details = active.task.details();
        let before = retrying
            .and_then(|undo| details.undos.get_mut(undo))
            .map(|undo| mem::replace(&mut undo.status, UndoStatus::Registered));
        drop(details);
        panic_guard::drop_quietly(before);
        if let Some(active) = self.rollbacks.remove(&slot) {
            self.note_clean_up(&active);
            self.suspects.stop(active.task.id());
            self.stopped(active.task.clone(), ctx);
            // Its pool still holds the input for the attempt that won't come.
            self.shared.tell_pool(stage, ToPool::CleanedUp);
        }
        true
    }

    /// No undo is to run any more; those in `left` could not.
    fn over(&mut self, slot: u32, left: &[usize], ctx: &mut Context<Self>) {
        let Some(active) = self.rollbacks.get_mut(&slot) else {
            return;
        };
        if let Some((stage, failure)) = active.cleaning.take() {
            let undone = active.plan.undone() > 0;
            let task = active.task.clone();
            if let Some(active) = self.rollbacks.remove(&slot) {
                self.note_clean_up(&active);
            }
            if undone {
                task.next_generation();
            }
            let goes_on = left.is_empty() && task.apply(Event::Cleaned(stage)).is_ok();
            if goes_on {
                task.next_attempt(self.shared.clock.cycles());
            } else {
                if task.fail(stage, failure).is_err() {
                    // Stopped just now, after `step` had looked for that.
                    task.let_go(stage);
                }
                self.stopped(task, ctx);
            }
            self.shared.tell_pool(stage, ToPool::CleanedUp);
            return;
        }
        let rollback = if left.is_empty() {
            match active.plan.undone() {
                0 => Rollback::None,
                undos => Rollback::Complete { undos },
            }
        } else {
            Rollback::Stuck(list_left(&self.shared, &active.task, left, None))
        };
        let task = active.task.clone();
        if let Some(end) = task.end(&self.shared.stages) {
            self.record_end(&task, end, rollback, ctx);
        }
    }

    /// Records a task's end, then files it.
    pub(super) fn record_end(
        &mut self,
        task: &TaskRef,
        end: End,
        rollback: Rollback,
        ctx: &mut Context<Self>,
    ) {
        let change = Change::Ended {
            end: &end,
            rollback: &rollback,
        };
        let recorded = self.shared.record(task.id(), change);
        let then = AfterRecord::File(Box::new((end, rollback)));
        self.after(task.slot, recorded, then, ctx);
    }
}
