//! The record of a live task: where it is, what takes it back, and who waits for its outcome.

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::Waker,
};

use super::{Event, Illegal, Outcome, StageIx, State, StopCause, TaskId, Undo, next};
use crate::{
    Failure,
    clock::{NEVER, Nanos},
    core::Core,
    guard,
};

pub(crate) type TaskRef = Arc<Task>;

/// A task, shared by whoever holds its context now, the table of tasks in flight and its ticket.
pub(crate) struct Task {
    /// Its place in the table.
    pub(crate) slot: u32,
    /// Its pipeline, for its ticket.
    pub(crate) core: Weak<Core>,
    life: Mutex<Life>,
}

/// What changes about a task. Every change of `state` goes through [`Life::apply`].
pub(crate) struct Life {
    pub(crate) id: TaskId,
    pub(crate) state: State,
    /// Which attempt of the stage, from 1.
    pub(crate) attempt: u32,
    /// Raised when undos of this stage were cancelled; see [`Key`](super::Key).
    pub(crate) generation: u32,
    /// Who is on it while it runs.
    pub(crate) worker: u32,
    pub(crate) deadline: Nanos,
    /// Becomes a deadline once the first stage takes it up.
    pub(crate) work_timeout: Option<Nanos>,
    /// The counter's value when it was last put into a queue.
    pub(crate) queued: u64,
    pub(crate) undos: Vec<Undo>,
    /// Set by the first end that was taken, and never again.
    pub(crate) end: Option<Box<Ended>>,
    pub(crate) wants_output: bool,
    pub(crate) output: Option<Box<dyn Any + Send>>,
    pub(crate) answer: Option<Answer>,
    /// Who waits for the answer, each with a number of its own.
    pub(crate) waiting: Vec<(u64, Waker)>,
    pub(crate) last_waiting: u64,
}

/// The end of a task that is not done.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Failed(StageIx, Failure),
    TimedOut(StageIx),
    Cancelled(StageIx, StopCause),
}

/// What an ended task's record may still hold of the user's.
pub(crate) type Remains = (
    Option<Box<dyn Any + Send>>,
    Option<Box<Ended>>,
    Option<Answer>,
);

/// What a ticket gets.
pub(crate) enum Answer {
    Outcome(Box<Outcome>),
    Gone,
    Suspended(Arc<str>),
}

/// Where a stop met a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halted {
    /// In a queue of this stage: its rollback may begin.
    Queued(StageIx),
    /// On this worker, which has to be told.
    Running(StageIx, u32),
    /// Between two attempts, while the first one's undos are being cancelled.
    Cleaning,
}

impl Task {
    pub(crate) fn new(slot: u32, core: Weak<Core>, id: TaskId) -> Self {
        Task {
            slot,
            core,
            life: Mutex::new(Life::new(id)),
        }
    }

    #[inline]
    pub(crate) fn life(&self) -> MutexGuard<'_, Life> {
        guard::lock(&self.life)
    }

    /// For a record that nobody else holds.
    pub(crate) fn life_mut(&mut self) -> &mut Life {
        self.life
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> TaskId {
        self.life().id
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

impl Life {
    fn new(id: TaskId) -> Self {
        Life {
            id,
            state: State::Queued(0),
            attempt: 1,
            generation: 0,
            worker: 0,
            deadline: NEVER,
            work_timeout: None,
            queued: 0,
            undos: Vec::new(),
            end: None,
            wants_output: false,
            output: None,
            answer: None,
            waiting: Vec::new(),
            last_waiting: 0,
        }
    }

    /// Makes the record a new task's, keeping what it has allocated. Values of the user's were
    /// taken out when the task before it was filed, or are handed out now, to be dropped under no
    /// lock.
    pub(crate) fn renew(&mut self, id: TaskId) -> Remains {
        let remains = (self.output.take(), self.end.take(), self.answer.take());
        let undos = std::mem::take(&mut self.undos);
        debug_assert!(undos.is_empty());
        *self = Life {
            undos,
            ..Life::new(id)
        };
        remains
    }

    #[inline]
    pub(crate) fn apply(&mut self, event: Event) -> Result<State, Illegal> {
        self.state = next(self.state, event)?;
        Ok(self.state)
    }

    /// Ends the task from outside; `None` when it had ended, or was already about to.
    pub(crate) fn stop(&mut self, end: impl FnOnce(StageIx) -> Ended) -> Option<Halted> {
        let (halted, stage) = match self.state {
            State::Queued(stage) => (Halted::Queued(stage), stage),
            State::Running(stage) => (Halted::Running(stage, self.worker), stage),
            State::Cleaning(stage) => (Halted::Cleaning, stage),
            State::Stopping(_) | State::RollingBack | State::Ended => return None,
        };
        self.apply(Event::Stop).ok()?;
        self.end = Some(Box::new(end(stage)));
        Some(halted)
    }

    /// Ends the task because its stage failed for good.
    pub(crate) fn fail(&mut self, stage: StageIx, failure: Failure) -> Result<State, Illegal> {
        let state = self.apply(Event::Fail(stage))?;
        self.end = Some(Box::new(Ended::Failed(stage, failure)));
        Ok(state)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state != State::Ended
    }
}
