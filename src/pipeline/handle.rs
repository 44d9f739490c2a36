//! An application's handle to a running pipeline.

use std::sync::Arc;

use futures::Stream;

use super::control::Control;
#[cfg(feature = "journal")]
use crate::error::KeyError;
use crate::{
    engine::{
        reporter::shutdown::FinalReport,
        threads::{PrivateSystem, Threads},
    },
    error::{Error, RetryError},
    policy::Shutdown,
    report::{Health, Lagged, OutcomeFeed, Report, Snapshot},
    shared::{Shared, messages::ToReporter},
    submit::{Intake, OpenGuard, Outbox, Submit, Ticket, TrySubmitError},
    task::{Limits, Outcome, StopCause, Stuck, TaskId, TaskStatus},
};

/// A running pipeline: `Clone + Send + Sync`, made to be an actix-web `web::Data`. Made by
/// [`Pipeline::start`](crate::Pipeline::start).
///
/// The pipeline drains, without limit, and ends once the last handle and the last [`Intake`] are
/// dropped. `I` is its input, `O` the last stage's output.
///
/// ```
/// use std::time::Duration;
/// use batrun::prelude::*;
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let double = stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n));
///     let numbers: PipelineHandle<u32, u32> = Pipeline::new("numbers").stage(double).start().await?;
///     let ticket = numbers.submit(7).timeout(Duration::from_secs(4)).await?;
///     assert_eq!(ticket.outcome().await?.output, Some(14));
///     numbers.shutdown(Shutdown::Drain(Duration::from_secs(10))).await?;
///     Ok(())
/// }
/// ```
pub struct PipelineHandle<I: Send + 'static, O: Send + 'static> {
    inner: Arc<Inner<I>>,
    open_guard: Arc<OpenGuard>,
    output: std::marker::PhantomData<fn() -> O>,
}

struct Inner<I: Send + 'static> {
    shared: Arc<Shared>,
    outbox: Arc<Outbox<I>>,
    outcomes: Arc<OutcomeFeed>,
    final_report: Arc<FinalReport>,
    threads: Arc<Threads>,
}

impl<I: Send + 'static, O: Send + 'static> Clone for PipelineHandle<I, O> {
    fn clone(&self) -> Self {
        let (inner, open_guard) = (self.inner.clone(), self.open_guard.clone());
        PipelineHandle {
            inner,
            open_guard,
            output: self.output,
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> PipelineHandle<I, O> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        outbox: Arc<Outbox<I>>,
        open_guard: Arc<OpenGuard>,
        outcomes: Arc<OutcomeFeed>,
        final_report: Arc<FinalReport>,
        threads: Arc<Threads>,
    ) -> Self {
        let inner = Arc::new(Inner {
            shared,
            outbox,
            outcomes,
            final_report,
            threads,
        });
        PipelineHandle {
            inner,
            open_guard,
            output: std::marker::PhantomData,
        }
    }

    #[cfg(feature = "journal")]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn set_system(&self, system: PrivateSystem) {
        self.inner.threads.set_system(system);
    }

    /// The pipeline for those who look after it, such as a monitor: without type parameters, and without
    /// keeping it open or alive.
    pub fn control(&self) -> Control {
        let Inner {
            shared,
            final_report,
            ..
        } = &*self.inner;
        Control::new(shared, final_report.clone())
    }

    /// An intake, for anything that makes tasks: an actor of yours, a thread. It keeps the pipeline
    /// open.
    pub fn intake(&self) -> Intake<I> {
        Intake::new(self.inner.outbox.clone(), self.open_guard.clone())
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
        Submit::new(&self.inner.outbox, context, Limits::none(true))
    }

    /// Submits a task if there is room now: short for `submit(context).now()`, which also takes
    /// limits.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    pub fn try_submit(&self, context: I) -> Result<Ticket<O>, TrySubmitError<I>> {
        self.submit(context).now()
    }

    /// Cancels a task by its number: it stops, and its undos run. Returns at once, `true` if this
    /// call decided the task's end; `false` if it had ended, or was about to, for another reason.
    pub fn cancel(&self, task: TaskId) -> bool {
        let shared = &self.inner.shared;
        shared
            .table
            .find(task)
            .is_some_and(|task| shared.cancel(&task, StopCause::User))
    }

    /// Cancels the task in flight that has this key, as [`cancel`](Self::cancel) does by number.
    ///
    /// With a journal, the cancel is recorded once nothing works on the task any more, so a kill before that
    /// leaves the task to go on. Wait for its outcome where that matters.
    pub fn cancel_key(&self, key: &str) -> bool {
        self.inner.shared.cancel_key(key)
    }

    /// The place where the task with this [key](Submit::key) is now. At once, from memory. A task is known
    /// once it is recorded, so one submitted with [`now`](Submit::now) a moment later.
    ///
    /// ```
    /// # use batrun::{prelude::*, state::TaskStatus};
    /// # fn example(handle: &PipelineHandle<u32, u32>) {
    /// match handle.status("order-17") {
    ///     TaskStatus::Unknown => println!("never heard of it"),
    ///     TaskStatus::Running { stage, attempt, .. } => println!("in {stage}, attempt {attempt}"),
    ///     TaskStatus::Ended { end, .. } => println!("it is {end}"),
    ///     elsewhere => println!("{elsewhere:?}"),
    /// }
    /// # }
    /// ```
    pub fn status(&self, key: &str) -> TaskStatus {
        self.inner.shared.status(key)
    }

    /// Gives the [key](Submit::key) of a task that has ended back, and drops its output and the undos that
    /// were kept. The next `submit` with that key is a new task. `true` if there was one.
    ///
    /// Without a journal there is nothing to forget.
    ///
    /// # Errors
    /// [`KeyError::InFlight`], [`KeyError::Stuck`], [`KeyError::Closed`], [`KeyError::Suspended`]: nothing is
    /// forgotten then.
    ///
    /// # Cancel safety
    /// Once polled, the key is given back, whether this future completes or not.
    #[cfg(feature = "journal")]
    pub async fn forget(&self, key: &str) -> Result<bool, KeyError> {
        self.inner.shared.forget(key).await
    }

    /// Takes back what the done task with this [key](Submit::key) did: its undos run as in any rollback. The
    /// ticket, which is ready once that is recorded, gets the task's second outcome,
    /// [`End::TakenBack`](crate::state::End::TakenBack).
    ///
    /// It happens once: if the task is being taken back, or was, the ticket is that one's. The pipeline has
    /// to [keep the undos](crate::Pipeline::keep_undos) of done tasks.
    ///
    /// ```
    /// # use batrun::prelude::*;
    /// # async fn example(handle: &PipelineHandle<u32, u32>) -> Result<(), Box<dyn std::error::Error>> {
    /// let ticket = handle.take_back("order-17").await?;
    /// println!("{}", ticket.outcome().await?); // task 4 done, then taken back; 3 undos taken back
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeyError`] names the key and the task; the task stays as it is.
    ///
    /// # Cancel safety
    /// Once polled, the task is taken back, whether this future completes or not.
    #[cfg(feature = "journal")]
    pub async fn take_back(&self, key: &str) -> Result<Ticket<O>, KeyError> {
        self.inner.shared.take_back(key).await.map(Ticket::new)
    }

    /// Every outcome from now on, without outputs. A reader that lags more than 1,024 outcomes behind
    /// gets [`Lagged`] with the number it missed. Ends when the pipeline does.
    pub fn outcomes(
        &self,
    ) -> impl Stream<Item = Result<Outcome, Lagged>> + Send + Unpin + use<I, O> {
        Box::pin(self.inner.outcomes.listen())
    }

    /// The pipeline as it is now. Takes some locks for a moment, and looks at each task in flight (about a
    /// millisecond for 100,000); once a second is fine.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.shared.snapshot()
    }

    /// Says if the pipeline can work now: for a readiness probe. Takes some locks for a moment.
    ///
    /// ```
    /// # use batrun::prelude::*;
    /// # fn example(handle: &PipelineHandle<u32, u32>) -> (u16, String) {
    /// let health = handle.health();
    /// let status = if health.is_ready() { 200 } else { 503 };
    /// # (status, health.to_string())
    /// # }
    /// ```
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// Stops all stages from starting work on a task, until [`resume`](Self::resume). Work that has
    /// begun goes on, and so do deadlines, cancels, rollbacks and `submit`. Does nothing once the
    /// pipeline is shutting down.
    pub fn pause(&self) {
        self.inner.shared.pause();
    }

    /// Ends a [`pause`](Self::pause). Does nothing if there is none.
    pub fn resume(&self) {
        self.inner.shared.resume();
    }

    /// Gives a stage another number of workers, 1 to 100,000. If it has more, the busy ones finish
    /// first. Returns before the pool has changed. The places for tasks in flight stay as many as at
    /// the start.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::ZeroWorkers`], [`Error::TooManyWorkers`], or
    /// [`Error::FixedSize`] for a stage that is an actor of yours.
    pub fn resize(&self, stage: &str, workers: usize) -> Result<(), Error> {
        self.inner.shared.resize(stage, workers)
    }

    /// The stuck tasks that nobody has [resolved](Self::resolve) or [retried](Self::retry): those of an
    /// earlier process by their numbers, then in the order in which they got stuck.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.inner.shared.table.stuck()
    }

    /// Has the undos that are left of a stuck task run again, as its stages' settings say. Returns at
    /// once: the task is in flight again, and gets one more outcome.
    ///
    /// For a cause that is gone, a bank that answers again, say. The task may get stuck once more. It counts
    /// as accepted once more, and its tickets have had their answer.
    ///
    /// # Errors
    /// [`RetryError`] names the task and says why not; it stays as it was.
    pub fn retry(&self, task: TaskId) -> Result<(), RetryError> {
        self.inner.shared.retry(task)
    }

    /// [Retries](Self::retry) every stuck task that the filter chooses, and says what became of each.
    ///
    /// ```
    /// # use batrun::{prelude::*, state::Stuck};
    /// # fn example(handle: &PipelineHandle<u32, u32>) {
    /// // The bank is back.
    /// let of_the_bank = |stuck: &Stuck| stuck.undos.iter().any(|undo| &*undo.stage == "pay");
    /// for refused in handle.retry_all(of_the_bank).into_iter().filter_map(Result::err) {
    ///     log::warn!("{refused}");
    /// }
    /// # }
    /// ```
    pub fn retry_all(
        &self,
        mut filter: impl FnMut(&Stuck) -> bool,
    ) -> Vec<Result<TaskId, RetryError>> {
        let stuck = self.inner.shared.table.stuck();
        let chosen = stuck.iter().filter(|stuck| filter(stuck));
        let chosen = chosen.map(|stuck| stuck.task).collect();
        self.inner.shared.retry_all(chosen)
    }

    /// Takes a task off the list of [`stuck`](Self::stuck) ones, because a person has dealt with it.
    /// Its undos don't run.
    ///
    /// `false` if it wasn't there, or if it stays because that can't be recorded: the pipeline has
    /// ended, or its journal has failed. A journal has it in its next commit, which this doesn't wait
    /// for.
    pub fn resolve(&self, task: TaskId) -> bool {
        self.inner.shared.resolve(task)
    }

    /// The outcome of the task that was submitted with this [key](Submit::key), to this process or
    /// one before: at once if it is kept, else once the task has it. `None` if no task in flight has
    /// this key and no outcome with it is kept, so always without
    /// a journal.
    ///
    /// # Errors
    /// [`Error::Suspended`] if the journal has failed or is closed.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn outcome_of(&self, key: &str) -> Result<Option<Outcome<O>>, Error> {
        self.inner.shared.outcome_of(key).await
    }

    /// Ends the pipeline and returns its report, once every task has its outcome and no thread of the
    /// pipeline is left. Called again, it may only hasten the end; every caller gets the report.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime ended first.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the shutdown to go on.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Report, Error> {
        self.inner.shared.tell_reporter(ToReporter::ShutDown(how));
        self.inner.final_report.wait().await.ok_or(Error::Gone)
    }

    /// Waits until the pipeline has ended, and returns its report. It doesn't begin the end, and this
    /// handle keeps the pipeline open, so the end comes from elsewhere: a [`shutdown`](Self::shutdown) by
    /// another handle or a [`Control`], or a journal or ledger that has failed. [`join`](Self::join) lets
    /// go of the handle, and waits for the producers and every task.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn ended(&self) -> Result<Report, Error> {
        self.inner.final_report.wait().await.ok_or(Error::Gone)
    }

    /// Lets go of the pipeline and waits for its end, which comes once every producer has ended,
    /// every other handle and intake is dropped, and every task has its outcome, as
    /// [`Pipeline::run`](crate::Pipeline::run) does.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime ended first.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the pipeline to run to its end.
    pub async fn join(self) -> Result<Report, Error> {
        let final_report = self.inner.final_report.clone();
        drop(self);
        final_report.wait().await.ok_or(Error::Gone)
    }
}
