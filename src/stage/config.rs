//! A stage with the settings of its pool.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Stage;
use crate::{
    error::{BuildError, MOST_WORKERS},
    failure::{self, Failure},
    ledger::Codec,
    panic_guard,
    policy::{OnStuck, RateLimit, Restart, Retry},
    report::PoolSettings,
};

/// A stage with the settings of its pool, for [`Pipeline::stage`](crate::Pipeline::stage).
///
/// Made by the methods of [`IntoWork`] from a stage that is `Clone + Send`, with [`Work::with`] from
/// a factory of stage values, or with [`Work::actor`] from an actix actor of yours.
pub struct Work<S: Stage> {
    pub(crate) config: StageConfig,
    pub(crate) factory: StageFactory<S>,
    /// The way to copy an input, for stages that retry.
    pub(crate) copy: Option<CopyInput<S>>,
}

/// The settings of a stage's pool.
#[derive(Clone, Debug)]
pub(crate) struct StageConfig {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel_retry: Retry,
    pub(crate) cancel_timeout: Duration,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) blocking: bool,
    pub(crate) keep_on_abort: bool,
    pub(crate) restart: Restart,
    pub(crate) on_stuck: OnStuck,
    /// The stage only talks to an actor: `capacity` is how many tasks that actor may have.
    pub(crate) actor: bool,
    /// Its input can be copied, as `retry` says.
    pub(crate) copies: bool,
    /// Of its values, for a journal.
    pub(crate) version: u32,
    /// The way its values are encoded, if they are kept.
    pub(crate) codec: Option<Codec>,
}

/// The room in a stage's queue by default: enough for batches that make the cost of a message
/// vanish, and little enough that all tasks in flight stay in the processor's caches.
const CAPACITY: usize = 256;

/// The way to copy an input.
pub(crate) type CopyInput<S> = fn(&<S as Stage>::Input) -> <S as Stage>::Input;

impl StageConfig {
    fn new(name: String) -> Self {
        StageConfig {
            name,
            workers: 1,
            capacity: CAPACITY,
            retry: Retry::none(),
            timeout: None,
            cancel_retry: Retry::exponential(3),
            cancel_timeout: Duration::from_secs(30),
            rate: None,
            blocking: false,
            keep_on_abort: false,
            restart: Restart::default(),
            on_stuck: OnStuck::default(),
            actor: false,
            copies: false,
            version: 1,
            codec: None,
        }
    }

    /// The number of tasks the stage works on at once: its workers, or what its actor may have.
    pub(crate) fn most_at_once(&self) -> usize {
        if self.actor {
            self.capacity
        } else {
            self.workers
        }
    }

    /// The settings that a snapshot shows.
    pub(crate) fn shown(&self) -> PoolSettings {
        PoolSettings {
            capacity: self.capacity,
            workers: self.most_at_once(),
            rate: self.rate,
            fixed_size: self.actor,
        }
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let name = || self.name.clone();
        if self.workers == 0 {
            return Err(BuildError::ZeroWorkers(name()));
        }
        if self.most_at_once() > MOST_WORKERS {
            return Err(BuildError::TooManyWorkers(name()));
        }
        if self.capacity == 0 {
            return Err(BuildError::ZeroCapacity(name()));
        }
        if self.capacity > tokio::sync::Semaphore::MAX_PERMITS >> 1 {
            return Err(BuildError::CapacityTooLarge(name()));
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(BuildError::ZeroTimeout(name(), "timeout"));
        }
        if self.cancel_timeout.is_zero() {
            return Err(BuildError::ZeroTimeout(name(), "cancel timeout"));
        }
        if self.rate.is_some_and(|rate| rate.is_zero()) {
            return Err(BuildError::ZeroRate(name()));
        }
        Ok(())
    }
}

/// Builds stage values, one for each worker and each restart. Several may be built at once: one
/// that takes its time keeps no other worker waiting, least of all the one that runs undos.
pub(crate) struct StageFactory<S>(Arc<dyn Fn() -> Result<S, Failure> + Send + Sync>);

impl<S> Clone for StageFactory<S> {
    fn clone(&self) -> Self {
        StageFactory(self.0.clone())
    }
}

#[cfg(any(feature = "testing", feature = "tracing"))]
impl<S: 'static> StageFactory<S> {
    /// One that makes something else of each value.
    pub(crate) fn map<T>(self, map: impl Fn(S) -> T + Send + Sync + 'static) -> StageFactory<T> {
        StageFactory(Arc::new(move || (self.0)().map(&map)))
    }
}

impl<S> StageFactory<S> {
    /// Builds a value. A panic is a failure to build.
    pub(crate) fn build(&self) -> Result<S, Failure> {
        failure::catch(|| (self.0)()).and_then(|built| built)
    }
}

impl<S: Stage> Work<S> {
    /// A stage whose values come from a factory: for stages that are not `Clone`.
    ///
    /// The factory is called on the worker's own thread, once for each worker, each restart, and
    /// for the spare value that runs undos while every worker is busy. A panic in it is retried
    /// with [backoff](IntoWork::restart).
    ///
    /// ```
    /// use std::cell::Cell;
    /// use batrun::prelude::*;
    ///
    /// /// Not `Clone`: each worker has a counter of its own.
    /// struct Count(Cell<u64>);
    ///
    /// impl Stage for Count {
    ///     type Input = String;
    ///     type Output = u64;
    ///     type Undo = ();
    ///
    ///     async fn run(&mut self, _: String, _: &TaskContext<'_, ()>) -> Result<u64, Failure> {
    ///         self.0.set(self.0.get() + 1);
    ///         Ok(self.0.get())
    ///     }
    /// }
    ///
    /// let count = Work::with("count", || Count(Cell::new(0))).workers(4);
    /// # let _ = count;
    /// ```
    pub fn with(name: impl Into<String>, factory: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::try_with(name, move || Ok(factory()))
    }

    /// Like [`with`](Self::with), for a factory that may fail, because its database is away, say. It
    /// is called again with [backoff](IntoWork::restart); the stage's
    /// [health](crate::report::StageHealth) shows that.
    pub fn try_with(
        name: impl Into<String>,
        factory: impl Fn() -> Result<S, Failure> + Send + Sync + 'static,
    ) -> Self {
        Work {
            config: StageConfig {
                blocking: S::BLOCKING,
                ..StageConfig::new(name.into())
            },
            factory: StageFactory(Arc::new(factory)),
            copy: None,
        }
    }
}

/// Something that can be a stage of a pipeline, with the settings of its pool: a [`Stage`] that is
/// `Clone + Send` (each worker gets a clone), or a [`Work`].
///
/// Each method sets one thing and returns the [`Work`]; a setting that is given twice has its last
/// value.
///
/// ```
/// use std::time::Duration;
/// use batrun::prelude::*;
///
/// let fetch = stage_fn("fetch", async |page: u32, _: &TaskContext<()>| Ok(page))
///     .workers(8)
///     .retry(Retry::exponential(3))
///     .timeout(Duration::from_secs(2))
///     .rate_limit(RateLimit::per_second(50));
/// # let _ = fetch;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a stage of a pipeline",
    label = "this is neither a `Stage` that is `Clone + Send` nor a `Work`",
    note = "implement `Stage` for it and derive `Clone`, or build its values with `Work::with(name, || ..)`"
)]
pub trait IntoWork: Sized {
    /// The stage.
    type Stage: Stage;

    /// The stage with its settings.
    fn into_work(self) -> Work<Self::Stage>;

    /// The stage's name in reports, logs and calls that name it. Default: [`Stage::name`].
    ///
    /// Two stages of a pipeline can't have the same name. A journal knows a stage by it: renamed, it
    /// is another one, and its tasks are set aside for a person.
    fn named(self, name: impl Into<String>) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.name = name.into();
        work
    }

    /// The number of tasks that the stage works on side by side, 1 to 100,000. Default: 1.
    ///
    /// [`PipelineHandle::resize`](crate::PipelineHandle::resize) changes it while the pipeline runs.
    fn workers(self, workers: usize) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.workers = workers;
        work
    }

    /// The number of tasks that may wait for this stage. Default: 256, and 16 for an actor of yours.
    ///
    /// A full queue slows down the stage before it and, at the front, `submit`.
    fn capacity(self, capacity: usize) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.capacity = capacity;
        work
    }

    /// Repeats a failed attempt. Default: never.
    ///
    /// Before the next attempt the undos of the failed one run. Each attempt gets the input as it
    /// arrived, so it has to be `Clone`. Panics and [permanent](Failure::permanent) failures aren't
    /// repeated.
    fn retry(self, retry: Retry) -> Work<Self::Stage>
    where
        <Self::Stage as Stage>::Input: Clone,
    {
        let mut work = self.into_work();
        work.config.retry = retry;
        work.config.copies = true;
        work.copy = Some(Clone::clone);
        work
    }

    /// The time that an attempt may take. Default: no limit. Zero is refused by
    /// [`start`](crate::Pipeline::start).
    ///
    /// An attempt that takes longer has failed, and may be [repeated](Self::retry). A blocking call,
    /// a shielded future and an actor's reply are waited for and aren't told: `is_stopping` and
    /// `time_left` are about the task.
    fn timeout(self, timeout: Duration) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.timeout = Some(timeout);
        work
    }

    /// Repeats an undo that failed, before it counts as failed for good. Default:
    /// [`Retry::exponential(3)`](Retry::exponential), so four tries.
    fn cancel_retry(self, retry: Retry) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.cancel_retry = retry;
        work
    }

    /// The time that a try of an undo may take before it is dropped and has failed. Default: 30 s.
    /// One that blocks is waited for. Zero is refused by [`start`](crate::Pipeline::start).
    fn cancel_timeout(self, timeout: Duration) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.cancel_timeout = timeout;
        work
    }

    /// Limits the attempts that start in a time, over all workers. Default: no limit.
    fn rate_limit(self, rate: RateLimit) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.rate = Some(rate);
        work
    }

    /// Gives each worker a thread of its own, which the stage may block. Default:
    /// [`Stage::BLOCKING`], with which a stage says so itself.
    ///
    /// A call that blocks can't be stopped: a deadline or a cancel waits for it to return. Have it
    /// look at [`is_stopping`](crate::TaskContext::is_stopping).
    fn blocking(self) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.blocking = true;
        work
    }

    /// Uses a value again whose future was dropped at a deadline or a cancel. Default: it is rebuilt.
    /// For stages whose state survives that, a connection that is merely borrowed, say.
    fn keep_on_abort(self) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.keep_on_abort = true;
        work
    }

    /// Sets the delays before a value that could not be built is tried again. Default: 100 ms,
    /// doubling to 30 s, with jitter.
    fn restart(self, restart: Restart) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.restart = restart;
        work
    }

    /// The version of the values that a journal keeps of this stage, its input and its undos.
    /// Default: 1.
    ///
    /// Say another one once they mean something else than before. A task that a journal has in
    /// another version of its stage is set aside for a person. A field that is added with
    /// `#[serde(default)]`, or left out, needs no new version.
    fn version(self, version: u32) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.version = version;
        work
    }

    /// The way a rollback goes on after an undo of this stage has failed for good. Default:
    /// [`OnStuck::Continue`].
    fn on_stuck(self, on_stuck: OnStuck) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.config.on_stuck = on_stuck;
        work
    }
}

impl<S: Stage> IntoWork for Work<S> {
    type Stage = S;

    fn into_work(self) -> Work<S> {
        self
    }
}

/// A value that each worker can have one of: whatever is `Clone`.
///
/// It is there for the compiler's message about a stage that isn't.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Clone`, and each worker of a stage needs a value of its own",
    label = "this stage is not `Clone`",
    note = "derive `Clone` for it, or have each worker's value built: `Work::with(name, || ..)`",
    note = "a `stage_fn(..)` is `Clone` if all that its functions capture is: an `Arc` makes it so"
)]
pub trait CloneForEachWorker: Clone {}

#[diagnostic::do_not_recommend]
impl<T: Clone> CloneForEachWorker for T {}

// The compiler complains of the first bound that isn't met. `Clone` is there for the message about a method
// called on a stage that isn't: that one names every bound.
impl<S: Stage + Send + CloneForEachWorker> IntoWork for S {
    type Stage = S;

    fn into_work(self) -> Work<S> {
        let name = self.name();
        // It is `Send`, which is enough as long as one thread at a time clones it.
        let first = Mutex::new(self);
        Work::with(name, move || panic_guard::lock(&first).clone())
    }
}

/// The number of threads that the machine runs side by side.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
