//! The record of a live task: where it is, what takes it back, and who waits for its outcome.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
};

use super::{Event, Illegal, Outcome, StageIx, Standing, State, StopCause, TaskId, Undo, Undos};
use crate::{
    Failure,
    clock::{NEVER, Nanos},
    core::Core,
    guard,
};

pub(crate) type TaskRef = Arc<Task>;

/// What a task is accepted with.
#[derive(Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) deadline: Nanos,
    /// [`NEVER`] for none.
    pub(crate) work_timeout: Nanos,
    pub(crate) wants_output: bool,
    pub(crate) count: u64,
}

/// A task, shared by whoever holds its context now, the table of tasks in flight and its ticket.
///
/// What every task needs on its way is in words of its own, each with one writer at a time: the
/// holder of the task's context, unless it says otherwise. They fill one cache line, the first, since
/// fetching another one costs as much as all that is done with them. What few tasks need is behind
/// the lock.
#[repr(C)]
pub(crate) struct Task {
    standing: Standing,
    id: AtomicU64,
    deadline: AtomicU64,
    /// The counter's value when it was last put into a queue.
    queued: AtomicU64,
    /// Becomes a deadline once the first stage takes it up.
    work_timeout: AtomicU64,
    /// Which attempt of the stage, from 1.
    attempt: AtomicU32,
    /// Raised when undos of this stage were cancelled; see [`Key`](super::Key).
    generation: AtomicU32,
    /// Who is on it while it runs.
    worker: AtomicU32,
    /// Its place in the table.
    pub(crate) slot: u32,
    /// Whether a ticket of it is left, and whether that wants the output.
    ticket: AtomicBool,
    wants_output: AtomicBool,
    /// Whether something was put behind the lock.
    touched: AtomicBool,
    /// Its pipeline, for its ticket.
    pub(crate) core: Weak<Core>,
    life: Mutex<Life>,
}

const _: () = assert!(std::mem::offset_of!(Task, core) <= 64);

/// What few tasks need.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) undos: Undos,
    /// Set by the first end that was taken, and never again.
    pub(crate) end: Option<Box<Ended>>,
    pub(crate) output: Option<Box<dyn Any + Send>>,
    pub(crate) answer: Option<Answer>,
    /// Who waits for the answer, each with a number of its own.
    pub(crate) waiting: Vec<(u64, Waker)>,
    pub(crate) last_waiting: u64,
    /// How many of its attempts of this stage ended with the process, and don't count as tries.
    spared: (StageIx, u32),
}

/// A task that was somewhere before, as a journal has it.
#[cfg(feature = "journal")]
pub(crate) struct Restored {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) generation: u32,
    pub(crate) spared: (StageIx, u32),
    pub(crate) undos: Vec<Undo>,
    pub(crate) end: Option<Ended>,
}

/// The end of a task that is not done.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Failed(StageIx, Failure),
    TimedOut(StageIx),
    Cancelled(StageIx, StopCause),
}

/// Why a task is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Late,
    Cancel(StopCause),
}

/// What a ticket gets.
pub(crate) enum Answer {
    Outcome(Box<Outcome>),
    Gone,
    Suspended(Arc<str>),
    /// What the ledger says of the task with this key, which was there before.
    Kept(Box<str>),
}

/// Where a stop met a task: who has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halted {
    /// In a queue of this stage, on its way there, or in the hands of one of its workers.
    Queued(StageIx),
    /// On this worker.
    Running(StageIx, u32),
    /// Between two attempts, while the first one's undos are being cancelled.
    Cleaning,
}

impl Task {
    /// A record that stands for a task whose own record this process may not have.
    pub(crate) fn elsewhere(id: TaskId, core: Weak<Core>, key: Box<str>) -> Self {
        let task = Task::new(u32::MAX, core);
        task.id.store(id.0, Ordering::Relaxed);
        task.life().answer = Some(Answer::Kept(key));
        task
    }

    pub(crate) fn new(slot: u32, core: Weak<Core>) -> Self {
        Task {
            standing: Standing::new(),
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
            touched: AtomicBool::new(false),
            life: Mutex::new(Life::default()),
            core,
        }
    }

    /// Makes the record a new task's. Nobody else looks at it. Clears it first, if that was not done.
    #[inline(always)]
    pub(crate) fn renew(&self, id: TaskId, with: &Admission) {
        if self.touched.load(Ordering::Relaxed) {
            self.clear();
        }
        self.id.store(id.0, Ordering::Relaxed);
        self.attempt.store(1, Ordering::Relaxed);
        self.generation.store(0, Ordering::Relaxed);
        self.deadline.store(with.deadline, Ordering::Relaxed);
        self.work_timeout
            .store(with.work_timeout, Ordering::Relaxed);
        self.queued.store(with.count, Ordering::Relaxed);
        self.ticket.store(true, Ordering::Relaxed);
        self.wants_output
            .store(with.wants_output, Ordering::Relaxed);
        self.standing.begin();
    }

    /// Makes a renewed record, which nobody else looks at, that of a task with a past. Nobody has a
    /// ticket of it.
    #[cfg(feature = "journal")]
    pub(crate) fn restore(&self, past: Restored) {
        self.attempt.store(past.attempt, Ordering::Relaxed);
        self.generation.store(past.generation, Ordering::Relaxed);
        self.leave_ticket();
        let mut life = self.life();
        // As it is: a list that grows has room for four.
        *life.undos = past.undos;
        life.end = past.end.map(Box::new);
        life.spared = past.spared;
        drop(life);
        self.standing.restore(past.state);
    }

    /// How many attempts of this stage count as tries.
    pub(crate) fn tries(&self, stage: StageIx) -> u32 {
        let (at, spared) = self.life().spared;
        let spared = if at == stage { spared } else { 0 };
        self.attempt().saturating_sub(spared).max(1)
    }

    /// Drops what is left in it of the task before.
    #[cold]
    pub(crate) fn clear(&self) {
        self.touched.store(false, Ordering::Relaxed);
        let mut life = guard::lock(&self.life);
        debug_assert!(life.undos.is_empty());
        let before = (life.output.take(), life.end.take(), life.answer.take());
        life.waiting.clear();
        life.last_waiting = 0;
        life.spared = (0, 0);
        drop(life);
        guard::drop_quietly(before);
    }

    /// Empties the list of undos of a task that has ended; what may not be dropped under a lock goes
    /// to `scrap`.
    pub(crate) fn clear_undos(&self, scrap: &mut Vec<Undo>) {
        let mut life = guard::lock(&self.life);
        life.undos.clear(scrap);
        let empty = life.end.is_none() && life.output.is_none() && life.answer.is_none();
        if empty && !self.has_ticket() {
            self.touched.store(false, Ordering::Relaxed);
        }
    }

    /// What few tasks need.
    #[inline]
    pub(crate) fn life(&self) -> MutexGuard<'_, Life> {
        self.touched.store(true, Ordering::Relaxed);
        guard::lock(&self.life)
    }

    /// Whether anything of it may be behind the lock.
    #[inline]
    pub(crate) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn id(&self) -> TaskId {
        TaskId(self.id.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.standing.state()
    }

    #[inline]
    pub(crate) fn is_decided(&self) -> bool {
        self.standing.is_decided()
    }

    /// Whether it waits for a worker, whatever its fate.
    pub(crate) fn is_queued(&self) -> bool {
        self.standing.is_queued()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state() != State::Ended
    }

    #[inline(always)]
    pub(crate) fn apply(&self, event: Event) -> Result<State, Illegal> {
        self.standing.apply(event)
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Nanos {
        self.deadline.load(Ordering::Relaxed)
    }

    /// The holder has taken it up for the first time: its time begins. The new deadline, if that
    /// changes it.
    #[inline]
    pub(crate) fn begin_work(&self, now: Nanos) -> Option<Nanos> {
        let timeout = self.work_timeout.load(Ordering::Relaxed);
        if timeout == NEVER {
            return None;
        }
        self.work_timeout.store(NEVER, Ordering::Relaxed);
        let deadline = now.saturating_add(timeout).min(self.deadline());
        self.deadline.store(deadline, Ordering::Relaxed);
        Some(deadline)
    }

    #[inline]
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Its undos of this attempt were cancelled.
    pub(crate) fn next_generation(&self) {
        self.generation
            .store(self.generation() + 1, Ordering::Relaxed);
    }

    /// Another attempt of the same stage is due.
    pub(crate) fn next_attempt(&self, count: u64) {
        self.attempt
            .store(self.attempt().saturating_add(1), Ordering::Relaxed);
        self.queued.store(count, Ordering::Relaxed);
    }

    /// It goes on to the next stage.
    #[inline]
    pub(crate) fn next_stage(&self, count: u64) {
        self.attempt.store(1, Ordering::Relaxed);
        self.generation.store(0, Ordering::Relaxed);
        self.queued.store(count, Ordering::Relaxed);
    }

    /// The counter's value when it was last put into a queue.
    #[inline]
    pub(crate) fn queued_at(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Who is to be told while it runs. Said before it is started.
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

    /// Its ticket is dropped.
    pub(crate) fn leave_ticket(&self) {
        self.ticket.store(false, Ordering::Relaxed);
    }

    /// Decides from outside that the task is to end; `None` when that was decided before. Its holder
    /// has to be told and lets go of it.
    pub(crate) fn stop(&self, why: Stop) -> Option<Halted> {
        // Under the lock, so that whoever sees the decision finds the end.
        let mut life = self.life();
        let (halted, stage) = match self.standing.stop()? {
            State::Queued(stage) => (Halted::Queued(stage), stage),
            State::Running(stage) => {
                let worker = self.worker.load(Ordering::Relaxed);
                (Halted::Running(stage, worker), stage)
            }
            State::Cleaning(stage) => (Halted::Cleaning, stage),
            State::Stopping(_) | State::RollingBack | State::Ended => return None,
        };
        life.end = Some(Box::new(match why {
            Stop::Late => Ended::TimedOut(stage),
            Stop::Cancel(cause) => Ended::Cancelled(stage, cause),
        }));
        Some(halted)
    }

    /// The holder lets go of a task whose end was decided; `false` when that was done for it.
    pub(crate) fn let_go(&self, stage: StageIx) -> bool {
        let mut life = self.life();
        if self.apply(Event::Stopped(stage)).is_err() {
            return false;
        }
        // It may have gone on while it was being stopped.
        match life.end.as_deref_mut() {
            Some(Ended::TimedOut(at) | Ended::Cancelled(at, _)) => *at = stage,
            Some(Ended::Failed(..)) | None => {}
        }
        true
    }

    /// Ends the task because its stage failed for good.
    pub(crate) fn fail(&self, stage: StageIx, failure: Failure) -> Result<State, Illegal> {
        let mut life = self.life();
        let state = self.apply(Event::Fail(stage))?;
        life.end = Some(Box::new(Ended::Failed(stage, failure)));
        Ok(state)
    }

    /// Gives the ticket its answer; the first one stands.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut life = self.life();
        if life.answer.is_some() {
            return;
        }
        life.answer = Some(answer);
        let waiting = std::mem::take(&mut life.waiting);
        drop(life);
        for (_, waker) in waiting {
            // A waker may be the user's own.
            guard::run(|| waker.wake()).ok();
        }
    }
}
