//! A pool's workers come and go: it starts as many as it is to have, and fails what waits when none can
//! be built.

use std::sync::atomic::Ordering;

use actix::{Actor, Arbiter, AsyncContext, Context};

use super::{Pool, workers::Placement};
use crate::{
    engine::worker::{Worker, env::WorkerEnv},
    failure::{self, Failure, FailureKind},
    panic_guard,
    report::Health,
    stage::Stage,
};

/// After that many failures in a row to build a value, with no worker left, a stage is down.
const DOWN_AFTER: u32 = 10;

/// The purpose that a worker is started for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Regular,
    /// Runs undos only, while every other worker is busy.
    Spare,
}

impl<S: Stage> Pool<S> {
    /// Starts workers until there are as many as wanted, or asks the others to leave.
    pub(super) fn adjust_workers(&mut self, ctx: &mut Context<Self>) {
        if self.is_closing() {
            return;
        }
        let count = self.workers.staying();
        for _ in count..self.wanted {
            self.start_worker(Role::Regular, ctx);
        }
        if count > self.wanted {
            self.workers.reduce(count - self.wanted);
        }
    }

    pub(super) fn start_worker(&mut self, role: Role, ctx: &mut Context<Self>) {
        let worker = self.workers.vacant();
        let blocking = self.config.blocking;
        let env = WorkerEnv {
            shared: self.shared.clone(),
            stage: self.stage,
            worker,
            config: self.config.clone(),
            factory: self.factory.clone(),
            copy: self.copy,
            pool: ctx.address().recipient(),
            hop: self.hop.clone(),
            room: self.room.clone(),
            stats: self.stats.clone(),
            hand_back: self.hand_back.clone(),
            _present: blocking.then(|| self.threads.attend()).flatten(),
        };
        let spare = role == Role::Spare;
        if blocking {
            match failure::catch(Arbiter::new) {
                Ok(thread) => {
                    let addr =
                        Worker::start_in_arbiter(&thread.handle(), move |_| Worker::new(env));
                    let placement = Placement {
                        local: false,
                        spare,
                        thread: Some(thread),
                    };
                    self.workers.add(worker, addr, placement);
                }
                Err(failure) => {
                    // Tried again like a value that can't be built.
                    self.not_built(failure, ctx);
                    let delay = self.config.restart.delay(self.failures);
                    ctx.run_later(delay, |pool, ctx| pool.adjust_workers(ctx));
                }
            }
            return;
        }
        let arbiter = self.threads.place(worker as usize);
        let placement = Placement {
            local: arbiter.is_none(),
            spare,
            thread: None,
        };
        let addr = match arbiter {
            Some(arbiter) => Worker::start_in_arbiter(&arbiter, move |_| Worker::new(env)),
            None => Worker::new(env).start(),
        };
        self.workers.add(worker, addr, placement);
    }

    /// A worker has a stage value.
    pub(super) fn built(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            log::info!("stage {}: workers are built again", self.config.name);
        }
        self.down = false;
        self.stats.set_health(Health::Up);
        self.count_workers();
    }

    /// A worker could not build its stage value, or had no thread.
    pub(super) fn not_built(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        let error = panic_guard::shown(&failure);
        log::warn!(
            "stage {}: a worker could not be built, {failures} times in a row: {error}",
            self.config.name
        );
        let nobody = self.workers.built() == 0;
        if failures >= DOWN_AFTER && nobody {
            self.down = true;
            self.stats.set_health(Health::Down { failures, error });
            self.fail_all();
            self.dispatch(ctx);
        } else {
            self.stats.set_health(Health::Failing { failures, error });
        }
    }

    pub(super) fn down_failure(&self) -> Failure {
        let text = format!(
            "stage {} is down: its factory keeps failing",
            self.config.name
        );
        Failure::of(FailureKind::StageDown, text)
    }

    pub(super) fn count_workers(&self) {
        self.stats
            .workers
            .store(self.workers.built(), Ordering::Relaxed);
    }
}
