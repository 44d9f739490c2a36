//! The tasks in flight: their records, which are used again and again, their deadlines and the
//! counts, under one lock, so that every snapshot is one consistent cut.

mod queries;
pub(crate) mod past;
#[cfg(feature = "journal")]
mod restore;
pub(crate) mod stuck;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use tokio::sync::{Notify, Semaphore};

use super::{
    counts::Counts,
    id::TaskId,
    lent::LentUndos,
    limits::Limits,
    outcome::End,
    prealloc::{BlankRecord, RecordLease},
    record::{Owner, Task, TaskRef},
    stuck_task::StuckTask,
    timer_wheel::TimerWheel,
};
use crate::{
    clock::{Cycles, NEVER, Nanos},
    panic_guard,
};

/// Why no task is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    /// As many tasks are stuck as the pipeline may hold.
    Stuck,
    Suspended,
}

pub(crate) struct Table {
    /// A place for each task that may be in flight at once.
    pub(crate) places: Arc<Semaphore>,
    /// A deadline was set that is sooner than the one the driver sleeps for.
    pub(crate) sooner: Notify,
    /// Room in the first stage's queue.
    pub(crate) front: Arc<Semaphore>,
    owner: Owner,
    max_stuck: usize,
    inner: Mutex<Inner>,
    /// The records whose stages have told of their progress, each with its task's number.
    reporting: Mutex<HashMap<u32, TaskId>>,
    pub(crate) lent: LentUndos,
}

struct Inner {
    last_id: u64,
    refused: Option<Refusal>,
    records: Vec<TaskRef>,
    /// The id of each record's task, 0 where it has ended: looking one up walks memory in a line.
    ids: Vec<u64>,
    /// A ticket's hold on each record that came back unused: counting holds up and down costs more
    /// than all else that is done for most tasks here.
    tickets: Vec<Option<TaskRef>>,
    /// The hold that goes along with a task, of each record that is free.
    free: Vec<TaskRef>,
    wheel: TimerWheel,
    /// The tick that the deadline driver sleeps for.
    armed: u64,
    counts: Counts,
    /// Tasks accepted through a lease that are not among `counts` yet, a number for each intake.
    leased: Vec<Arc<AtomicU64>>,
    /// Holds that were let go of. The last one of a record drops what is in there of the user's, so
    /// they are dropped once the lock is open.
    scrap: Vec<TaskRef>,
    stuck: Vec<StuckTask>,
}

impl Table {
    pub(crate) fn new(owner: Owner, places: usize, front: usize, max_stuck: usize) -> Self {
        Table {
            places: Arc::new(Semaphore::new(places)),
            sooner: Notify::new(),
            front: Arc::new(Semaphore::new(front)),
            owner,
            max_stuck,
            reporting: Mutex::default(),
            lent: LentUndos::default(),
            inner: Mutex::new(Inner {
                last_id: 0,
                refused: None,
                records: Vec::new(),
                ids: Vec::new(),
                tickets: Vec::new(),
                free: Vec::new(),
                wheel: TimerWheel::new(),
                armed: NEVER,
                counts: Counts::default(),
                leased: Vec::new(),
                scrap: Vec::new(),
                stuck: Vec::new(),
            }),
        }
    }

    /// Gives a task its record: the task's hold and its ticket's. The caller holds one of the
    /// `places` for it.
    pub(crate) fn admit(
        &self,
        limits: &Limits,
        now: Nanos,
        cycles: Cycles,
    ) -> Result<(TaskRef, TaskRef), Refusal> {
        let (mut inner, blank) = self.blank();
        if let Err(refused) = self.is_open(&inner) {
            inner.put_back(blank);
            return Err(refused);
        }
        let BlankRecord { task, ticket } = blank;
        inner.last_id += 1;
        let id = inner.last_id;
        task.renew(TaskId(id), limits, now, cycles);
        inner.ids[task.slot as usize] = id;
        inner.counts.accepted += 1;
        self.watch(&mut inner, task.slot, task.deadline());
        Ok((task, ticket))
    }

    /// A blank record, which holds nothing of the user's any more.
    #[inline]
    fn blank(&self) -> (MutexGuard<'_, Inner>, BlankRecord) {
        let mut inner = panic_guard::lock(&self.inner);
        let blank = inner.blank_record(&self.owner);
        if blank.task.has_details() || !inner.scrap.is_empty() {
            discard(inner);
            // Drops what it still holds of the user's: under no lock.
            blank.task.clear();
            inner = panic_guard::lock(&self.inner);
        }
        (inner, blank)
    }

    /// The reason why nothing is accepted now, if there is one.
    pub(crate) fn why_closed(&self) -> Option<Refusal> {
        self.is_open(&panic_guard::lock(&self.inner)).err()
    }

    fn is_open(&self, inner: &Inner) -> Result<(), Refusal> {
        match inner.refused {
            Some(refused) => Err(refused),
            None if inner.stuck.len() >= self.max_stuck => Err(Refusal::Stuck),
            None => Ok(()),
        }
    }

    /// A number for what is accepted through leases of one intake.
    pub(crate) fn leased_count(&self) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        panic_guard::lock(&self.inner).leased.push(count.clone());
        count
    }

    /// Records for `most` tasks. The caller holds as many of the `places`. It runs on the thread that
    /// closes the intake, so nothing is refused before they are entered.
    pub(crate) fn lease(
        &self,
        most: usize,
        mut records: Vec<BlankRecord>,
    ) -> Result<RecordLease, Refusal> {
        let mut inner = panic_guard::lock(&self.inner);
        self.is_open(&inner)?;
        records.extend((0..most).map(|_| inner.blank_record(&self.owner)));
        let next = inner.last_id + 1;
        inner.last_id += most as u64;
        discard(inner);
        Ok(RecordLease {
            records,
            next,
            end: next + most as u64,
        })
    }

    /// Enters the tasks accepted through a lease, which are on their way from now on, and takes back
    /// what is left of it and the tickets that were dropped. Returns the lease's memory.
    pub(crate) fn enter(
        &self,
        accepted: &[TaskRef],
        leased_count: &AtomicU64,
        lease: Option<RecordLease>,
        dropped: &mut Vec<TaskRef>,
    ) -> Vec<BlankRecord> {
        let mut locked = panic_guard::lock(&self.inner);
        let inner = &mut *locked;
        for task in accepted {
            inner.ids[task.slot as usize] = task.id().0;
            self.watch(inner, task.slot, task.deadline());
        }
        inner.counts.accepted += accepted.len() as u64;
        leased_count.store(0, Ordering::Relaxed);
        let Some(mut lease) = lease else {
            inner.keep(dropped);
            discard(locked);
            return Vec::new();
        };
        for BlankRecord { task, ticket } in lease.records.drain(..) {
            inner.tickets[task.slot as usize] = Some(ticket);
            inner.free.push(task);
        }
        // So that numbers have no gaps, where nobody else was given any meanwhile.
        if inner.last_id + 1 == lease.end {
            inner.last_id = lease.next - 1;
        }
        inner.keep(dropped);
        discard(locked);
        lease.records
    }

    /// Takes back what `admit` did for a task that never went anywhere.
    /// `false` if it has had its outcome meanwhile.
    pub(crate) fn revoke(&self, task: TaskRef) -> bool {
        let mut inner = panic_guard::lock(&self.inner);
        let live = inner.release(task);
        inner.counts.accepted -= u64::from(live);
        discard(inner);
        live
    }

    #[inline]
    fn watch(&self, inner: &mut Inner, slot: u32, deadline: Nanos) {
        if deadline == NEVER {
            return;
        }
        let tick = TimerWheel::tick_of(deadline);
        inner.wheel.insert(slot, tick);
        if tick < inner.armed {
            inner.armed = tick;
            self.sooner.notify_one();
        }
    }

    /// Brings a task's deadline forward.
    pub(crate) fn set_deadline(&self, slot: u32, deadline: Nanos) {
        let mut inner = panic_guard::lock(&self.inner);
        self.watch(&mut inner, slot, deadline);
    }

    /// The time at which the next deadline may pass; the driver sleeps until then or until `sooner`.
    pub(crate) fn arm(&self) -> Option<Nanos> {
        let mut inner = panic_guard::lock(&self.inner);
        let tick = inner.wheel.next_tick();
        inner.armed = tick.unwrap_or(NEVER);
        tick.map(TimerWheel::nanos_of)
    }

    /// The tasks whose deadline has passed, `most` of them or a few more.
    pub(crate) fn expire(&self, now: Nanos, most: usize) -> Vec<TaskRef> {
        let mut due = Vec::new();
        let mut inner = panic_guard::lock(&self.inner);
        inner.wheel.expire(TimerWheel::tick_at(now), most, &mut due);
        due.iter()
            .map(|slot| inner.records[*slot as usize].clone())
            .collect()
    }

    /// Counts an ended task and frees its place. Returns how many are in flight now.
    pub(crate) fn file(&self, task: TaskRef, end: &End) -> u64 {
        let mut inner = panic_guard::lock(&self.inner);
        let live = inner.release(task);
        if live {
            match end {
                End::Done => inner.counts.done += 1,
                End::Failed { .. } => inner.counts.failed += 1,
                End::TimedOut { .. } => inner.counts.timed_out += 1,
                End::Cancelled { .. } => inner.counts.cancelled += 1,
                End::TakenBack => inner.counts.taken_back += 1,
            }
        }
        let in_flight = inner.counts().in_flight();
        discard(inner);
        self.places.add_permits(usize::from(live));
        in_flight
    }

    /// Counts a task that is another process's now, and frees its place. Returns how many are in flight.
    #[cfg(feature = "journal")]
    pub(crate) fn file_released(&self, task: TaskRef) -> u64 {
        let mut inner = panic_guard::lock(&self.inner);
        let live = inner.release(task);
        inner.counts.released += u64::from(live);
        let in_flight = inner.counts().in_flight();
        discard(inner);
        self.places.add_permits(usize::from(live));
        in_flight
    }

    /// Files tasks that are done: the way of nearly every task.
    pub(crate) fn file_done(&self, done: impl Iterator<Item = TaskRef>) -> u64 {
        let mut inner = panic_guard::lock(&self.inner);
        let mut places = 0;
        for task in done {
            places += usize::from(inner.release(task));
        }
        inner.counts.done += places as u64;
        let in_flight = inner.counts().in_flight();
        discard(inner);
        self.places.add_permits(places);
        in_flight
    }

    /// Accepts nothing more. A suspension may follow a closing, not the other way round.
    pub(crate) fn refuse(&self, why: Refusal) {
        let mut inner = panic_guard::lock(&self.inner);
        if inner.refused != Some(Refusal::Suspended) {
            inner.refused = Some(why);
        }
        drop(inner);
        self.places.close();
        self.front.close();
    }

    pub(crate) fn refused(&self) -> Option<Refusal> {
        panic_guard::lock(&self.inner).refused
    }

    /// Counts everything in flight as suspended; it stays where it is.
    pub(crate) fn suspend(&self) -> Vec<TaskRef> {
        self.refuse(Refusal::Suspended);
        let live = self.live();
        let mut inner = panic_guard::lock(&self.inner);
        for task in &live {
            inner.counts.suspended += u64::from(inner.release(task.clone()));
        }
        discard(inner);
        live
    }
}

impl Inner {
    fn counts(&self) -> Counts {
        let leased = self
            .leased
            .iter()
            .map(|count| count.load(Ordering::Acquire));
        Counts {
            accepted: self.counts.accepted + leased.sum::<u64>(),
            ..self.counts
        }
    }

    /// A record for a task to come, that nobody else looks at.
    fn blank_record(&mut self, owner: &Owner) -> BlankRecord {
        if let Some(task) = self.free.pop() {
            let ticket = self.tickets[task.slot as usize].take();
            // The table's hold, this one, and the ticket's. New ones are only made from these, under
            // the table's lock, so nobody else comes to look at it now.
            let alone = Arc::strong_count(&task) == 2 + usize::from(ticket.is_some());
            // Everything that others did to it before they let go of it has happened by now.
            fence(Ordering::Acquire);
            if alone {
                let ticket = ticket.unwrap_or_else(|| task.clone());
                return BlankRecord { task, ticket };
            }
            // A ticket still looks at the task that had it.
            let new = Arc::new(Task::new(task.slot, owner.clone()));
            let old = std::mem::replace(&mut self.records[task.slot as usize], new.clone());
            self.scrap.extend([old, task]);
            self.scrap.extend(ticket);
            return BlankRecord {
                task: new.clone(),
                ticket: new,
            };
        }
        let task = Arc::new(Task::new(self.records.len() as u32, owner.clone()));
        self.records.push(task.clone());
        self.ids.push(0);
        self.tickets.push(None);
        let ticket = task.clone();
        BlankRecord { task, ticket }
    }

    /// Takes a record back that was not needed.
    fn put_back(&mut self, BlankRecord { task, ticket }: BlankRecord) {
        self.tickets[task.slot as usize] = Some(ticket);
        self.free.push(task);
    }

    /// Frees a record; `false` when it was free already, as after a suspension.
    #[inline]
    fn release(&mut self, task: TaskRef) -> bool {
        let slot = task.slot;
        // Its slot may be another task's by now.
        if !Arc::ptr_eq(&self.records[slot as usize], &task)
            || std::mem::take(&mut self.ids[slot as usize]) == 0
        {
            self.scrap.push(task);
            return false;
        }
        self.wheel.remove(slot);
        self.free.push(task);
        true
    }

    /// Keeps the holds of dropped tickets for the next ones.
    fn keep(&mut self, dropped: &mut Vec<TaskRef>) {
        for ticket in dropped.drain(..) {
            let slot = ticket.slot as usize;
            // It may be another pipeline's.
            let own = self
                .records
                .get(slot)
                .is_some_and(|task| Arc::ptr_eq(task, &ticket));
            if own && self.tickets[slot].is_none() {
                self.tickets[slot] = Some(ticket);
            } else {
                self.scrap.push(ticket);
            }
        }
    }
}

/// Opens the lock, then drops the holds that were let go of under it.
#[inline]
fn discard(mut inner: MutexGuard<'_, Inner>) {
    if inner.scrap.is_empty() {
        return;
    }
    let scrap = std::mem::take(&mut inner.scrap);
    drop(inner);
    for hold in scrap {
        panic_guard::drop_quietly(hold);
    }
}
