//! What a call of a stage is told of its task, and may do to it.

use std::{
    cell::{Cell, RefCell},
    fmt::Debug,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::registering::{register, settle, withdraw};
use crate::{
    clock::NEVER,
    core::Core,
    error::UndoError,
    task::{Key, StageIx, State, TaskId, TaskRef},
};

/// The task that a stage is working on. It can't outlive the call of [`Stage::run`](super::Stage::run).
pub struct TaskContext<'a, U> {
    core: &'a Arc<Core>,
    task: &'a TaskRef,
    id: TaskId,
    stage: StageIx,
    attempt: u32,
    watch: &'a Watch,
    undo: PhantomData<fn(U)>,
}

/// What the futures of a call have asked for; used for one call after the other.
#[derive(Default)]
pub(crate) struct Watch {
    /// How many futures must not be dropped now.
    shields: Cell<u32>,
    /// Who waits for [`TaskContext::stopping`].
    watchers: RefCell<Vec<Waker>>,
}

impl<'a, U: Clone + Debug + Send + 'static> TaskContext<'a, U> {
    #[inline]
    pub(crate) fn new(
        core: &'a Arc<Core>,
        task: &'a TaskRef,
        id: TaskId,
        stage: StageIx,
        attempt: u32,
        watch: &'a Watch,
    ) -> Self {
        // One that was leaked by the call before shields nothing in this one.
        watch.shields.set(0);
        TaskContext {
            core,
            task,
            id,
            stage,
            attempt,
            watch,
            undo: PhantomData,
        }
    }

    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// This stage's name.
    pub fn stage(&self) -> &str {
        self.core.stage_name(self.stage)
    }

    /// Which attempt of this stage this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// An idempotency key for this task's work in this stage.
    pub fn key(&self) -> Key {
        key(self.core, self.id, self.stage, self.task.generation())
    }

    /// When the task has to be done, if it has a deadline.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.task.deadline();
        (deadline != NEVER).then(|| self.core.clock.instant(deadline))
    }

    /// How long that is from now; zero once it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        self.core.left(self.task.deadline())
    }

    /// Whether the task is late or cancelled, so that work on it should end. For code that blocks;
    /// a future that awaits is dropped without asking.
    pub fn is_stopping(&self) -> bool {
        is_stopping(self.task) || self.core.is_suspended()
    }

    /// Ready once the task is late or cancelled. For use within [`shield`](Self::shield): a future
    /// that isn't shielded is dropped at that moment.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn stopping(&self) {
        poll_fn(|cx| {
            if self.is_stopping() {
                return Poll::Ready(());
            }
            let mut watchers = self.watch.watchers.borrow_mut();
            if !watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
                watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// The same question for code that can't borrow this context: a callback of a C library, a
    /// thread beside the stage.
    pub fn signal(&self) -> StopSignal {
        StopSignal {
            task: self.task.clone(),
            id: self.id,
            stage: self.stage,
            attempt: self.attempt,
        }
    }

    /// Registers what takes the coming effect back, and returns once that is recorded: then have
    /// the effect. Any number of times in a run, up to the pipeline's limit.
    ///
    /// The undo counts from this future's first poll, and in that order, even if it is dropped.
    ///
    /// # Errors
    /// [`UndoError`]; the effect must then not take place. `?` makes it a [`Failure`](crate::Failure).
    ///
    /// # Cancel safety
    /// Once polled, the undo is part of the task's rollback, whether this future completes or not.
    pub async fn on_cancel(&self, undo: U) -> Result<Registered<'_>, UndoError> {
        let (number, stopping, recorded) = register(self.core, self.task, self.stage, undo)?;
        // Where nothing is kept there is nothing to wait for.
        if let Some(recorded) = recorded {
            settle(self.core, recorded).await?;
        }
        if stopping {
            return Err(UndoError::Stopping(self.id));
        }
        Ok(Registered {
            core: self.core,
            task: self.task,
            shields: &self.watch.shields,
            stage: self.stage,
            number,
        })
    }

    /// Runs a future that deadlines and cancels wait for, as they wait for a blocking call: for an
    /// effect that goes on when its future is dropped. Nothing else of the stage's is dropped in
    /// the meantime, and afterwards the stage goes on to its next `.await`, so that it can still
    /// withdraw an undo.
    ///
    /// # Cancel safety
    /// Dropping the returned future yourself drops the shielded one.
    pub async fn shield<F: Future>(&self, future: F) -> F::Output {
        shield(&self.watch.shields, future).await
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.watch.shields.get() > 0
    }

    /// Tells the futures that wait for [`stopping`](Self::stopping).
    pub(crate) fn tell_watchers(&self) {
        for waker in self.watch.watchers.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    pub(crate) fn parts(&self) -> (&Arc<Core>, &TaskRef, StageIx) {
        (self.core, self.task, self.stage)
    }
}

/// Whether work on a task should end, for code that can't borrow its [`TaskContext`]. Made by
/// [`TaskContext::signal`].
///
/// It may be kept for as long as one likes: once the task has left the attempt that it belongs to,
/// it says that it is.
#[derive(Clone)]
pub struct StopSignal {
    task: TaskRef,
    id: TaskId,
    stage: StageIx,
    attempt: u32,
}

impl StopSignal {
    /// Whether the task is late or cancelled, has left this attempt, or the pipeline is suspended or
    /// gone. Takes a lock
    /// for a moment, so ask some thousand times a second, not some million times.
    pub fn is_stopping(&self) -> bool {
        if self
            .task
            .core
            .upgrade()
            .is_none_or(|core| core.is_suspended())
        {
            return true;
        }
        // A record that this holds is not used again for another task.
        self.task.state() != State::Running(self.stage) || self.task.attempt() != self.attempt
    }
}

impl Debug for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StopSignal")
            .field("task", &self.id)
            .field("is_stopping", &self.is_stopping())
            .finish()
    }
}

/// An undo that was registered.
///
/// Dropping it changes nothing.
pub struct Registered<'a> {
    core: &'a Arc<Core>,
    task: &'a TaskRef,
    shields: &'a Cell<u32>,
    stage: StageIx,
    number: usize,
}

impl Registered<'_> {
    /// The effect surely did not happen (the directory was someone else's): the undo is not to be
    /// cancelled. Works, and is waited for, also while the task is being stopped.
    ///
    /// # Errors
    /// [`UndoError::Unrecorded`] when that could not be recorded.
    pub async fn withdraw(self) -> Result<(), UndoError> {
        let recorded = withdraw(self.core, self.task, self.stage, self.number);
        shield(self.shields, settle(self.core, recorded)).await
    }
}

/// The undo that a stage is asked to cancel.
pub struct CancelContext<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) id: TaskId,
    pub(crate) stage: StageIx,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
}

impl CancelContext<'_> {
    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// This stage's name.
    pub fn stage(&self) -> &str {
        self.core.stage_name(self.stage)
    }

    /// How often this undo's cancel was started, this one included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The key that the task's work in this stage had when it registered the undo.
    pub fn key(&self) -> Key {
        key(self.core, self.id, self.stage, self.generation)
    }
}

pub(crate) fn key(core: &Core, task: TaskId, stage: StageIx, generation: u32) -> Key {
    Key {
        pipeline: core.name.clone(),
        task,
        stage: core.stage_name(stage).clone(),
        generation,
    }
}

/// Whether a task that a stage works on was ended, be it that it was given up.
pub(crate) fn is_stopping(task: &TaskRef) -> bool {
    !matches!(task.state(), State::Running(_))
}

async fn shield<F: Future>(shields: &Cell<u32>, future: F) -> F::Output {
    struct Raised<'a>(&'a Cell<u32>);
    impl Drop for Raised<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get().saturating_sub(1));
        }
    }
    shields.set(shields.get() + 1);
    let raised = Raised(shields);
    let mut future = pin!(future);
    let output = poll_fn(|cx| future.as_mut().poll(cx)).await;
    drop(raised);
    output
}
