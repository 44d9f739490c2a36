//! A stage and how its pool is to run it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    Failure,
    error::{BuildError, MOST_WORKERS},
    guard,
    keeping::Codec,
    policy::{OnStuck, RateLimit, Restart, Retry},
    stage::Stage,
};

/// A stage and how its pool is to run it: what [`Pipeline::stage`](crate::Pipeline::stage) takes.
///
/// Made by the methods of [`IntoWork`] from a stage that is `Clone`, or with [`Work::with`].
pub struct Work<S: Stage> {
    pub(crate) settings: Settings,
    pub(crate) factory: Factory<S>,
    /// How an input is copied, for stages that retry.
    pub(crate) copy: Option<CopyInput<S>>,
}

/// How a pool is to run its stage.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
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
    /// How its values are kept, where they are.
    pub(crate) codec: Option<Codec>,
}

/// The room in a stage's queue unless told otherwise: enough for batches that make the cost of a
/// message vanish, and little enough that all tasks in flight stay in the processor's caches.
const CAPACITY: usize = 256;

/// How an input is copied.
pub(crate) type CopyInput<S> = fn(&<S as Stage>::Input) -> <S as Stage>::Input;

impl Settings {
    fn new(name: String) -> Self {
        Settings {
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

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let name = || self.name.clone();
        if self.workers == 0 {
            return Err(BuildError::ZeroWorkers(name()));
        }
        let workers = if self.actor {
            self.capacity
        } else {
            self.workers
        };
        if workers > MOST_WORKERS {
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
        let clock = crate::clock::Clock::start();
        if self
            .rate
            .is_some_and(|rate| rate.throttle(&clock).is_none())
        {
            return Err(BuildError::ZeroRate(name()));
        }
        Ok(())
    }
}

/// Builds stage values, one for each worker and each restart. Several may be built at once: one
/// that takes its time keeps no other worker waiting, least of all the one that runs cancels.
pub(crate) struct Factory<S>(Arc<dyn Fn() -> Result<S, Failure> + Send + Sync>);

impl<S> Clone for Factory<S> {
    fn clone(&self) -> Self {
        Factory(self.0.clone())
    }
}

#[cfg(feature = "testing")]
impl<S: 'static> Factory<S> {
    /// One that makes something else of each value.
    pub(crate) fn map<T>(self, map: impl Fn(S) -> T + Send + Sync + 'static) -> Factory<T> {
        Factory(Arc::new(move || (self.0)().map(&map)))
    }
}

impl<S> Factory<S> {
    /// Builds a value. A panic is a failure to build.
    pub(crate) fn build(&self) -> Result<S, Failure> {
        guard::run(|| (self.0)()).and_then(|built| built)
    }
}

impl<S: Stage> Work<S> {
    /// A stage whose values come from a factory: for stages that are not `Clone`.
    ///
    /// The factory is called on the worker's own thread, once for each worker, each restart, and
    /// for the spare value that runs cancels while every worker is busy. A panic in it is retried
    /// with [backoff](IntoWork::restart).
    pub fn with(name: impl Into<String>, factory: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::try_with(name, move || Ok(factory()))
    }

    /// Like [`with`](Self::with), for a factory that may fail.
    pub fn try_with(
        name: impl Into<String>,
        factory: impl Fn() -> Result<S, Failure> + Send + Sync + 'static,
    ) -> Self {
        Work {
            settings: Settings {
                blocking: S::BLOCKING,
                ..Settings::new(name.into())
            },
            factory: Factory(Arc::new(factory)),
            copy: None,
        }
    }
}

/// What can be a stage of a pipeline, and how its pool is to run it.
///
/// A [`Stage`] that is `Clone` (each worker gets a clone), or a [`Work`].
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

    /// The stage's name in reports, logs and calls that name it.
    fn named(self, name: impl Into<String>) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.name = name.into();
        work
    }

    /// How many tasks the stage works on side by side: 1 unless told otherwise.
    fn workers(self, workers: usize) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.workers = workers;
        work
    }

    /// How many tasks may wait for this stage: 256 unless told otherwise.
    fn capacity(self, capacity: usize) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.capacity = capacity;
        work
    }

    /// How often a failed attempt is repeated: never unless told otherwise. Each attempt gets the
    /// input as it arrived, so it has to be `Clone`.
    fn retry(self, retry: Retry) -> Work<Self::Stage>
    where
        <Self::Stage as Stage>::Input: Clone,
    {
        let mut work = self.into_work();
        work.settings.retry = retry;
        work.settings.copies = true;
        work.copy = Some(Clone::clone);
        work
    }

    /// How long an attempt may take. One that takes longer has failed, and may be repeated. A
    /// blocking call, a shielded future and an actor's reply are waited for and aren't told:
    /// `is_stopping` and `time_left` are about the task.
    fn timeout(self, timeout: Duration) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.timeout = Some(timeout);
        work
    }

    /// How often a failed cancel is repeated before its undo counts as failed: three times unless
    /// told otherwise.
    fn cancel_retry(self, retry: Retry) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.cancel_retry = retry;
        work
    }

    /// How long a cancel may take before it is dropped and has failed: 30 s unless told otherwise.
    /// One that blocks is waited for.
    fn cancel_timeout(self, timeout: Duration) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.cancel_timeout = timeout;
        work
    }

    /// How many attempts may start in a time: any number unless told otherwise.
    fn rate_limit(self, rate: RateLimit) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.rate = Some(rate);
        work
    }

    /// Each worker gets a thread of its own, which the stage may block. A stage that always does
    /// says so itself: [`Stage::BLOCKING`].
    fn blocking(self) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.blocking = true;
        work
    }

    /// A value whose future was dropped at a deadline or a cancel is used again, not rebuilt: for
    /// stages whose state survives that.
    fn keep_on_abort(self) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.keep_on_abort = true;
        work
    }

    /// How long to wait before a value that could not be built is tried again.
    fn restart(self, restart: Restart) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.restart = restart;
        work
    }

    /// The version of what a journal keeps of this stage, its input and its undos: 1 unless told
    /// otherwise. Say another one once they mean something else than before. A task that a journal
    /// has in another version of its stage is set aside for a person. A field that is added with
    /// `#[serde(default)]`, or left out, needs no new version.
    fn version(self, version: u32) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.version = version;
        work
    }

    /// What a rollback does when an undo of this stage can't be cancelled.
    fn on_stuck(self, on_stuck: OnStuck) -> Work<Self::Stage> {
        let mut work = self.into_work();
        work.settings.on_stuck = on_stuck;
        work
    }
}

impl<S: Stage> IntoWork for Work<S> {
    type Stage = S;

    fn into_work(self) -> Work<S> {
        self
    }
}

impl<S: Stage + Clone + Send> IntoWork for S {
    type Stage = S;

    fn into_work(self) -> Work<S> {
        let name = self.name();
        // It is `Send`, which is enough as long as one thread at a time clones it.
        let first = Mutex::new(self);
        Work::with(name, move || guard::lock(&first).clone())
    }
}

/// How many threads the machine runs side by side.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
