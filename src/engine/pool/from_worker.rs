//! A pool handles the messages of its workers.

use actix::{AsyncContext, Handler};

use super::{Pool, death::AFTER_DEATH, queue::Evicted, workers::WorkerState};
use crate::{
    engine::worker::{
        call_end::StageValue,
        death::worker_died,
        env::{FromWorker, NextAttempt, WaitReason},
    },
    shared::messages::ToReporter,
    stage::Stage,
    task::fence,
};

impl<S: Stage> Handler<FromWorker<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: FromWorker<S::Input>, ctx: &mut Self::Context) {
        let mut evicted = Evicted::default();
        match message {
            FromWorker::Built { worker } => {
                self.workers.set(worker, WorkerState::Idle);
                self.built();
            }
            FromWorker::NotBuilt { worker, failure } => {
                self.workers.set(worker, WorkerState::Building);
                self.not_built(failure, ctx);
                self.count_workers();
            }
            FromWorker::Waits {
                worker,
                rest,
                reason,
            } => {
                self.put_back(rest, &mut evicted);
                if reason == WaitReason::Room {
                    self.workers.set(worker, WorkerState::Blocked);
                } else {
                    self.workers.set(worker, WorkerState::Waiting);
                    self.pace = None;
                    self.calls_wait = true;
                }
            }
            FromWorker::UndoWaits { worker } => self.workers.set(worker, WorkerState::Waiting),
            FromWorker::Idle { worker, rest, pace } => {
                self.workers.set(worker, WorkerState::Idle);
                self.put_back(rest, &mut evicted);
                // Unknown where it had to wait, which it has said.
                if let Some(now) = pace {
                    self.calls_wait = false;
                    self.pace = Some(self.pace.map_or(now, |before| (before * 3 + now) / 4));
                }
            }
            FromWorker::Rebuilds { worker, rest } => {
                self.workers.set(worker, WorkerState::Building);
                self.put_back(rest, &mut evicted);
            }
            FromWorker::Retry {
                task,
                input,
                due,
                next,
            } => {
                self.queue.rest(task.clone(), input, due);
                if next == NextAttempt::WhenDue {
                    // It may have been stopped on the way, by someone who looked for it at the worker.
                    fence();
                    if task.is_ending() {
                        return self.wake(ctx);
                    }
                    self.wake_at(due, ctx);
                }
            }
            FromWorker::UndoDone {
                worker,
                task,
                undo,
                result,
                stage_value,
            } => {
                let state = match stage_value {
                    StageValue::Keep => WorkerState::Idle,
                    StageValue::Rebuild => WorkerState::Building,
                };
                self.workers.set(worker, state);
                self.shared
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
            FromWorker::HandedBack { rest } => self.put_back(rest, &mut evicted),
            FromWorker::UndoHandedBack(job) => self.undos.push_front(job),
            FromWorker::UndoDied { task, undo } => {
                ctx.run_later(AFTER_DEATH, move |pool, _| {
                    let result = Err(worker_died());
                    pool.shared
                        .tell_reporter(ToReporter::CancelDone { task, undo, result });
                });
                return;
            }
            FromWorker::Died { worker } => {
                ctx.run_later(AFTER_DEATH, move |pool, ctx| pool.worker_died(worker, ctx));
                return;
            }
            FromWorker::Left { worker } => {
                if let Some(thread) = self.workers.remove(worker) {
                    self.threads.retire(thread);
                }
                self.count_workers();
                self.let_go_of_stopped();
                return self.stop_if_closed(ctx);
            }
        }
        self.let_go(evicted);
        self.let_go_of_stopped();
        self.dispatch(ctx);
    }
}
