//! The tasks in flight: their records, which are used again and again, their deadlines and the
//! counts, under one lock, so that every snapshot is one consistent cut.

use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;
use tokio::sync::{Notify, Semaphore};

use super::{End, Ended, Life, Rollback, State, Stuck, Task, TaskId, TaskRef, Wheel};
use crate::{
    clock::{NEVER, Nanos},
    core::Core,
    guard,
};

/// How many tasks were accepted, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks whose `submit` returned.
    pub accepted: u64,
    /// Tasks that every stage returned in time for.
    pub done: u64,
    /// Tasks that a stage failed.
    pub failed: u64,
    /// Tasks whose deadline passed.
    pub timed_out: u64,
    /// Tasks that were cancelled, by a user or by the shutdown.
    pub cancelled: u64,
    /// Tasks that a failed ledger left where they were.
    pub suspended: u64,
}

impl Counts {
    /// Tasks accepted that have no outcome yet, their rollbacks included.
    pub fn in_flight(&self) -> u64 {
        self.accepted - self.done - self.failed - self.timed_out - self.cancelled - self.suspended
    }
}

/// What a task is accepted with.
#[derive(Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) deadline: Nanos,
    pub(crate) work_timeout: Option<Nanos>,
    pub(crate) wants_output: bool,
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    Stuck,
    Suspended,
}

pub(crate) struct Table {
    /// A place for each task that may be in flight at once.
    pub(crate) places: Semaphore,
    /// A deadline was set that is sooner than the one the driver sleeps for.
    pub(crate) sooner: Notify,
    /// Room in the first stage's queue.
    pub(crate) front: Arc<Semaphore>,
    core: Weak<Core>,
    max_stuck: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    last_id: u64,
    refused: Option<Refused>,
    records: Vec<TaskRef>,
    /// The id of each record's task, 0 where it has ended: looking one up walks memory in a line.
    ids: Vec<u64>,
    free: Vec<u32>,
    wheel: Wheel,
    /// The tick that the deadline driver sleeps for.
    armed: u64,
    counts: Counts,
    stuck: Vec<Stuck>,
}

impl Table {
    pub(crate) fn new(core: Weak<Core>, places: usize, front: usize, max_stuck: usize) -> Self {
        Table {
            places: Semaphore::new(places),
            sooner: Notify::new(),
            front: Arc::new(Semaphore::new(front)),
            core,
            max_stuck,
            inner: Mutex::new(Inner {
                last_id: 0,
                refused: None,
                records: Vec::new(),
                ids: Vec::new(),
                free: Vec::new(),
                wheel: Wheel::new(),
                armed: NEVER,
                counts: Counts::default(),
                stuck: Vec::new(),
            }),
        }
    }

    /// Gives a task its record. The caller holds one of the `places` for it.
    pub(crate) fn admit(&self, with: Admission) -> Result<(TaskRef, TaskId), Refused> {
        let mut locked = guard::lock(&self.inner);
        let inner = &mut *locked;
        if let Some(refused) = inner.refused {
            return Err(refused);
        }
        if inner.stuck.len() >= self.max_stuck {
            return Err(Refused::Stuck);
        }
        inner.last_id += 1;
        let id = TaskId(inner.last_id);
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = inner.records.len() as u32;
                inner
                    .records
                    .push(Arc::new(Task::new(slot, self.core.clone(), id)));
                inner.ids.push(0);
                slot
            }
        };
        let record = &mut inner.records[slot as usize];
        let remains = match Arc::get_mut(record) {
            Some(task) => Some(task.life_mut().renew(id)),
            // A ticket still looks at the task that had it.
            None => {
                *record = Arc::new(Task::new(slot, self.core.clone(), id));
                None
            }
        };
        if let Some(task) = Arc::get_mut(record) {
            let life = task.life_mut();
            life.deadline = with.deadline;
            life.work_timeout = with.work_timeout;
            life.wants_output = with.wants_output;
            life.queued = with.count;
        }
        let task = record.clone();
        inner.ids[slot as usize] = id.0;
        inner.counts.accepted += 1;
        if with.deadline != NEVER {
            self.watch(inner, slot, with.deadline);
        }
        drop(locked);
        guard::drop_quietly(remains);
        Ok((task, id))
    }

    /// Takes back what `admit` did for a task that never went anywhere.
    /// `false` if it has had its outcome meanwhile.
    pub(crate) fn revoke(&self, task: &TaskRef) -> bool {
        let mut inner = guard::lock(&self.inner);
        let live = inner.release(task);
        inner.counts.accepted -= u64::from(live);
        live
    }

    fn watch(&self, inner: &mut Inner, slot: u32, deadline: Nanos) {
        let tick = Wheel::tick_of(deadline);
        inner.wheel.insert(slot, tick);
        if tick < inner.armed {
            inner.armed = tick;
            self.sooner.notify_one();
        }
    }

    /// Brings a task's deadline forward.
    pub(crate) fn set_deadline(&self, slot: u32, deadline: Nanos) {
        let mut inner = guard::lock(&self.inner);
        self.watch(&mut inner, slot, deadline);
    }

    /// When the next deadline may pass; the driver sleeps until then or until `sooner`.
    pub(crate) fn arm(&self) -> Option<Nanos> {
        let mut inner = guard::lock(&self.inner);
        let tick = inner.wheel.next_tick();
        inner.armed = tick.unwrap_or(NEVER);
        tick.map(Wheel::nanos_of)
    }

    /// The tasks whose deadline has passed, `most` of them or a few more.
    pub(crate) fn expire(&self, now: Nanos, most: usize) -> Vec<TaskRef> {
        let mut due = Vec::new();
        let mut inner = guard::lock(&self.inner);
        inner.wheel.expire(Wheel::tick_at(now), most, &mut due);
        due.iter()
            .map(|slot| inner.records[*slot as usize].clone())
            .collect()
    }

    /// Counts ended tasks and frees their places. Returns how many are in flight now.
    pub(crate) fn file<'a>(&self, ended: impl Iterator<Item = (&'a TaskRef, &'a End)>) -> u64 {
        let mut places = 0;
        let mut inner = guard::lock(&self.inner);
        for (task, end) in ended {
            if !inner.release(task) {
                continue;
            }
            places += 1;
            match end {
                End::Done => inner.counts.done += 1,
                End::Failed { .. } => inner.counts.failed += 1,
                End::TimedOut { .. } => inner.counts.timed_out += 1,
                End::Cancelled { .. } => inner.counts.cancelled += 1,
            }
        }
        let in_flight = inner.counts.in_flight();
        drop(inner);
        self.places.add_permits(places);
        in_flight
    }

    /// Files tasks that are done: the way of nearly every task.
    pub(crate) fn file_done<'a>(&self, done: impl Iterator<Item = &'a TaskRef>) -> u64 {
        let mut inner = guard::lock(&self.inner);
        let mut places = 0;
        for task in done {
            places += usize::from(inner.release(task));
        }
        inner.counts.done += places as u64;
        let in_flight = inner.counts.in_flight();
        drop(inner);
        self.places.add_permits(places);
        in_flight
    }

    /// Remembers a stuck task until a person resolves it.
    pub(crate) fn keep_stuck(&self, rollback: &Rollback) {
        if let Rollback::Stuck(stuck) = rollback {
            guard::lock(&self.inner).stuck.push(stuck.clone());
        }
    }

    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        guard::lock(&self.inner).stuck.clone()
    }

    /// A person has dealt with it.
    pub(crate) fn resolve(&self, id: TaskId) -> bool {
        let mut inner = guard::lock(&self.inner);
        let before = inner.stuck.len();
        inner.stuck.retain(|stuck| stuck.task != id);
        inner.stuck.len() < before
    }

    pub(crate) fn counts(&self) -> Counts {
        guard::lock(&self.inner).counts
    }

    pub(crate) fn find(&self, id: TaskId) -> Option<TaskRef> {
        let inner = guard::lock(&self.inner);
        let slot = inner.ids.iter().position(|live| *live == id.0)?;
        (id.0 != 0).then(|| inner.records[slot].clone())
    }

    /// Every task in flight, in the order of their ids.
    pub(crate) fn live(&self) -> Vec<TaskRef> {
        let inner = guard::lock(&self.inner);
        let mut live: Vec<(u64, TaskRef)> = inner
            .ids
            .iter()
            .zip(&inner.records)
            .filter(|(id, _)| **id != 0)
            .map(|(id, task)| (*id, task.clone()))
            .collect();
        live.sort_unstable_by_key(|(id, _)| *id);
        live.into_iter().map(|(_, task)| task).collect()
    }

    /// Accepts nothing more. A suspension may follow a closing, not the other way round.
    pub(crate) fn refuse(&self, why: Refused) {
        let mut inner = guard::lock(&self.inner);
        if inner.refused != Some(Refused::Suspended) {
            inner.refused = Some(why);
        }
        drop(inner);
        self.places.close();
        self.front.close();
    }

    pub(crate) fn refused(&self) -> Option<Refused> {
        guard::lock(&self.inner).refused
    }

    /// Counts everything in flight as suspended; it stays where it is.
    pub(crate) fn suspend(&self) -> Vec<TaskRef> {
        self.refuse(Refused::Suspended);
        let live = self.live();
        let mut inner = guard::lock(&self.inner);
        for task in &live {
            inner.counts.suspended += u64::from(inner.release(task));
        }
        live
    }
}

impl Inner {
    /// Frees a record; `false` when it was free already, as after a suspension.
    fn release(&mut self, task: &TaskRef) -> bool {
        let slot = task.slot;
        // Its slot may be another task's by now.
        if !Arc::ptr_eq(&self.records[slot as usize], task)
            || std::mem::take(&mut self.ids[slot as usize]) == 0
        {
            return false;
        }
        self.wheel.remove(slot);
        self.free.push(slot);
        true
    }
}

/// What an ended task's record says of its end.
pub(crate) fn end_of(life: &Life, names: &[super::StageName]) -> Option<End> {
    let name = |stage: u16| names[(stage as usize).min(names.len() - 1)].clone();
    match life.end.as_deref() {
        Some(Ended::Failed(stage, failure)) => Some(End::Failed {
            stage: name(*stage),
            failure: failure.clone(),
        }),
        Some(Ended::TimedOut(stage)) => Some(End::TimedOut {
            stage: name(*stage),
        }),
        Some(Ended::Cancelled(stage, cause)) => Some(End::Cancelled {
            stage: name(*stage),
            cause: *cause,
        }),
        None => (life.state == State::Ended).then_some(End::Done),
    }
}
