//! A pool's workers: how many there are, who is free, and what happens when none can be built.

use std::sync::atomic::Ordering;

use actix::{Actor, Addr, Arbiter, AsyncContext, Context};
use actix_rt::ArbiterHandle;

use super::{
    desk::ToWorker,
    pool::Pool,
    worker::{Seat, Worker},
};
use crate::{
    Failure,
    error::FailureKind,
    guard,
    message::{Batch, ToReporter},
    report::Health,
    stage::Stage,
};

/// After that many failures in a row to build a value, with no worker left, a stage is down.
const DOWN_AFTER: u32 = 10;

pub(super) struct Member<S: Stage> {
    pub(super) addr: Addr<Worker<S>>,
    pub(super) state: MemberState,
    /// On the pool's own thread.
    pub(super) local: bool,
    /// Runs cancels only, while every other one is busy.
    pub(super) spare: bool,
    pub(super) thread: Option<Arbiter>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Building,
    Idle,
    Busy,
    /// Busy, and waiting for something.
    Waiting,
    Leaving,
}

impl<S: Stage> Pool<S> {
    /// Has as many workers as wanted, and asks the others to leave.
    pub(super) fn staff(&mut self, ctx: &mut Context<Self>) {
        if self.is_closing() {
            return;
        }
        let working = |member: &Option<Member<S>>| {
            member
                .as_ref()
                .is_some_and(|m| !m.spare && m.state != MemberState::Leaving)
        };
        let mut count = self.workers.iter().filter(|member| working(member)).count();
        while count < self.wanted {
            self.hire(ctx, false);
            count += 1;
        }
        // The idle ones first: the busy ones are to finish.
        for idle in [true, false] {
            for member in self.workers.iter_mut().rev().flatten() {
                let leaves = !member.spare
                    && member.state != MemberState::Leaving
                    && (member.state == MemberState::Idle) == idle;
                if count > self.wanted && leaves {
                    member.state = MemberState::Leaving;
                    member.addr.do_send(ToWorker::Quit);
                    count -= 1;
                }
            }
        }
    }

    pub(super) fn hire(&mut self, ctx: &mut Context<Self>, spare: bool) {
        let vacant = self
            .workers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.workers.len());
        let worker = vacant as u32;
        let seat = Seat {
            core: self.core.clone(),
            stage: self.stage,
            worker,
            settings: self.settings.clone(),
            factory: self.factory.clone(),
            copy: self.copy,
            pool: ctx.address(),
            hop: self.hop.clone(),
            room: self.room.clone(),
            board: self.board.clone(),
            recall: self.recall.clone(),
        };
        let (addr, local, thread) = if self.settings.blocking {
            let thread = match guard::run(Arbiter::new) {
                Ok(thread) => thread,
                Err(failure) => {
                    // Tried again like a value that can't be built.
                    self.not_built(failure, ctx);
                    let delay = self.settings.restart.delay(self.failures);
                    ctx.run_later(delay, |pool, ctx| pool.staff(ctx));
                    return;
                }
            };
            let addr = Worker::start_in_arbiter(&thread.handle(), move |_| Worker::new(seat));
            (addr, false, Some(thread))
        } else {
            let (arbiter, local) = self.grounds.place(worker as usize);
            let addr = match arbiter {
                Some(arbiter) => on(&arbiter, seat),
                None => Worker::new(seat).start(),
            };
            (addr, local, None)
        };
        let member = Member {
            addr,
            state: MemberState::Building,
            local,
            spare,
            thread,
        };
        if vacant == self.workers.len() {
            self.workers.push(Some(member));
        } else {
            self.workers[vacant] = Some(member);
        }
    }

    pub(super) fn member(&mut self, worker: u32) -> Option<&mut Member<S>> {
        self.workers
            .get_mut(worker as usize)
            .and_then(Option::as_mut)
    }

    pub(super) fn set_state(&mut self, worker: u32, state: MemberState) {
        if let Some(member) = self.member(worker)
            && member.state != MemberState::Leaving
        {
            member.state = state;
        }
    }

    /// An idle worker on this thread, or, unless only those are asked for, on another.
    pub(super) fn idle(&self, anywhere: bool) -> Option<usize> {
        let idle = |local: bool| {
            self.workers.iter().position(|member| {
                member.as_ref().is_some_and(|member| {
                    !member.spare && member.state == MemberState::Idle && member.local == local
                })
            })
        };
        idle(true).or_else(|| anywhere.then(|| idle(false)).flatten())
    }

    pub(super) fn built_workers(&self) -> usize {
        let built = |member: &&Member<S>| member.state != MemberState::Building && !member.spare;
        self.workers.iter().flatten().filter(built).count()
    }

    pub(super) fn not_built(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.failures = self.failures.saturating_add(1);
        let error = guard::shown(&failure);
        log::warn!(
            "stage {}: a worker could not be built, {} times in a row: {error}",
            self.settings.name,
            self.failures
        );
        let failures = self.failures;
        let nobody = self.built_workers() == 0;
        if failures >= DOWN_AFTER && nobody {
            self.down = true;
            self.board.set_health(Health::Down { failures, error });
            self.fail_all();
            self.dispatch(ctx);
        } else {
            self.board.set_health(Health::Failing { failures, error });
        }
    }

    pub(super) fn is_down(&self) -> Failure {
        let text = format!(
            "stage {} is down: its factory keeps failing",
            self.settings.name
        );
        Failure::of(FailureKind::StageDown, text)
    }

    /// The stage is down: what waits for it fails.
    pub(super) fn fail_all(&mut self) {
        let Batch { tasks, .. } = &self.queue.drain_waiting();
        for task in tasks {
            let mut life = task.life();
            let first = life.attempt == 1;
            let failed = life.fail(self.stage, self.is_down()).is_ok();
            drop(life);
            if first {
                self.room.add_permits(1);
            }
            if failed {
                self.core.tell_reporter(ToReporter::Stopped(task.clone()));
            }
        }
    }

    pub(super) fn count_workers(&self) {
        self.board
            .workers
            .store(self.built_workers(), Ordering::Relaxed);
    }
}

fn on<S: Stage>(arbiter: &ArbiterHandle, seat: Seat<S>) -> Addr<Worker<S>> {
    Worker::start_in_arbiter(arbiter, move |_| Worker::new(seat))
}
