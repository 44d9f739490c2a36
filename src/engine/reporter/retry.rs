//! Stuck tasks that are tried again: because a person says so, or by themselves, on a slow schedule.

use actix::{AsyncContext, Context};
use tokio::task::AbortHandle;

use super::{Reporter, ToSelf};
use crate::{
    engine::room::collect,
    ledger::Recorded,
    logging,
    task::{Outcome, Reopened, Rollback, TaskId},
};

/// The retries of one stuck task by the pipeline itself.
#[derive(Default)]
pub(super) struct StuckRetries {
    /// Number of those that have begun.
    begun: u32,
    timer: Option<Timer>,
}

/// A timer that ends with whoever holds it.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reporter {
    /// Tries the rest of a stuck task's rollback again, or takes a done task back, once that is recorded.
    pub(super) fn reopened(
        &mut self,
        reopened: Reopened,
        recorded: Recorded,
        ctx: &mut Context<Self>,
    ) {
        let Reopened { task, undone } = reopened;
        // It has not asked for a place, and gives one back at its end.
        let collector = collect(&self.shared.table.places, 1);
        self.collect_room(collector.into_iter().collect());
        self.begin(task, undone, recorded, ctx);
    }

    /// Plans the next try of a task that has got stuck, and forgets a task that has not.
    pub(super) fn plan_retry(&mut self, outcome: &Outcome, ctx: &mut Context<Self>) {
        if self.retry_stuck.is_none() {
            return;
        }
        match &outcome.rollback {
            Rollback::Stuck(_) => self.retry_later(outcome.task, ctx),
            _ => drop(self.stuck_retries.remove(&outcome.task)),
        }
    }

    /// Plans the next try of every task that was stuck when it came here.
    #[cfg(feature = "journal")]
    pub(super) fn plan_retries(&mut self, ctx: &mut Context<Self>) {
        if self.retry_stuck.is_some() {
            for stuck in self.shared.table.stuck() {
                // Those that were stuck here before have their turn.
                if !self.stuck_retries.contains_key(&stuck.task) {
                    self.retry_later(stuck.task, ctx);
                }
            }
        }
    }

    fn retry_later(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let Some(policy) = self.retry_stuck else {
            return;
        };
        let retries = self.stuck_retries.entry(task).or_default();
        if retries.begun >= policy.retries() {
            self.stuck_retries.remove(&task);
            return;
        }
        retries.begun += 1;
        let (delay, to_self) = (policy.delay(retries.begun), ctx.address());
        let timer = actix_rt::spawn(async move {
            tokio::time::sleep(delay).await;
            to_self.do_send(ToSelf::RetryStuck(task));
        });
        retries.timer = Some(Timer(timer.abort_handle()));
    }

    /// The delay before another try of this stuck task has passed.
    pub(super) fn retry_now(&mut self, task: TaskId) {
        if let Err(why) = self.shared.retry(task) {
            // A person was quicker, or the pipeline is about to end.
            self.stuck_retries.remove(&task);
            logging::debug!("{why}");
        }
    }
}
