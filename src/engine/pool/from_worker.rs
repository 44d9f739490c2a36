//! A pool hears what its workers say.

use actix::{AsyncContext, Context, StreamHandler};

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

/// There are notices.
impl<S: Stage> StreamHandler<()> for Pool<S> {
    fn handle(&mut self, (): (), ctx: &mut Self::Context) {
        self.hear(ctx);
    }

    /// It has no end.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl<S: Stage> Pool<S> {
    /// Handles what its workers have said so far, and hands out what that makes possible, once.
    pub(super) fn hear(&mut self, ctx: &mut Context<Self>) {
        let mut evicted = Evicted::default();
        if self.listen(&mut evicted, ctx) {
            self.let_go(evicted);
            self.let_go_of_stopped();
            self.dispatch(ctx);
            self.stop_if_closed(ctx);
        }
    }

    /// Takes in what its workers have said so far; `false` if that is nothing.
    pub(super) fn listen(&mut self, evicted: &mut Evicted, ctx: &mut Context<Self>) -> bool {
        let count = self.notices.len();
        // One by one: if something panics, the others are still there.
        for _ in 0..count {
            if let Some(notice) = self.notices.take() {
                self.hear_one(notice, evicted, ctx);
            }
        }
        count > 0
    }

    fn hear_one(
        &mut self,
        notice: FromWorker<S::Input>,
        evicted: &mut Evicted,
        ctx: &mut Context<Self>,
    ) {
        match notice {
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
                self.put_back(rest, evicted);
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
                self.put_back(rest, evicted);
                // Unknown where it had to wait, which it has said.
                if let Some(now) = pace {
                    self.calls_wait = false;
                    self.pace = Some(self.pace.map_or(now, |before| (before * 3 + now) / 4));
                }
            }
            FromWorker::Rebuilds { worker, rest } => {
                self.workers.set(worker, WorkerState::Building);
                self.put_back(rest, evicted);
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
            FromWorker::HandedBack { rest } => self.put_back(rest, evicted),
            FromWorker::UndoHandedBack(job) => self.undos.push_front(job),
            FromWorker::UndoDied { task, undo } => {
                ctx.run_later(AFTER_DEATH, move |pool, _| {
                    let result = Err(worker_died());
                    pool.shared
                        .tell_reporter(ToReporter::CancelDone { task, undo, result });
                });
            }
            FromWorker::Died { worker } => {
                ctx.run_later(AFTER_DEATH, move |pool, ctx| pool.worker_died(worker, ctx));
            }
            FromWorker::Left { worker } => {
                if let Some(thread) = self.workers.remove(worker) {
                    self.threads.retire(thread);
                }
                self.count_workers();
            }
        }
    }
}
