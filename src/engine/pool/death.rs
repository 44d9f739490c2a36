//! A pool takes leave of a worker that has died, and gets another one.

use std::time::Duration;

use actix::Context;

use super::Pool;
use crate::{
    engine::worker::death::worker_died,
    logging,
    shared::messages::ToReporter,
    stage::Stage,
    task::{State, TaskRef},
};

/// A runtime that is ending takes its threads along one after the other, and then this one: its tasks are
/// left where they are, as by a kill. The others see to a death only after that time, which needs another
/// turn of the runtime.
pub(super) const AFTER_DEATH: Duration = Duration::from_millis(5);

impl<S: Stage> Pool<S> {
    /// Fails the task that a dead worker was at, and starts another worker.
    pub(super) fn worker_died(&mut self, worker: u32, ctx: &mut Context<Self>) {
        logging::error!("stage {}: {}", self.config.name, worker_died());
        if let Some(thread) = self.workers.remove(worker) {
            thread.stop();
            self.threads.retire(thread);
        }
        if self.shared.is_suspended() {
            self.count_workers();
            return self.stop_if_closed(ctx);
        }
        for task in self.shared.table.live() {
            if self.was_at(&task, worker) {
                self.fail_lost(&task);
            }
        }
        self.count_workers();
        self.let_go_of_stopped();
        if !self.is_closing() {
            self.not_built(worker_died(), ctx);
            self.start_later(ctx);
        }
        self.dispatch(ctx);
        self.stop_if_closed(ctx);
    }

    /// This worker has started the task, and it has not got any further: it waits for no other attempt, and
    /// none is being cleaned up.
    fn was_at(&self, task: &TaskRef, worker: u32) -> bool {
        task.worker() == worker
            && task.is_at_work()
            && matches!(task.state(), State::Running(stage) | State::Stopping(stage) if stage == self.stage)
    }

    fn fail_lost(&self, task: &TaskRef) {
        if task.fail(self.stage, worker_died()).is_ok() {
            self.stats.update(|totals| {
                totals.counts.failed += 1;
                totals.counts.panicked += 1;
            });
        } else if task.let_go(self.stage) {
            self.stats.update(|totals| totals.counts.stopped += 1);
        } else {
            return;
        }
        self.shared.tell_reporter(ToReporter::Stopped(task.clone()));
    }
}
