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
    state: MemberState,
    /// On the pool's own thread.
    local: bool,
    /// Runs cancels only, while every other one is busy.
    spare: bool,
    thread: Option<Arbiter>,
    /// Asked to leave while it was busy and not careful: it still has what it had in its hands.
    leaves_hastily: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Building,
    Idle,
    /// Whether it looks, behind a fence, before it starts what it has in its hands.
    Busy {
        careful: bool,
    },
    /// Busy, and waiting for something.
    Waiting,
    /// Waiting for room at the next stage.
    Blocked,
    Leaving,
}

/// A pool's workers, by number, and what is asked of them all for every batch.
pub(super) struct Staff<S: Stage> {
    members: Vec<Option<Member<S>>>,
    /// Who became idle, on the pool's own thread and on others, the latest last. Some may not be any
    /// more: looked at when they are asked for.
    idle_here: Vec<u32>,
    idle_elsewhere: Vec<u32>,
    /// Who is busy on the pool's own thread, the spare one aside.
    busy_here: usize,
    /// Who waits for room, on the pool's own thread.
    blocked_here: usize,
    /// Who is busy and not careful.
    hasty: usize,
    /// Who was hired on another thread.
    elsewhere: usize,
}

impl<S: Stage> Staff<S> {
    pub(super) fn new() -> Self {
        Staff {
            members: Vec::new(),
            idle_here: Vec::new(),
            idle_elsewhere: Vec::new(),
            busy_here: 0,
            blocked_here: 0,
            hasty: 0,
            elsewhere: 0,
        }
    }

    pub(super) fn member(&mut self, worker: u32) -> Option<&mut Member<S>> {
        self.members
            .get_mut(worker as usize)
            .and_then(Option::as_mut)
    }

    /// Who leaves stays so until it has left.
    pub(super) fn set(&mut self, worker: u32, state: MemberState) {
        let Some(Some(member)) = self.members.get_mut(worker as usize) else {
            return;
        };
        let before = member.state;
        if before == MemberState::Leaving {
            return;
        }
        member.state = state;
        if !member.spare {
            let busy = |state| matches!(state, MemberState::Busy { .. }) && member.local;
            let hasty = |state| matches!(state, MemberState::Busy { careful: false });
            let blocked = |state| state == MemberState::Blocked && member.local;
            self.busy_here = self.busy_here + usize::from(busy(state)) - usize::from(busy(before));
            self.blocked_here =
                self.blocked_here + usize::from(blocked(state)) - usize::from(blocked(before));
            if hasty(before) && state == MemberState::Leaving {
                member.leaves_hastily = true;
            } else {
                self.hasty = self.hasty + usize::from(hasty(state)) - usize::from(hasty(before));
            }
            if state == MemberState::Idle && before != MemberState::Idle {
                if member.local {
                    self.idle_here.push(worker);
                } else {
                    self.idle_elsewhere.push(worker);
                }
            }
        }
    }

    /// Whether somebody is idle on this thread, or, unless only those are asked for, on another.
    pub(super) fn has_idle(&mut self, anywhere: bool) -> bool {
        Self::forget_others(&self.members, &mut self.idle_here);
        if !self.idle_here.is_empty() {
            return true;
        }
        Self::forget_others(&self.members, &mut self.idle_elsewhere);
        anywhere && !self.idle_elsewhere.is_empty()
    }

    /// Whether the next one to be engaged is on this thread; asked right after `has_idle`.
    pub(super) fn is_next_here(&self, anywhere: bool) -> bool {
        !anywhere || !self.idle_here.is_empty()
    }

    /// Whether some are on other threads.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere > 0
    }

    /// Leaves somebody idle at the end of the list, if there is anybody.
    fn forget_others(members: &[Option<Member<S>>], list: &mut Vec<u32>) {
        while let Some(last) = list.last() {
            let member = members.get(*last as usize).and_then(Option::as_ref);
            if member.is_some_and(|member| member.state == MemberState::Idle && !member.spare) {
                return;
            }
            list.pop();
        }
    }

    /// Gives somebody idle something to do; the spare one too, if that will do.
    pub(super) fn engage(
        &mut self,
        anywhere: bool,
        spare: bool,
        state: MemberState,
    ) -> Option<&Member<S>> {
        let worker = if self.has_idle(anywhere) {
            self.idle_here.pop().or_else(|| self.idle_elsewhere.pop())
        } else if spare {
            let is_free = |member: &Option<Member<S>>| {
                member
                    .as_ref()
                    .is_some_and(|member| member.spare && member.state == MemberState::Idle)
            };
            self.members.iter().position(is_free).map(|n| n as u32)
        } else {
            None
        }?;
        self.set(worker, state);
        self.members.get(worker as usize)?.as_ref()
    }

    /// How many may be idle.
    pub(super) fn idle(&self) -> usize {
        self.idle_here.len() + self.idle_elsewhere.len()
    }

    pub(super) fn is_busy_here(&self) -> bool {
        self.busy_here > 0
    }

    pub(super) fn is_blocked_here(&self) -> bool {
        self.blocked_here > 0
    }

    /// Whether whoever has tasks in its hands looks before it starts one.
    pub(super) fn all_careful(&self) -> bool {
        self.hasty == 0
    }

    pub(super) fn has_spare(&self) -> bool {
        self.members.iter().flatten().any(|member| member.spare)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.members.iter().all(Option::is_none)
    }

    pub(super) fn built(&self) -> usize {
        let built = |member: &&Member<S>| member.state != MemberState::Building && !member.spare;
        self.members.iter().flatten().filter(built).count()
    }

    /// Asks everyone to leave.
    pub(super) fn send_home(&mut self, how: impl Fn() -> ToWorker<S::Input>) {
        for worker in 0..self.members.len() as u32 {
            self.dismiss(worker, how());
        }
        self.idle_here.clear();
        self.idle_elsewhere.clear();
    }

    fn dismiss(&mut self, worker: u32, how: ToWorker<S::Input>) {
        if let Some(member) = self.member(worker) {
            member.addr.do_send(how);
            self.set(worker, MemberState::Leaving);
        }
    }

    /// It has left; its thread, if it had one.
    pub(super) fn strike_off(&mut self, worker: u32) -> Option<Arbiter> {
        // So that it counts no more.
        self.set(worker, MemberState::Leaving);
        let member = self.members.get_mut(worker as usize)?.take()?;
        self.hasty -= usize::from(member.leaves_hastily);
        self.elsewhere -= usize::from(!member.local);
        member.thread
    }

    /// Leaves them: a thread whose call still runs ends once that has returned.
    pub(super) fn abandon(&mut self) {
        for member in self.members.drain(..).flatten() {
            member.addr.do_send(ToWorker::Suspend);
            if let Some(thread) = member.thread {
                thread.stop();
            }
        }
    }

    fn add(&mut self, worker: usize, member: Member<S>) {
        self.elsewhere += usize::from(!member.local);
        if worker == self.members.len() {
            self.members.push(Some(member));
        } else {
            self.members[worker] = Some(member);
        }
    }

    fn vacant(&self) -> usize {
        self.members
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.members.len())
    }

    /// Asks so many to leave, the idle ones first: the busy ones are to finish.
    fn reduce(&mut self, mut by: usize) {
        for idle in [true, false] {
            for worker in (0..self.members.len()).rev() {
                let leaves = self.members[worker].as_ref().is_some_and(|member| {
                    !member.spare
                        && member.state != MemberState::Leaving
                        && (member.state == MemberState::Idle) == idle
                });
                if by > 0 && leaves {
                    self.dismiss(worker as u32, ToWorker::Quit);
                    by -= 1;
                }
            }
        }
    }

    /// Leaves only those who are idle in the lists, which grow no longer than the staff so.
    fn purge_idle(&mut self) {
        let members = &self.members;
        let idle = |worker: &u32| {
            let member = members.get(*worker as usize).and_then(Option::as_ref);
            member.is_some_and(|member| member.state == MemberState::Idle)
        };
        self.idle_here.retain(idle);
        self.idle_elsewhere.retain(idle);
    }

    fn count(&self) -> usize {
        let stays = |member: &&Member<S>| !member.spare && member.state != MemberState::Leaving;
        self.members.iter().flatten().filter(stays).count()
    }
}

impl<S: Stage> Pool<S> {
    /// Has as many workers as wanted, and asks the others to leave.
    pub(super) fn fill_up(&mut self, ctx: &mut Context<Self>) {
        if self.is_closing() {
            return;
        }
        let count = self.staff.count();
        for _ in count..self.wanted {
            self.hire(ctx, false);
        }
        if count > self.wanted {
            self.staff.reduce(count - self.wanted);
            self.staff.purge_idle();
        }
    }

    pub(super) fn hire(&mut self, ctx: &mut Context<Self>, spare: bool) {
        let vacant = self.staff.vacant();
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
            _present: self
                .settings
                .blocking
                .then(|| self.grounds.attend())
                .flatten(),
        };
        let (addr, local, thread) = if self.settings.blocking {
            let thread = match guard::run(Arbiter::new) {
                Ok(thread) => thread,
                Err(failure) => {
                    // Tried again like a value that can't be built.
                    self.not_built(failure, ctx);
                    let delay = self.settings.restart.delay(self.failures);
                    ctx.run_later(delay, |pool, ctx| pool.fill_up(ctx));
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
            leaves_hastily: false,
        };
        self.staff.add(vacant, member);
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
        let nobody = self.staff.built() == 0;
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
            if task.attempt() == 1 {
                self.room.add_permits(1);
            }
            // Or its end was decided by now, and this is where it is let go of.
            if task.fail(self.stage, self.is_down()).is_ok() || task.let_go(self.stage) {
                self.core.tell_reporter(ToReporter::Stopped(task.clone()));
            }
        }
    }

    pub(super) fn count_workers(&self) {
        self.board
            .workers
            .store(self.staff.built(), Ordering::Relaxed);
    }
}

fn on<S: Stage>(arbiter: &ArbiterHandle, seat: Seat<S>) -> Addr<Worker<S>> {
    Worker::start_in_arbiter(arbiter, move |_| Worker::new(seat))
}
