//! A stop reaches the tasks of a pool: it lets go of those that wait in its queue, or in the batch
//! of a worker.
//!
//! Of a task that is *running*, its worker lets go. A task whose place says *queued* may be in one of
//! three places. Its end is noticed in each of them, and `Task::let_go` answers the first one only:
//! - in the queue: the pool takes it out, its context perhaps a little later if the queue is long;
//! - in a message on its way here: the queue looks at what comes in, behind a fence;
//! - in the batch of a worker: if the worker fences its starts, it sees the end before it starts the
//!   task, so the pool may let go of it right away. If not, its batch is over within
//!   [`BATCH_NS`](super::dispatch::BATCH_NS), and the pool waits for that.

use actix::Context;

use super::{Pool, queue::Evicted};
use crate::{
    clock::Nanos,
    shared::{hop::Batch, messages::ToReporter},
    stage::Stage,
    task::{TaskRef, fence},
};

/// Time that stopped tasks may stay in a long queue, to be swept out together.
const SWEEP_NS: Nanos = 2_000_000;

impl<S: Stage> Pool<S> {
    /// These tasks were stopped while their place said that they wait here.
    pub(super) fn stop_queued(&mut self, mut tasks: Vec<TaskRef>, ctx: &mut Context<Self>) {
        let mut evicted = Evicted::default();
        if !self.queue.purge(tasks.len(), &mut evicted) {
            let now = self.shared.clock.now();
            self.wake_at(now.saturating_add(SWEEP_NS), ctx);
        }
        self.let_go(evicted);
        self.to_let_go.append(&mut tasks);
        self.let_go_of_stopped();
        if self.queue.has_resting() {
            // One of those may wait for its next attempt.
            self.wake(ctx);
        } else {
            self.dispatch(ctx);
        }
    }

    /// Lets go of tasks that were taken out of the queue.
    pub(super) fn let_go(&mut self, evicted: Evicted) {
        if evicted.room > 0 {
            self.room.add_permits(evicted.room);
        }
        for task in evicted.tasks {
            self.shared.let_go(&task, self.stage);
        }
    }

    /// Lets go of stopped tasks wherever they are, unless a worker that doesn't fence its starts may have
    /// them: that one lets go of them itself.
    pub(super) fn let_go_of_stopped(&mut self) {
        if !self.to_let_go.is_empty() && self.workers.all_fenced() {
            fence();
            for task in std::mem::take(&mut self.to_let_go) {
                if task.is_queued() {
                    self.shared.let_go(&task, self.stage);
                }
            }
        }
    }

    /// The stage is down: tasks that wait for it fail.
    pub(super) fn fail_all(&mut self) {
        let Batch { tasks, .. } = &self.queue.drain_waiting();
        for task in tasks {
            if task.attempt() == 1 {
                self.room.add_permits(1);
            }
            // Or its end was decided by now, and this is where it is let go of.
            if task.fail(self.stage, self.down_failure()).is_ok() || task.let_go(self.stage) {
                self.shared.tell_reporter(ToReporter::Stopped(task.clone()));
            }
        }
    }
}
