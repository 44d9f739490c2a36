//! The set of a pool's workers: which are free, and which are to get what comes next.
//!
//! Pure bookkeeping: the pool tells it what happened, and asks. *Local* means on the pool's own
//! thread, where a message needs to wake nobody.

use std::{cmp::Reverse, collections::BinaryHeap};

use actix::{Addr, Arbiter};

use crate::{
    engine::{
        channel::Sender,
        worker::{
            Worker,
            inbox::{Parcel, Starts, ToWorker},
        },
    },
    stage::Stage,
};

pub(super) struct WorkerSlot<S: Stage> {
    pub(super) addr: Addr<Worker<S>>,
    pub(super) jobs: Sender<Parcel<S::Input>>,
    state: WorkerState,
    local: bool,
    /// Runs undos only, while every other one is busy.
    spare: bool,
    /// Its own, if its stage blocks.
    thread: Option<Arbiter>,
    /// Asked to leave while it was busy without fences: it still has its batch.
    leaves_unfenced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerState {
    Building,
    Idle,
    Busy(Starts),
    /// Busy, and waiting for something.
    Waiting,
    /// Waiting for room at the next stage.
    Blocked,
    Leaving,
}

/// The workers that will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Local,
    /// Local ones first.
    Anywhere,
    /// The spare one too, before another thread is woken.
    AnywhereOrSpare,
}

/// A worker's place and purpose.
pub(super) struct Placement {
    pub(super) local: bool,
    pub(super) spare: bool,
    pub(super) thread: Option<Arbiter>,
}

/// A pool's workers, by number, and the sums over them that every batch asks for.
pub(super) struct WorkerSet<S: Stage> {
    slots: Vec<Option<WorkerSlot<S>>>,
    /// Workers in the order in which they became idle. Some may not be idle any more: that is looked
    /// at when one is asked for.
    idle_local: Vec<u32>,
    idle_remote: Vec<u32>,
    /// Without the spare one.
    busy_local: usize,
    blocked_local: usize,
    /// Busy without fences.
    unfenced: usize,
    remote: usize,
    /// Numbers below the length of `slots` that no worker has, the lowest first.
    vacant: BinaryHeap<Reverse<u32>>,
    /// The one that runs undos only.
    spare: Option<u32>,
    /// Those that have a stage value, and those that aren't leaving: the spare one aside.
    built: usize,
    staying: usize,
}

impl<S: Stage> WorkerSet<S> {
    pub(super) fn new() -> Self {
        WorkerSet {
            slots: Vec::new(),
            idle_local: Vec::new(),
            idle_remote: Vec::new(),
            busy_local: 0,
            blocked_local: 0,
            unfenced: 0,
            remote: 0,
            vacant: BinaryHeap::new(),
            spare: None,
            built: 0,
            staying: 0,
        }
    }

    /// Gives an idle worker something to do, if there is one.
    pub(super) fn assign(&mut self, reach: Reach, state: WorkerState) -> Option<&WorkerSlot<S>> {
        let is_idle = |worker: &u32| {
            self.get(*worker)
                .is_some_and(|slot| slot.state == WorkerState::Idle)
        };
        let may_spare = reach == Reach::AnywhereOrSpare;
        let spare = self.spare.filter(is_idle).filter(|_| may_spare);
        let worker = if self.has_idle(reach) {
            let local_spare = spare.filter(|spare| self.get(*spare).is_some_and(|slot| slot.local));
            self.idle_local
                .pop()
                .or(local_spare)
                .or_else(|| self.idle_remote.pop())
        } else {
            spare
        }?;
        self.set(worker, state);
        self.slots.get(worker as usize)?.as_ref()
    }

    /// A worker is idle, the spare one aside.
    pub(super) fn has_idle(&mut self, reach: Reach) -> bool {
        Self::forget_busy(&self.slots, &mut self.idle_local);
        if !self.idle_local.is_empty() {
            return true;
        }
        Self::forget_busy(&self.slots, &mut self.idle_remote);
        reach != Reach::Local && !self.idle_remote.is_empty()
    }

    /// The next one to be assigned is local; asked right after `has_idle`.
    pub(super) fn is_next_local(&self, reach: Reach) -> bool {
        debug_assert!(!self.idle_local.is_empty() || !self.idle_remote.is_empty());
        reach == Reach::Local || !self.idle_local.is_empty()
    }

    /// Leaves an idle worker at the end of the list, if there is any in it.
    fn forget_busy(slots: &[Option<WorkerSlot<S>>], list: &mut Vec<u32>) {
        while let Some(last) = list.last() {
            let slot = slots.get(*last as usize).and_then(Option::as_ref);
            if slot.is_some_and(|slot| slot.state == WorkerState::Idle && !slot.spare) {
                return;
            }
            list.pop();
        }
    }

    /// Keeps the sums. A worker that leaves stays so until it has left.
    pub(super) fn set(&mut self, worker: u32, state: WorkerState) {
        let Some(Some(slot)) = self.slots.get_mut(worker as usize) else {
            return;
        };
        let before = slot.state;
        if before == WorkerState::Leaving {
            return;
        }
        slot.state = state;
        if slot.spare {
            return;
        }
        let busy = |state| matches!(state, WorkerState::Busy(_)) && slot.local;
        let blocked = |state| state == WorkerState::Blocked && slot.local;
        let unfenced = |state| state == WorkerState::Busy(Starts::Unfenced);
        let built = |state| !matches!(state, WorkerState::Building);
        let stays = |state| !matches!(state, WorkerState::Leaving);
        self.built = self.built + usize::from(built(state)) - usize::from(built(before));
        self.staying = self.staying + usize::from(stays(state)) - usize::from(stays(before));
        self.busy_local = self.busy_local + usize::from(busy(state)) - usize::from(busy(before));
        self.blocked_local =
            self.blocked_local + usize::from(blocked(state)) - usize::from(blocked(before));
        if unfenced(before) && state == WorkerState::Leaving {
            slot.leaves_unfenced = true;
        } else {
            self.unfenced =
                self.unfenced + usize::from(unfenced(state)) - usize::from(unfenced(before));
        }
        if state == WorkerState::Idle && before != WorkerState::Idle {
            if slot.local {
                self.idle_local.push(worker);
            } else {
                self.idle_remote.push(worker);
            }
        }
    }

    pub(super) fn get(&self, worker: u32) -> Option<&WorkerSlot<S>> {
        self.slots.get(worker as usize)?.as_ref()
    }

    /// An upper bound on the number of threads that the idle workers are on. Those on this one take turns.
    pub(super) fn most_threads(&self, reach: Reach) -> usize {
        let remote = match reach {
            Reach::Local => 0,
            Reach::Anywhere | Reach::AnywhereOrSpare => self.idle_remote.len(),
        };
        (remote + usize::from(!self.idle_local.is_empty())).max(1)
    }

    pub(super) fn has_remote(&self) -> bool {
        self.remote > 0
    }

    pub(super) fn has_busy_local(&self) -> bool {
        self.busy_local > 0
    }

    pub(super) fn has_blocked_local(&self) -> bool {
        self.blocked_local > 0
    }

    /// Every worker with a batch looks behind a fence before it starts a task.
    pub(super) fn all_fenced(&self) -> bool {
        self.unfenced == 0
    }

    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.vacant.len() == self.slots.len()
    }

    /// Number of workers that have a stage value, the spare one aside.
    pub(super) fn built(&self) -> usize {
        self.built
    }

    /// Number of workers that aren't leaving, the spare one aside.
    pub(super) fn staying(&self) -> usize {
        self.staying
    }

    /// A number that no worker has. It stays free until a worker is added under it.
    pub(super) fn vacant(&self) -> u32 {
        match self.vacant.peek() {
            Some(Reverse(lowest)) => *lowest,
            None => self.slots.len() as u32,
        }
    }

    pub(super) fn add(
        &mut self,
        worker: u32,
        addr: Addr<Worker<S>>,
        jobs: Sender<Parcel<S::Input>>,
        placement: Placement,
    ) {
        let Placement {
            local,
            spare,
            thread,
        } = placement;
        self.remote += usize::from(!local);
        if spare {
            self.spare = Some(worker);
        } else {
            self.staying += 1;
        }
        let slot = Some(WorkerSlot {
            addr,
            jobs,
            state: WorkerState::Building,
            local,
            spare,
            thread,
            leaves_unfenced: false,
        });
        let at = worker as usize;
        if at == self.slots.len() {
            self.slots.push(slot);
        } else {
            debug_assert_eq!(self.vacant(), worker);
            self.vacant.pop();
            self.slots[at] = slot;
        }
    }

    /// It has left. Returns its thread, if it had one of its own.
    pub(super) fn remove(&mut self, worker: u32) -> Option<Arbiter> {
        // So that it counts no more.
        self.set(worker, WorkerState::Leaving);
        let slot = self.slots.get_mut(worker as usize)?.take()?;
        self.vacant.push(Reverse(worker));
        if self.spare == Some(worker) {
            self.spare = None;
        }
        // One that leaves has counted as built, as it has not to be waited for.
        self.built -= usize::from(!slot.spare);
        self.unfenced -= usize::from(slot.leaves_unfenced);
        self.remote -= usize::from(!slot.local);
        slot.thread
    }

    /// Asks that many to leave, the idle ones first: the busy ones are to finish.
    pub(super) fn reduce(&mut self, mut by: usize) {
        for idle in [true, false] {
            for worker in (0..self.slots.len()).rev() {
                let leaves = self.slots[worker].as_ref().is_some_and(|slot| {
                    !slot.spare
                        && slot.state != WorkerState::Leaving
                        && (slot.state == WorkerState::Idle) == idle
                });
                if by > 0 && leaves {
                    self.dismiss(worker as u32, ToWorker::Quit);
                    by -= 1;
                }
            }
        }
        // So that the lists grow no longer than the set.
        let slots = &self.slots;
        let idle = |worker: &u32| {
            let slot = slots.get(*worker as usize).and_then(Option::as_ref);
            slot.is_some_and(|slot| slot.state == WorkerState::Idle)
        };
        self.idle_local.retain(idle);
        self.idle_remote.retain(idle);
    }

    /// Asks all of them to leave.
    pub(super) fn dismiss_all(&mut self, how: impl Fn() -> ToWorker) {
        for worker in 0..self.slots.len() as u32 {
            self.dismiss(worker, how());
        }
        self.idle_local.clear();
        self.idle_remote.clear();
    }

    fn dismiss(&mut self, worker: u32, how: ToWorker) {
        if let Some(slot) = self.get(worker) {
            slot.addr.do_send(how);
            self.set(worker, WorkerState::Leaving);
        }
    }

    /// Leaves them behind: a thread whose call still runs ends once that has returned.
    pub(super) fn abandon(&mut self) {
        self.vacant.clear();
        for slot in self.slots.drain(..).flatten() {
            slot.addr.do_send(ToWorker::Suspend);
            if let Some(thread) = slot.thread {
                thread.stop();
            }
        }
    }
}
