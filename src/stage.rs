//! What a stage is, and what it is given to work with.

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

use crate::{
    Failure,
    clock::NEVER,
    core::Core,
    error::UndoError,
    ledger::{Change, Recorded, Value},
    task::{Key, StageIx, State, TaskId, TaskRef, Undo, UndoStatus, Undos},
};

/// One step of a pipeline: what is done to a task there, and how it is taken back.
///
/// A pool of workers runs it, each with a value of its own (`&mut self`), so a connection or a
/// buffer lives in the value. Neither future needs to be `Send`.
///
/// # The contract
/// - **Intent first.** Register the undo, then have the effect:
///   `task.on_cancel(undo).await?`. Where it returns an error, leave the effect.
/// - **An effect that a drop can't stop is shielded.** At its deadline, or when it is cancelled, a
///   task's future is dropped at its next `.await`. What was handed on by then (`spawn_blocking`,
///   most of `tokio::fs`, a request already sent) may still take effect, after its undo was
///   cancelled. Put it into [`task.shield(..)`](TaskContext::shield), or use `std::fs` and the like
///   in a [`.blocking()`](crate::IntoWork::blocking) stage.
/// - **A cancel copes** with an effect that never, partly or already happened, and may be called
///   more than once for the same undo.
///
/// ```
/// use std::{fs, io::ErrorKind, path::PathBuf};
/// use batrun::prelude::*;
///
/// #[derive(Clone)]
/// struct CreateDirectory { root: PathBuf }
///
/// impl Stage for CreateDirectory {            // to be used as a `.blocking()` stage
///     type Input = String;
///     type Output = String;
///     type Undo = PathBuf;
///
///     async fn run(&mut self, name: String, task: &TaskContext<'_, PathBuf>) -> Result<String, Failure> {
///         let home = self.root.join(&name);
///         let undo = task.on_cancel(home.clone()).await?;             // intent first
///         match fs::create_dir(&home) {                               // then the effect
///             Err(e) if e.kind() == ErrorKind::AlreadyExists => {
///                 undo.withdraw().await?;                             // not ours: leave it
///                 Err(Failure::permanent(e))
///             }
///             other => { other?; Ok(name) }
///         }
///     }
///
///     async fn cancel(&mut self, home: PathBuf, _: &CancelContext<'_>) -> Result<(), Failure> {
///         match fs::remove_dir(home) {
///             Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
///             other => Ok(other?),
///         }
///     }
/// }
/// ```
///
/// Wrong: the effect first. A deadline that falls between the two lines leaves a directory that
/// nobody removes.
/// ```ignore
/// fs::create_dir(&home)?;
/// task.on_cancel(home).await?;
/// ```
pub trait Stage: 'static {
    /// What it takes: the pipeline's input, or the previous stage's output.
    type Input: Send + 'static;
    /// What it hands on.
    type Output: Send + 'static;
    /// What it needs to know to take an effect back: data, so that it can be kept. `()` for a
    /// stage that has none.
    type Undo: Clone + Debug + Send + 'static;

    /// Whether it blocks its thread, so that each worker needs one of its own; see
    /// [`blocking`](crate::IntoWork::blocking).
    const BLOCKING: bool = false;

    /// The name in reports and logs: the type's own, unless told otherwise here or with
    /// [`named`](crate::IntoWork::named).
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Does the work.
    ///
    /// # Errors
    /// A [`Failure`] is retried as the stage's policy says; a
    /// [permanent](Failure::permanent) one, or the last one, fails the task. A panic is caught and
    /// fails the task.
    ///
    /// # Cancel safety
    /// The future is dropped at an `.await` when the task is late or cancelled, except within
    /// [`shield`](TaskContext::shield); the value is then rebuilt, unless the stage says
    /// [`keep_on_abort`](crate::IntoWork::keep_on_abort).
    fn run(
        &mut self,
        input: Self::Input,
        task: &TaskContext<'_, Self::Undo>,
    ) -> impl Future<Output = Result<Self::Output, Failure>>;

    /// Takes back what this undo stands for. Does nothing unless the stage says what.
    ///
    /// It may run on another worker's value than the run did, or on a spare one: what it needs to
    /// know is in the undo.
    ///
    /// # Errors
    /// A [`Failure`] or a panic is a failed cancel: tried again by the stage's cancel policy, then
    /// [stuck](crate::OnStuck).
    ///
    /// # Cancel safety
    /// Dropped at an `.await` when its timeout has passed, and then tried again.
    fn cancel(
        &mut self,
        undo: Self::Undo,
        cancel: &CancelContext<'_>,
    ) -> impl Future<Output = Result<(), Failure>> {
        let _ = (undo, cancel);
        async { Ok(()) }
    }
}

/// The task that a stage is working on. It can't outlive the call of [`Stage::run`].
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
    /// [`UndoError`]; the effect must then not take place. `?` makes it a [`Failure`].
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

/// Puts an undo into the task's record. Says its number, and whether the task is being stopped.
#[inline]
pub(crate) fn register<U: Clone + Debug + Send + 'static>(
    core: &Core,
    task: &TaskRef,
    stage: StageIx,
    undo: U,
) -> Result<(usize, bool, Option<Recorded>), UndoError> {
    let mut life = task.life();
    let (id, attempt, number) = (task.id(), task.attempt(), life.undos.len());
    if number >= core.max_undos {
        return Err(UndoError::TooMany {
            task: id,
            limit: core.max_undos,
        });
    }
    let stopping = match task.state() {
        State::Running(_) => false,
        State::Stopping(_) => true,
        // It was given up: its rollback is over, so an undo would be lost.
        _ => {
            log::warn!("task {id} was given up; an undo it registers now is refused");
            return Err(UndoError::Stopping(id));
        }
    };
    let generation = task.generation();
    let entry = Undo {
        stage,
        attempt,
        generation,
        value: None,
        status: UndoStatus::Registered,
        tries: 0,
    };
    let recorded = if core.ledger.is_none() {
        let kept = life.undos.kept();
        life.undos.push(Undo {
            value: Some(Undos::boxed(kept, undo)),
            ..entry
        });
        drop(life);
        None
    } else {
        // The ledger is not called under a lock. The number is taken, so the order stands.
        life.undos.push(entry);
        drop(life);
        let value = Value::of(&undo);
        let recorded = core.record(
            id,
            Change::UndoRegistered {
                stage,
                attempt,
                undo: number,
                value,
            },
        );
        let recorded = match recorded.ready() {
            Ok(Err(error)) if error.is_refused() => {
                // It is none, and the next one gets its number. Nobody else registers any meanwhile.
                task.life().undos.pop();
                return Err(UndoError::Unrecorded(error.text()));
            }
            Ok(Ok(())) => Recorded::now(),
            Ok(Err(error)) => Recorded::failed(error),
            Err(later) => later,
        };
        task.life().undos[number].value = Some(Box::new(undo));
        Some(recorded)
    };
    log::debug!(
        "task {id} stage {} attempt {attempt}: undo {number} registered",
        core.stage_name(stage)
    );
    Ok((number, stopping, recorded))
}

pub(crate) fn withdraw(core: &Core, task: &TaskRef, stage: StageIx, number: usize) -> Recorded {
    let mut life = task.life();
    let (id, attempt) = (task.id(), task.attempt());
    let Some(undo) = life.undos.get_mut(number) else {
        return Recorded::now();
    };
    // A stage withdraws what its own attempt registered, and nothing else.
    let own = undo.stage == stage && undo.attempt == attempt;
    if !own || !matches!(undo.status, UndoStatus::Registered) {
        return Recorded::now();
    }
    undo.status = UndoStatus::Withdrawn;
    drop(life);
    log::debug!(
        "task {id} stage {}: undo {number} withdrawn",
        core.stage_name(stage)
    );
    core.record(id, Change::UndoWithdrawn { undo: number })
}

/// Waits until a change is recorded; a failure suspends the pipeline.
pub(crate) async fn settle(core: &Core, recorded: Recorded) -> Result<(), UndoError> {
    recorded.await.map_err(|error| {
        if !error.is_refused() {
            core.unrecorded(&error);
        }
        UndoError::Unrecorded(error.text())
    })
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
