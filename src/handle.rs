//! What an application holds of a running pipeline.

use std::sync::{Arc, atomic::Ordering};

use futures::Stream;

use crate::{
    Error,
    core::Core,
    error::{MOST_WORKERS, TrySubmitError},
    intake::{Door, Intake, Slip, Submit, Terms},
    ledger::Change,
    message::{ToPool, ToReporter},
    outcomes::{Lagged, Outcomes},
    policy::Shutdown,
    report::{Board, Report, Snapshot},
    run::{Finish, Grounds, PrivateSystem},
    task::{Outcome, StopCause, Stuck, TaskId},
    ticket::Ticket,
};

/// A running pipeline: `Clone + Send + Sync`, made to be an actix-web `web::Data`.
///
/// When the last handle and the last [`Intake`] are dropped, the pipeline drains, without limit,
/// and ends.
pub struct PipelineHandle<I: Send + 'static, O: Send + 'static> {
    inner: Arc<Inner<I>>,
    door: Arc<Door>,
    output: std::marker::PhantomData<fn() -> O>,
}

struct Inner<I: Send + 'static> {
    core: Arc<Core>,
    slip: Arc<Slip<I>>,
    boards: Vec<Arc<Board>>,
    outcomes: Arc<Outcomes>,
    finish: Arc<Finish>,
    grounds: Arc<Grounds>,
}

impl<I: Send + 'static, O: Send + 'static> Clone for PipelineHandle<I, O> {
    fn clone(&self) -> Self {
        let (inner, door) = (self.inner.clone(), self.door.clone());
        PipelineHandle {
            inner,
            door,
            output: self.output,
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> PipelineHandle<I, O> {
    pub(crate) fn new(
        core: Arc<Core>,
        slip: Arc<Slip<I>>,
        door: Arc<Door>,
        boards: Vec<Arc<Board>>,
        outcomes: Arc<Outcomes>,
        finish: Arc<Finish>,
        grounds: Arc<Grounds>,
    ) -> Self {
        let inner = Arc::new(Inner {
            core,
            slip,
            boards,
            outcomes,
            finish,
            grounds,
        });
        PipelineHandle {
            inner,
            door,
            output: std::marker::PhantomData,
        }
    }

    pub(crate) fn set_system(&self, system: PrivateSystem) {
        self.inner.grounds.set_system(system);
    }

    /// An intake, for whatever makes tasks: an actor of yours, a thread.
    pub fn intake(&self) -> Intake<I> {
        Intake::new(self.inner.slip.clone(), self.door.clone())
    }

    /// Submits a task: waits for room, and gives its [`Ticket`] once it is accepted. The outcome
    /// of a done task brings the last stage's output.
    ///
    /// # Errors
    /// [`SubmitError`](crate::SubmitError), with the context in it.
    ///
    /// # Cancel safety
    /// As [`Intake::submit`].
    pub fn submit(&self, context: I) -> Submit<'_, I, O> {
        Submit::new(&self.inner.slip, context, self.terms())
    }

    /// Submits a task if there is room now: short for `submit(context).now()`, which also takes
    /// limits.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    pub fn try_submit(&self, context: I) -> Result<Ticket<O>, TrySubmitError<I>> {
        self.submit(context).now()
    }

    fn terms(&self) -> Terms {
        Terms::new(true)
    }

    /// Cancels a task by its number: it stops, and what it did is taken back. Returns at once,
    /// `true` if this call is what ended it; `false` if it had ended, or was about to, for another
    /// reason.
    pub fn cancel(&self, task: TaskId) -> bool {
        let core = &self.inner.core;
        core.table
            .find(task)
            .is_some_and(|task| core.cancel(&task, StopCause::User))
    }

    /// Every outcome from now on. A reader that lags more than 1,024 outcomes behind gets
    /// [`Lagged`] with the number it missed. Ends when the pipeline does.
    pub fn outcomes(
        &self,
    ) -> impl Stream<Item = Result<Outcome, Lagged>> + Send + Unpin + use<I, O> {
        Box::pin(self.inner.outcomes.listen())
    }

    /// The pipeline as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let core = &self.inner.core;
        let counts = core.table.counts();
        Snapshot {
            pipeline: core.name.clone(),
            counts,
            in_flight: counts.in_flight(),
            stuck: core.table.stuck().len(),
            paused: core.is_paused(),
            stages: self
                .inner
                .boards
                .iter()
                .zip(&core.stages)
                .map(|(board, name)| board.snapshot(name))
                .collect(),
        }
    }

    /// No stage starts work on a task any more, until [`resume`](Self::resume). What runs goes on,
    /// and so do deadlines, cancels and `submit`. Does nothing once the pipeline is shutting down.
    pub fn pause(&self) {
        self.inner.core.paused.store(true, Ordering::SeqCst);
        // A shutdown resumes, whichever comes first.
        if self.inner.core.table.refused().is_some() {
            self.resume();
        }
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.inner.core.paused.store(false, Ordering::SeqCst);
        self.inner.core.tell_pools(|| ToPool::Look);
    }

    /// Gives a stage another number of workers. Where it has more, the busy ones finish first.
    /// Returns before the pool has changed. The places for tasks in flight stay as many as at the
    /// start.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::ZeroWorkers`], [`Error::TooManyWorkers`], or [`Error::FixedSize`] for a stage that is
    /// an actor of yours.
    pub fn resize(&self, stage: &str, workers: usize) -> Result<(), Error> {
        let core = &self.inner.core;
        let Some(at) = core.stages.iter().position(|name| **name == *stage) else {
            return Err(Error::NoSuchStage(stage.to_owned()));
        };
        if workers == 0 {
            return Err(Error::ZeroWorkers(stage.to_owned()));
        }
        if workers > MOST_WORKERS {
            return Err(Error::TooManyWorkers(stage.to_owned()));
        }
        if core.fixed[at] {
            return Err(Error::FixedSize(stage.to_owned()));
        }
        core.tell_pool(at as u16, ToPool::Resize(workers));
        Ok(())
    }

    /// The stuck tasks that nobody has resolved, in the order in which they got stuck.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.inner.core.table.stuck()
    }

    /// A person has dealt with a stuck task: it leaves the list. `false` if it wasn't there, or if it
    /// stays because that can't be recorded: the pipeline has ended, or its journal has failed. A
    /// journal has it in its next commit, which this doesn't wait for.
    pub fn resolve(&self, task: TaskId) -> bool {
        let core = &self.inner.core;
        let Some(stuck) = core.table.resolve(task) else {
            return false;
        };
        if let Ok(Err(error)) = core.record(task, Change::Resolved).ready() {
            core.table.keep_stuck(stuck);
            core.unrecorded(&error);
            return false;
        }
        true
    }

    /// The outcome of the task that was submitted with this [key](Submit::key), to this process or
    /// one before: at once if it is kept, else once the task has it. `None` where no task in flight
    /// has this key and no outcome with it is kept.
    ///
    /// # Errors
    /// [`Error::Suspended`] when the journal has failed or is closed.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn outcome_of(&self, key: &str) -> Result<Option<Outcome<O>>, Error> {
        self.inner.core.outcome_of(key).await
    }

    /// Ends the pipeline and returns its report. Called again, it may only hasten the end; every
    /// caller gets the report.
    ///
    /// # Errors
    /// [`Error::Gone`] when the runtime ended first.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the shutdown to go on.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Report, Error> {
        self.inner.core.tell_reporter(ToReporter::ShutDown(how));
        self.inner.finish.wait().await.ok_or(Error::Gone)
    }

    /// Waits until the pipeline has ended for another reason, and returns its report. This handle
    /// keeps it open, so that is a shutdown from elsewhere or a failed ledger;
    /// [`join`](Self::join) waits for the producers.
    ///
    /// # Errors
    /// [`Error::Gone`] when the runtime ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn ended(&self) -> Result<Report, Error> {
        self.inner.finish.wait().await.ok_or(Error::Gone)
    }

    /// Lets go of the pipeline and waits for its end, which comes once every producer has ended,
    /// every other handle and intake is dropped, and every task has its outcome: what
    /// [`Pipeline::run`](crate::Pipeline::run) does.
    ///
    /// # Errors
    /// [`Error::Gone`] when the runtime ended first.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the pipeline to run to its end.
    pub async fn join(self) -> Result<Report, Error> {
        let finish = self.inner.finish.clone();
        drop(self);
        finish.wait().await.ok_or(Error::Gone)
    }
}
