//! A pool's workers come and go: it starts as many as it is to have, and fails what waits when none can
//! be built.

use std::{cell::Cell, sync::atomic::Ordering};

use actix::{Actor, Arbiter, AsyncContext, Context};

use super::{Pool, workers::Placement};
use crate::{
    engine::{
        channel::channel,
        worker::{Worker, env::WorkerEnv},
    },
    failure::{self, Failure, FailureKind},
    logging, panic_guard,
    report::StageHealth,
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
            if !self.start_worker(Role::Regular, ctx) {
                break;
            }
        }
        if count > self.wanted {
            self.workers.reduce(count - self.wanted);
        }
    }

    /// `false` where there is no thread for it, now or within the restart policy's delay.
    pub(super) fn start_worker(&mut self, role: Role, ctx: &mut Context<Self>) -> bool {
        if self.start_timer {
            return false;
        }
        let worker = self.workers.vacant();
        let blocking = self.config.blocking;
        let env = WorkerEnv {
            shared: self.shared.clone(),
            stage: self.stage,
            worker,
            config: self.config.clone(),
            factory: self.factory.clone(),
            copy: self.copy,
            pool: self.notify.clone(),
            hop: self.hop.clone(),
            room: self.room.clone(),
            backlog: self.queue.backlog().clone(),
            stats: self.stats.clone(),
            hand_back: self.hand_back.clone(),
            left: Cell::new(false),
            _present: blocking.then(|| self.threads.attend()).flatten(),
        };
        let (jobs, taken) = channel();
        let spare = role == Role::Spare;
        if blocking {
            return match failure::catch(Arbiter::new) {
                Ok(thread) => {
                    let addr = Worker::start_in_arbiter(&thread.handle(), move |_| {
                        Worker::new(env, taken)
                    });
                    let placement = Placement {
                        local: false,
                        spare,
                        thread: Some(thread),
                    };
                    self.workers.add(worker, addr, jobs, placement);
                    true
                }
                Err(panic) => {
                    env.left.set(true);
                    // Tried again like a value that can't be built.
                    self.start_later_after(no_thread(&panic), ctx);
                    false
                }
            };
        }
        let arbiter = match role {
            Role::Regular => self.threads.place(worker as usize),
            // Its undos are few: to wake another thread takes longer than to run most of them.
            Role::Spare => None,
        };
        let placement = Placement {
            local: arbiter.is_none(),
            spare,
            thread: None,
        };
        let addr = match arbiter {
            Some(arbiter) => Worker::start_in_arbiter(&arbiter, move |_| Worker::new(env, taken)),
            None => Worker::new(env, taken).start(),
        };
        self.workers.add(worker, addr, jobs, placement);
        true
    }

    fn start_later_after(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        // First, as `not_built` may dispatch undos, for which a spare worker is wanted.
        self.start_later(ctx);
        self.not_built(failure, ctx);
    }

    /// Starts the workers that are missing after the restart policy's delay: all of them by one timer,
    /// however many there are.
    pub(super) fn start_later(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.start_timer, true) {
            return;
        }
        let delay = self.config.restart.delay(self.failures.max(1));
        ctx.run_later(delay, |pool, ctx| {
            pool.start_timer = false;
            pool.adjust_workers(ctx);
            pool.dispatch(ctx);
        });
    }

    /// A worker has a stage value.
    pub(super) fn built(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            logging::info!("stage {}: workers are built again", self.config.name);
        }
        self.down = false;
        self.stats.set_health(StageHealth::Up);
        self.count_workers();
    }

    /// A worker could not build its stage value, or had no thread.
    pub(super) fn not_built(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        let error = panic_guard::shown(&failure);
        self.last_error.clone_from(&error);
        logging::warning!(
            "stage {}: a worker could not be built, {failures} times in a row: {error}",
            self.config.name
        );
        let nobody = self.workers.built() == 0;
        if failures >= DOWN_AFTER && nobody {
            self.down = true;
            self.stats.set_health(StageHealth::Down { failures, error });
            self.fail_all();
            self.dispatch(ctx);
        } else {
            self.stats
                .set_health(StageHealth::Failing { failures, error });
        }
    }

    pub(super) fn down_failure(&self) -> Failure {
        let text = format!(
            "stage {} is down, no worker of it can be started: {}",
            self.config.name, self.last_error
        );
        Failure::of(FailureKind::StageDown, text)
    }

    pub(super) fn count_workers(&self) {
        self.stats
            .workers
            .store(self.workers.built(), Ordering::Relaxed);
    }
}

/// The failure of starting a thread, whose own text says little.
fn no_thread(panic: &Failure) -> Failure {
    Failure::new(format!(
        "no thread for a worker: {}; raise the limits of threads, memory and open files, or use fewer \
         workers",
        panic_guard::shown(panic)
    ))
}
