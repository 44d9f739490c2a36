//! The task as a call of a stage sees it: its facts, its undos, its stop.

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

use super::{
    error::UndoError,
    undo_registration::{record, register, settle, withdraw},
};
use crate::{
    clock::NEVER,
    panic_guard,
    shared::Shared,
    task::{Key, Progress, StageIx, State, TaskId, TaskRef},
};

/// The task that a stage is working on: says when to stop, and takes the undos.
///
/// It can't outlive the call of [`Stage::run`](super::Stage::run), nor leave its thread; for code that
/// can't borrow it there is [`signal`](Self::signal).
pub struct TaskContext<'a, U> {
    shared: &'a Arc<Shared>,
    task: &'a TaskRef,
    id: TaskId,
    stage: StageIx,
    attempt: u32,
    watch: &'a Watch,
    undo: PhantomData<fn(U)>,
}

/// The requests of a call's futures; used for one call after the other.
#[derive(Default)]
pub(crate) struct Watch {
    /// The number of futures that must not be dropped now.
    shields: Cell<u32>,
    /// The wakers of [`TaskContext::stopping`].
    watchers: RefCell<Vec<Waker>>,
}

impl<'a, U: Clone + Debug + Send + 'static> TaskContext<'a, U> {
    #[inline]
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        task: &'a TaskRef,
        id: TaskId,
        stage: StageIx,
        attempt: u32,
        watch: &'a Watch,
    ) -> Self {
        // One that was leaked by the call before shields nothing in this one.
        watch.shields.set(0);
        TaskContext {
            shared,
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

    #[cfg(feature = "tracing")]
    pub(crate) fn pipeline(&self) -> &'a Shared {
        self.shared
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn task(&self) -> &'a TaskRef {
        self.task
    }

    /// This stage's name.
    pub fn stage(&self) -> &str {
        self.shared.stage_name(self.stage)
    }

    /// The number of this attempt of this stage, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// An idempotency key for this task's work in this stage. It stays the same over retries and,
    /// with a journal, restarts; it changes once one of this stage's undos has run.
    pub fn key(&self) -> Key {
        key(self.shared, self.id, self.stage, self.task.generation())
    }

    /// A number that grows whenever another process takes the task over, of those that share a
    /// [journal on a server](crate::journal); 1 in the one that accepted it.
    ///
    /// A process that stood still may go on with a task for a moment after another one has taken it over: nothing
    /// of that is recorded, but a call that it had begun may still arrive somewhere. Send this number along, and
    /// have the receiver refuse one that is lower than the highest it has seen for this task.
    pub fn fence(&self) -> u64 {
        u64::from(self.task.details().owners) + 1
    }

    /// The task's deadline, if it has one: the earliest of its limits.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.task.deadline();
        (deadline != NEVER).then(|| self.shared.clock.instant(deadline))
    }

    /// The time left to the [`deadline`](Self::deadline); zero once it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        self.shared.time_left(self.task.deadline())
    }

    /// `true` if the task is late or cancelled, so that work on it should end. For code that blocks;
    /// a future that awaits is dropped without asking.
    ///
    /// It is about the task: the [timeout](crate::IntoWork::timeout) of an attempt doesn't show here.
    pub fn is_stopping(&self) -> bool {
        !self.task.is_running() || self.shared.is_suspended()
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

    /// Tells how far this attempt has come: the fraction that is done, from 0 to 1, and a text for people.
    /// It replaces the one before, and is in a [snapshot](crate::report::Snapshot::progress) until the
    /// attempt ends.
    ///
    /// A fraction out of these bounds is moved into them, and a NaN is 0. Of the text, the first 256 bytes are
    /// kept, up to a whole character. Takes the task's lock for a moment and an allocation or two; nothing is
    /// written to a journal.
    ///
    /// ```
    /// # use batrun::prelude::*;
    /// # async fn example(parts: Vec<String>, task: &TaskContext<'_, ()>) -> Result<(), Failure> {
    /// for (n, part) in parts.iter().enumerate() {
    ///     task.progress(n as f64 / parts.len() as f64, format!("uploading {part}"));
    ///     // .. upload it ..
    /// }
    /// # Ok(()) }
    /// ```
    pub fn progress(&self, fraction: f64, text: impl Into<String>) {
        let progress = Progress::new(self.stage, self.attempt, fraction, &text.into());
        report(self.shared, self.task, progress);
    }

    /// [`is_stopping`](Self::is_stopping) for code that can't borrow this context: a callback of a C
    /// library, a thread beside the stage.
    pub fn signal(&self) -> StopSignal {
        StopSignal {
            task: self.task.clone(),
            id: self.id,
            stage: self.stage,
            attempt: self.attempt,
        }
    }

    /// Registers the undo of the coming effect, and returns once that is recorded: then have the
    /// effect. Any number of times in a run, up to [`max_undos`](crate::Pipeline::max_undos) for the
    /// task.
    ///
    /// The undo counts from this future's first poll, and in that order, even if it is dropped.
    ///
    /// ```
    /// # use batrun::prelude::*;
    /// # async fn example(task: &TaskContext<'_, String>) -> Result<(), Failure> {
    /// task.on_cancel("seat 7".to_owned()).await?; // intent first
    /// println!("seat 7 is taken"); // then the effect
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`UndoError`]; the effect must then not take place. `?` makes it a [`Failure`](crate::Failure).
    ///
    /// # Cancel safety
    /// Once polled, the undo is part of the task's rollback, whether this future completes or not.
    pub async fn on_cancel(&self, undo: U) -> Result<Registered<'_>, UndoError> {
        let (shared, task, stage) = (self.shared, self.task, self.stage);
        let place = if shared.ledger.is_none() {
            register(shared, task, stage, undo)?
        } else {
            let (place, recorded) = record(shared, task, stage, undo)?;
            settle(shared, recorded).await?;
            place
        };
        if place.is_stopping {
            return Err(UndoError::Stopping(self.id));
        }
        Ok(Registered {
            shared,
            task,
            shields: &self.watch.shields,
            stage,
            number: place.number,
        })
    }

    /// Runs a future that deadlines and cancels wait for, as they wait for a blocking call: for an
    /// effect that goes on when its future is dropped. Nothing else of the stage's is dropped in
    /// the meantime, and afterwards the stage goes on to its next `.await`, so that it can still
    /// withdraw an undo.
    ///
    /// Shield the effect alone, after its undo is registered:
    ///
    /// ```
    /// # use batrun::prelude::*;
    /// # async fn example(task: &TaskContext<'_, &'static str>) -> Result<(), Failure> {
    /// task.on_cancel("draft.txt").await?;
    /// let write = actix_rt::task::spawn_blocking(|| std::fs::write("draft.txt", "dear reader"));
    /// task.shield(write).await??;
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the returned future yourself drops the shielded one.
    pub async fn shield<F: Future>(&self, future: F) -> F::Output {
        shield(&self.watch.shields, future).await
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.watch.shields.get() > 0
    }

    /// Wakes the futures that wait for [`stopping`](Self::stopping).
    pub(crate) fn wake_watchers(&self) {
        for waker in self.watch.watchers.take() {
            // It may be the user's own.
            panic_guard::catch_quietly(|| waker.wake());
        }
    }

    pub(crate) fn parts(&self) -> (&Arc<Shared>, &TaskRef, StageIx) {
        (self.shared, self.task, self.stage)
    }
}

/// Says whether work on a task should end, to code that can't borrow its [`TaskContext`]. Made by
/// [`TaskContext::signal`].
///
/// It is `Send + Sync`, and may be kept: once the task has left the attempt that it belongs to, it
/// says that work should end.
#[derive(Clone)]
pub struct StopSignal {
    task: TaskRef,
    id: TaskId,
    stage: StageIx,
    attempt: u32,
}

impl StopSignal {
    /// `true` if the task is late or cancelled or has left this attempt, or the pipeline is suspended
    /// or gone. Takes a lock for a moment, so ask some thousand times a second, not some million
    /// times.
    pub fn is_stopping(&self) -> bool {
        if Shared::of(&self.task).is_none_or(|shared| shared.is_suspended()) {
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

/// An undo that was registered; returned by [`TaskContext::on_cancel`].
///
/// Dropping it changes nothing: the undo stays registered.
pub struct Registered<'a> {
    shared: &'a Arc<Shared>,
    task: &'a TaskRef,
    shields: &'a Cell<u32>,
    stage: StageIx,
    number: usize,
}

impl Registered<'_> {
    /// Withdraws the undo, which then never runs: for an effect that surely did not happen, because
    /// the directory was someone else's, say. Works, and is waited for, also while the task is being
    /// stopped.
    ///
    /// # Errors
    /// [`UndoError::Unrecorded`] if that could not be recorded. After a restart the undo then runs.
    ///
    /// # Cancel safety
    /// Once polled, the undo is withdrawn, whether this future completes or not.
    pub async fn withdraw(self) -> Result<(), UndoError> {
        let recorded = withdraw(self.shared, self.task, self.stage, self.number);
        shield(self.shields, settle(self.shared, recorded)).await
    }
}

/// The run of an undo: the task and the stage that it belongs to.
pub struct CancelContext<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) id: TaskId,
    pub(crate) stage: StageIx,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    /// Its place among the task's undos.
    #[cfg(feature = "tracing")]
    pub(crate) undo: usize,
}

impl CancelContext<'_> {
    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// This stage's name.
    pub fn stage(&self) -> &str {
        self.shared.stage_name(self.stage)
    }

    /// The number of this try of the undo, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The [`key`](TaskContext::key) that the task's work in this stage had when it registered the
    /// undo: the one to find the effect by.
    pub fn key(&self) -> Key {
        key(self.shared, self.id, self.stage, self.generation)
    }
}

/// Keeps a task's progress, and has snapshots look for it.
pub(crate) fn report(shared: &Shared, task: &TaskRef, progress: Progress) {
    if task.set_progress(progress) {
        shared.table.reports(task);
    }
}

/// The idempotency key of a task's work in a stage.
pub(crate) fn key(shared: &Shared, task: TaskId, stage: StageIx, generation: u32) -> Key {
    Key {
        pipeline: shared.key_prefix.clone(),
        task,
        stage: shared.stage_name(stage).clone(),
        generation,
    }
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
