//! The record of a live task, as everybody who holds the task shares it.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use super::{
    atomic_state::AtomicState,
    details::{Details, TicketAnswer},
    id::TaskId,
    limits::Limits,
    names::Names,
    state::{Event, Illegal, StageIx, State},
    undo::{Undo, UndoStatus},
};
use crate::{
    clock::{Cycles, NEVER, Nanos},
    panic_guard,
};

pub(crate) type TaskRef = Arc<Task>;

/// The pipeline of a task, opaque to the task itself.
pub(crate) type Owner = Weak<dyn TaskOwner>;

/// A pipeline, as its tasks know it.
pub(crate) trait TaskOwner: Any + Send + Sync {
    /// Ends a task whose holder was dropped, with an actor that has died: nobody else knows of it.
    fn task_lost(&self, task: TaskRef);
}

/// A task, shared by whoever holds its context now, the table of tasks in flight and its ticket.
///
/// The state that every task needs on its way is in words of its own, each with one writer at a time: the
/// holder of the task's context, unless it says otherwise. Relaxed accesses do, since a task is handed
/// on in a message, which orders them. They fill one cache line, the first, since
/// fetching another one costs as much as all that is done with them. The [`Details`], which few
/// tasks need, are behind the lock.
#[repr(C)]
pub(crate) struct Task {
    pub(super) state: AtomicState,
    id: AtomicU64,
    deadline: AtomicU64,
    /// The counter's value when it was last put into a queue.
    queued: AtomicU64,
    /// Becomes a deadline once the first stage takes it up.
    work_timeout: AtomicU64,
    /// The attempt of the stage, from 1.
    pub(super) attempt: AtomicU32,
    /// Raised when undos of this stage have run; see [`Key`](super::Key).
    pub(super) generation: AtomicU32,
    /// The worker that is on it while it runs.
    pub(super) worker: AtomicU32,
    /// Its place in the table.
    pub(crate) slot: u32,
    /// A ticket of it is left.
    ticket: AtomicBool,
    wants_output: AtomicBool,
    /// Something was put behind the lock.
    has_details: AtomicBool,
    pub(crate) owner: Owner,
    details: Mutex<Details>,
}

const _: () = assert!(std::mem::offset_of!(Task, owner) <= 64);

impl Task {
    /// A record that stands for a task whose own record this process may not have.
    pub(crate) fn in_ledger(id: TaskId, owner: Owner, key: Arc<str>) -> Self {
        let task = Task::new(u32::MAX, owner);
        task.id.store(id.0, Ordering::Relaxed);
        task.details().answer = Some(TicketAnswer::InLedger { task: id, key });
        task
    }

    pub(crate) fn new(slot: u32, owner: Owner) -> Self {
        Task {
            state: AtomicState::new(),
            attempt: AtomicU32::new(1),
            id: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            queued: AtomicU64::new(0),
            work_timeout: AtomicU64::new(NEVER),
            worker: AtomicU32::new(0),
            slot,
            generation: AtomicU32::new(0),
            ticket: AtomicBool::new(false),
            wants_output: AtomicBool::new(false),
            has_details: AtomicBool::new(false),
            details: Mutex::new(Details::default()),
            owner,
        }
    }

    /// Makes the record a new task's. Nobody else looks at it. Clears it first if that was not done.
    #[inline(always)]
    pub(crate) fn renew(&self, id: TaskId, limits: &Limits, now: Nanos, cycles: Cycles) {
        if self.has_details() {
            self.clear();
        }
        self.id.store(id.0, Ordering::Relaxed);
        self.attempt.store(1, Ordering::Relaxed);
        self.generation.store(0, Ordering::Relaxed);
        self.deadline
            .store(limits.deadline_from(now), Ordering::Relaxed);
        self.work_timeout
            .store(limits.work_timeout, Ordering::Relaxed);
        self.queued.store(cycles.0, Ordering::Relaxed);
        self.ticket.store(true, Ordering::Relaxed);
        self.wants_output
            .store(limits.wants_output, Ordering::Relaxed);
        self.state.begin();
    }

    /// Drops the details of the task before.
    #[cold]
    pub(crate) fn clear(&self) {
        self.has_details.store(false, Ordering::Relaxed);
        // Not `self.details()`, which would set the flag.
        let mut details = panic_guard::lock(&self.details);
        debug_assert!(details.undos.is_empty());
        let before = (
            details.output.take(),
            details.end.take(),
            details.names.take(),
            details.progress.take(),
            details.answer.take(),
            std::mem::take(&mut details.waiting),
        );
        details.last_waiting = 0;
        details.is_recording = false;
        details.spared = (0, 0);
        details.owners = 0;
        drop(details);
        panic_guard::drop_quietly(before);
    }

    /// Empties the list of undos of a task that has ended. Values that must not be dropped under a lock go
    /// to `scrap`.
    pub(crate) fn clear_undos(&self, scrap: &mut Vec<Undo>) {
        let mut details = panic_guard::lock(&self.details);
        details.undos.clear(scrap);
        details.progress = None;
        let empty = details.end.is_none()
            && details.names.is_none()
            && details.output.is_none()
            && details.answer.is_none();
        // A ticket may still put its waker there.
        if empty && !self.has_ticket() {
            self.has_details.store(false, Ordering::Relaxed);
        }
    }

    /// Locks the part that few tasks need.
    #[inline]
    pub(crate) fn details(&self) -> MutexGuard<'_, Details> {
        self.has_details.store(true, Ordering::Relaxed);
        panic_guard::lock(&self.details)
    }

    /// Gives it its names. Its outcome is still to come.
    pub(crate) fn set_names(&self, names: Names) {
        if let Some(names) = names.boxed() {
            names.tell_trace(self.id());
            self.details().names = Some(names);
        }
    }

    /// Its names; without a look behind the lock for nearly every task, which has none.
    pub(crate) fn names(&self) -> Names {
        if !self.has_details() {
            return Names::default();
        }
        let names = self.details().names.as_deref().cloned();
        names.unwrap_or_default()
    }

    /// Something may be behind the lock.
    #[inline]
    pub(crate) fn has_details(&self) -> bool {
        self.has_details.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn id(&self) -> TaskId {
        TaskId(self.id.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.state.load()
    }

    /// The stage that it waits for or is in; `None` while its undos run, and once it has ended.
    pub(crate) fn stage(&self) -> Option<StageIx> {
        match self.state() {
            State::Queued(stage) | State::Running(stage) | State::Stopping(stage) => Some(stage),
            State::Cleaning(_) | State::RollingBack | State::Ended => None,
        }
    }

    /// The same, also while the undos of an attempt of that stage run and another is to come.
    pub(crate) fn stage_or_cleaning(&self) -> Option<StageIx> {
        match self.state() {
            State::Cleaning(stage) => Some(stage),
            _ => self.stage(),
        }
    }

    /// Where it is, or was when its end was decided.
    pub(crate) fn place(&self) -> State {
        self.state.if_open()
    }

    /// The worker that was last on it.
    pub(crate) fn worker(&self) -> u32 {
        self.worker.load(Ordering::Relaxed)
    }

    /// Its end is decided, though perhaps not reached.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.state.is_ending()
    }

    /// It waits for a worker, whether its end is decided or not.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.is_queued()
    }

    /// A worker is on it, whether its end is decided or not.
    pub(crate) fn is_at_work(&self) -> bool {
        matches!(self.state.if_open(), State::Running(_))
    }

    /// A worker is on it, and its end is open.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state(), State::Running(_))
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state() != State::Ended
    }

    #[inline(always)]
    pub(crate) fn apply(&self, event: Event) -> Result<State, Illegal> {
        self.state.apply(event)
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Nanos {
        self.deadline.load(Ordering::Relaxed)
    }

    /// The holder has taken it up for the first time, so its time begins. Returns the new deadline if
    /// that changes it.
    #[inline]
    pub(crate) fn begin_work(&self, now: impl FnOnce() -> Nanos) -> Option<Nanos> {
        let timeout = self.work_timeout.load(Ordering::Relaxed);
        if timeout == NEVER {
            return None;
        }
        self.work_timeout.store(NEVER, Ordering::Relaxed);
        let deadline = now().saturating_add(timeout).min(self.deadline());
        self.deadline.store(deadline, Ordering::Relaxed);
        Some(deadline)
    }

    #[inline]
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    /// Number of attempts of this stage that count as tries.
    pub(crate) fn tries(&self, stage: StageIx) -> u32 {
        let (at, spared) = self.details().spared;
        let spared = if at == stage { spared } else { 0 };
        self.attempt().saturating_sub(spared).max(1)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Undos of its last attempt have run.
    pub(crate) fn next_generation(&self) {
        self.generation
            .store(self.generation() + 1, Ordering::Relaxed);
    }

    /// Another attempt of the same stage is due.
    pub(crate) fn next_attempt(&self, cycles: Cycles) {
        self.attempt
            .store(self.attempt().saturating_add(1), Ordering::Relaxed);
        self.queued.store(cycles.0, Ordering::Relaxed);
    }

    /// It goes on to the next stage.
    #[inline]
    pub(crate) fn next_stage(&self, cycles: Cycles) {
        self.attempt.store(1, Ordering::Relaxed);
        self.generation.store(0, Ordering::Relaxed);
        self.queued.store(cycles.0, Ordering::Relaxed);
    }

    /// The counter's value when it was last put into a queue.
    #[inline]
    pub(crate) fn queued_at(&self) -> Cycles {
        Cycles(self.queued.load(Ordering::Relaxed))
    }

    /// Says who is to be told while it runs; called before it is started.
    #[inline]
    pub(crate) fn set_worker(&self, worker: u32) {
        self.worker.store(worker, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn has_ticket(&self) -> bool {
        self.ticket.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn wants_output(&self) -> bool {
        self.wants_output.load(Ordering::Relaxed)
    }

    /// Its ticket is dropped: nobody will ask for the output any more.
    #[inline]
    pub(crate) fn leave_ticket(&self) {
        self.ticket.store(false, Ordering::Relaxed);
        if self.wants_output() {
            let output = self.details().output.take();
            panic_guard::drop_quietly(output);
        }
    }

    /// This attempt has registered an undo that is still to run.
    pub(crate) fn has_undos(&self, stage: StageIx, attempt: u32) -> bool {
        self.details()
            .undos
            .iter()
            .any(|undo| undo.is_of(stage, attempt) && matches!(undo.status, UndoStatus::Registered))
    }
}
