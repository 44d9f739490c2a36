//! One stage, or one producer, alone.

use std::{
    collections::HashSet,
    marker::PhantomData,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    failure::Failure,
    panic_guard,
    pipeline::{Pipeline, PipelineHandle},
    policy::Shutdown,
    report::{ProducerError, Report},
    stage::{IntoWork, Stage, TaskContext, stage_fn},
    submit::{Producer, Submit},
    task::{Outcome, TaskId},
};

/// The time that a stage may take to roll back before [`Harness::end`] gives its tasks up.
const ABANDON: Duration = Duration::from_secs(60);

/// Runs one stage alone, with its workers, retries and timeouts, in a pipeline of its own on the
/// current arbiter. For use within [`paused`](super::paused) or [`live`](super::live).
///
/// ```
/// use batrun::{prelude::*, testing::{Harness, paused}};
///
/// # fn main() {
/// paused(async {
///     let double = stage_fn("double", async |n: u32, task: &TaskContext<u32>| {
///         task.on_cancel(n).await?;
///         Ok(2 * n)
///     });
///     let stage = Harness::new(double).await;
///     assert_eq!(stage.run(7).await.output, Some(14));
///     assert_eq!(stage.take_back(7).await.rollback, Rollback::Complete { undos: 1 });
///     assert_eq!(stage.end().await.counts.accepted, 2);
/// });
/// # }
/// ```
pub struct Harness<I: Send + 'static, O: Send + 'static> {
    handle: PipelineHandle<I, O>,
    /// Tasks that the stage behind is to fail.
    doomed: Arc<Mutex<HashSet<TaskId>>>,
    /// It stays on its arbiter, or the stage behind might be faster than `take_back`.
    here: PhantomData<Rc<()>>,
}

impl<I: Send + 'static, O: Send + 'static> Harness<I, O> {
    /// Starts the stage.
    ///
    /// # Panics
    /// If it is put together wrongly, for instance with zero workers, and outside of an actix System.
    pub async fn new<W>(work: W) -> Self
    where
        W: IntoWork,
        W::Stage: Stage<Input = I, Output = O>,
    {
        assert!(
            actix::System::try_current().is_some(),
            "a harness needs an actix System: use `paused` or `live`"
        );
        let doomed = Arc::new(Mutex::new(HashSet::new()));
        let known = doomed.clone();
        let behind = stage_fn(
            "behind the harness",
            async move |output: O, task: &TaskContext<'_, ()>| {
                if panic_guard::lock(&known).remove(&task.task_id()) {
                    panic_guard::drop_quietly(output);
                    return Err(Failure::permanent("the harness wants it taken back"));
                }
                Ok(output)
            },
        );
        let pipeline = Pipeline::new("harness")
            .stage(work)
            .stage(behind)
            .abandon_after(ABANDON)
            .current_arbiter();
        match pipeline.start().await {
            Ok(handle) => Harness {
                handle,
                doomed,
                here: PhantomData,
            },
            Err(error) => panic!("{error}"),
        }
    }

    /// Submits a task, to which limits can be added, and gives its ticket.
    pub fn submit(&self, input: I) -> Submit<'_, I, O> {
        self.handle.submit(input)
    }

    /// Runs a task through the stage, and gives its outcome with the stage's output.
    ///
    /// # Panics
    /// If the harness has ended.
    pub async fn run(&self, input: I) -> Outcome<O> {
        self.finish(input, None, false).await
    }

    /// Runs a task through the stage; a stage behind it then fails, so the undos of this one run. See
    /// the outcome's `rollback`. A task that the stage itself fails ends as it would.
    ///
    /// # Panics
    /// If the harness has ended.
    pub async fn take_back(&self, input: I) -> Outcome<O> {
        self.finish(input, None, true).await
    }

    /// Gives the task a deadline that long from its acceptance, so that the stage's future is
    /// dropped amid its work, or its blocking call is told, and its undos run.
    ///
    /// This finds a stage that acts before it registers its undo; see the
    /// [guide](crate::guide::testing).
    ///
    /// # Panics
    /// If the harness has ended.
    pub async fn drop_after(&self, time: Duration, input: I) -> Outcome<O> {
        self.finish(input, Some(time), false).await
    }

    async fn finish(&self, input: I, limit: Option<Duration>, doomed: bool) -> Outcome<O> {
        let ticket = match self.handle.submit(input).timeout(limit).await {
            Ok(ticket) => ticket,
            Err(refused) => panic!("{refused}"),
        };
        // Nothing was awaited since, so the stage behind, on this arbiter, hasn't seen it yet.
        let id = ticket.id();
        if doomed {
            panic_guard::lock(&self.doomed).insert(id);
        }
        let outcome = ticket.outcome().await;
        panic_guard::lock(&self.doomed).remove(&id);
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => panic!("{error}"),
        }
    }

    /// The pipeline around the stage, to pause, to cancel or to look at.
    pub fn handle(&self) -> &PipelineHandle<I, O> {
        &self.handle
    }

    /// Waits for all tasks, and gives the report.
    ///
    /// # Panics
    /// If the runtime has ended.
    pub async fn end(self) -> Report {
        match self.handle.shutdown(Shutdown::Drain(ABANDON)).await {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything that a producer submits, and its error if it ended with one. For use in an actix System.
/// It waits for the producer's end, so give one that never ends a limit of its own.
///
/// # Panics
/// If the runtime ends.
pub async fn produced<C: Send + 'static>(
    producer: impl Producer<C>,
) -> (Vec<C>, Option<ProducerError>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let report = Pipeline::new("produced")
        .producer(producer)
        .stage(stage_fn(
            "keep",
            async move |context: C, _: &TaskContext<'_, ()>| {
                panic_guard::lock(&keep).push(context);
                Ok(())
            },
        ))
        .current_arbiter()
        .run()
        .await;
    match report {
        Ok(mut report) => (
            std::mem::take(&mut *panic_guard::lock(&seen)),
            report.producer_errors.pop(),
        ),
        Err(error) => panic!("{error}"),
    }
}
