//! A task comes in, waits, and goes to a worker: which one, and how many tasks with it.

use std::sync::atomic::Ordering;

use actix::{Context, Handler};

use super::{
    Pool,
    queue::Evicted,
    spawn::Role,
    workers::{Reach, WorkerState},
};
use crate::{
    clock::Nanos,
    engine::worker::inbox::{BatchMode, Job, Parcel, Starts, UndoJob},
    shared::{
        hop::{Batch, TaskMsg},
        messages::ToReporter,
    },
    stage::Stage,
};

/// The most work that a batch holds: another worker would have to wait for as long.
pub(super) const BATCH_NS: Nanos = 100_000;
/// The same on the pool's own thread, where a worker keeps the pools from handing out tasks that the
/// others wait for.
const LOCAL_BATCH_NS: Nanos = 25_000;
const BATCH: usize = 256;
/// Work that is done sooner than this isn't worth waking another thread for.
const WORTH_WAKING_NS: Nanos = 60_000;
/// Calls that are done sooner than this are quick: they stay on their thread, and are started
/// without a fence each.
const QUICK_NS: Nanos = 1_000;

impl<S: Stage> Handler<TaskMsg<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<S::Input>, ctx: &mut Self::Context) {
        let mut evicted = Evicted::default();
        // Some may be idle by now.
        let heard = self.listen(&mut evicted, ctx);
        self.queue.push(message.batch, &mut evicted);
        self.let_go(evicted);
        self.let_go_of_stopped();
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
        if heard {
            self.stop_if_closed(ctx);
        }
    }
}

impl<S: Stage> Pool<S> {
    /// Hands out what waits: undos first, then tasks.
    pub(super) fn dispatch(&mut self, ctx: &mut Context<Self>) {
        self.dispatch_undos(ctx);
        if !self.may_take() {
            // Before a worker that has more than one task may come for others.
            self.queue.backlog().set_open(false);
        }
        if !self.is_closing() && !self.stats.is_paused() && !self.shared.is_suspended() {
            self.dispatch_tasks(ctx);
        }
        self.queue.backlog().set_open(self.may_take());
        let eager = !self.queue.is_empty() || !self.undos.is_empty() || !self.to_let_go.is_empty();
        if std::mem::replace(&mut self.is_eager, eager) != eager {
            self.notices.set_eager(eager);
        }
    }

    /// Workers that wait with each task may take the next one by themselves. As soon as there is anything to
    /// think about, the pool hands out what is next.
    fn may_take(&self) -> bool {
        self.calls_wait
            && self.undos.is_empty()
            && self.throttle.is_none()
            && !self.down
            && !self.is_closing()
            && !self.shared.is_suspended()
    }

    /// Undos go to any free worker, or else to the spare one.
    fn dispatch_undos(&mut self, ctx: &mut Context<Self>) {
        if self.shared.is_suspended() {
            self.undos.clear();
        }
        if self.down {
            for UndoJob { task, undo, .. } in std::mem::take(&mut self.undos) {
                let result = Err(self.down_failure());
                self.shared
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
        }
        while let Some(job) = self.undos.pop_front() {
            // A worker that is busy on this thread will be free at once, sooner than another thread is
            // awake.
            let reach = if self.workers.has_busy_local() {
                Reach::Local
            } else {
                Reach::AnywhereOrSpare
            };
            let state = WorkerState::Busy(Starts::Fenced);
            let Some(worker) = self.workers.assign(reach, state) else {
                self.undos.push_front(job);
                break;
            };
            let pool = self.notify.clone();
            worker.jobs.send(Parcel::new(Job::Undo(job), pool));
        }
        let waiting = !self.undos.is_empty();
        // A worker in the middle of a batch hands the rest back, and is free; not where the whole batch
        // takes no longer than that.
        self.hand_back
            .store(waiting && !self.is_quick(), Ordering::Relaxed);
        if waiting && !self.workers.has_busy_local() && !self.workers.has_spare() {
            self.start_worker(Role::Spare, ctx);
        }
    }

    fn dispatch_tasks(&mut self, ctx: &mut Context<Self>) {
        while !self.queue.is_empty() {
            let reach = self.reach();
            if !self.workers.has_idle(reach) {
                break;
            }
            if let Some(throttle) = &mut self.throttle
                && let Err(due) = throttle.take(self.shared.clock.now())
            {
                self.wake_at(due, ctx);
                break;
            }
            let batch = self.queue.take(self.batch_size(reach));
            if batch.is_empty() {
                // A worker on another thread was quicker, from before there was a throttle.
                if let Some(throttle) = &mut self.throttle {
                    throttle.give_back(1);
                }
                break;
            }
            let mode = BatchMode {
                // As long as stopped tasks may turn up, the worker that gets them must fence.
                starts: if self.is_quick() && self.to_let_go.is_empty() {
                    Starts::Unfenced
                } else {
                    Starts::Fenced
                },
                expected_to_wait: self.calls_wait && batch.len() == 1,
            };
            let state = if mode.expected_to_wait {
                WorkerState::Waiting
            } else {
                WorkerState::Busy(mode.starts)
            };
            let Some(worker) = self.workers.assign(reach, state) else {
                unreachable!("has_idle has found a worker")
            };
            let pool = self.notify.clone();
            worker
                .jobs
                .send(Parcel::new(Job::Run { batch, mode }, pool));
        }
        if let Some(throttle) = &mut self.throttle
            && self.queue.is_empty()
        {
            throttle.rest();
        }
    }

    /// Puts tasks back that a worker was given and has not started, with their permits.
    pub(super) fn put_back(&mut self, rest: Batch<S::Input>, evicted: &mut Evicted) {
        if rest.is_empty() {
            return;
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.give_back(rest.len());
        }
        self.queue.put_back(rest, evicted);
    }

    /// The workers that may have the next batch. Quick calls stay on this thread: to fetch a task from
    /// another core's cache takes longer than to run it here.
    fn reach(&self) -> Reach {
        let backlog = self.queue.len() as u64 * self.pace.unwrap_or(BATCH_NS);
        let worth_waking = !self.is_quick() && backlog > WORTH_WAKING_NS;
        // If the next stage is full, more workers only wait for it too.
        let held = self.is_quick() && self.workers.has_blocked_local();
        if worth_waking || !(self.workers.has_busy_local() || held) {
            Reach::Anywhere
        } else {
            Reach::Local
        }
    }

    /// `true` if calls are too quick to pay for a fence each. A blocking call may always take long, and a
    /// ledger makes every call wait.
    fn is_quick(&self) -> bool {
        !self.config.blocking
            && self.shared.ledger.is_none()
            && self.pace.is_some_and(|pace| pace < QUICK_NS)
    }

    /// As many tasks as are done in `BATCH_NS`. Where calls take their time, no more than leaves some
    /// for each idle worker, and few for one on this thread.
    fn batch_size(&self, reach: Reach) -> usize {
        // A permit of the throttle is for one task.
        let Some(pace) = self.pace.filter(|_| self.throttle.is_none()) else {
            return 1;
        };
        let local = self.workers.is_next_local(reach);
        let time = if local && pace >= QUICK_NS && self.workers.has_remote() {
            LOCAL_BATCH_NS
        } else {
            BATCH_NS
        };
        let most = (time / pace.max(1)).clamp(1, BATCH as u64) as usize;
        if pace < QUICK_NS {
            return most;
        }
        most.min(self.queue.len().div_ceil(self.workers.most_threads(reach)))
    }
}
