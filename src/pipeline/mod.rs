//! The builder of pipelines. [`launch`] starts what it has built, and gives a [`handle`] to it.

pub(crate) mod control;
pub(crate) mod handle;
#[cfg(feature = "journal")]
mod anywhere;
#[cfg(feature = "journal")]
mod durable;
mod launch;
mod options;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use actix::{Actor, Addr, Handler, System, dev::ToEnvelope};
use tokio::sync::{Semaphore, oneshot};

pub use self::{control::Control, handle::PipelineHandle};

use self::launch::{Chain, Parts};
#[cfg(feature = "journal")]
use crate::engine::restore::PoolFeed;
#[cfg(feature = "testing")]
use crate::faults::{Fault, Injected, Repeat};
#[cfg(feature = "tracing")]
use crate::stage::traced::Traced;
use crate::{
    engine::{
        channel::channel,
        pool::{Pool, PoolConfig},
        producer::ProducerActor,
        threads::PrivateSystem,
    },
    error::{BuildError, Error},
    ledger::{Ledger, guarded::GuardedLedger},
    policy::{Order, Retry},
    report::{Recorder, Report},
    shared::hop::{Hop, TaskMsg},
    stage::{ActorStage, Cancel, IntoWork, Keeps, Reply, Stage, Volatile, Work},
    submit::Producer,
};

/// A pipeline in the making: its name, its producers and its stages, in order.
///
/// `I` is the input of its first stage, `C` the output of the last one so far; `D` says whether it has
/// a journal, so that its stages must meet the bounds of one.
///
/// [`run`](Self::run) is for programs that do their work and end, [`start`](Self::start) for
/// applications that submit tasks themselves. The [guide](crate::guide::pipelines) has all settings
/// with their defaults.
///
/// ```
/// use std::time::Duration;
/// use batrun::prelude::*;
///
/// #[actix::main]
/// async fn main() -> Result<(), batrun::Error> {
///     let report = Pipeline::new("numbers")
///         .producer(|tasks: Intake<u32>| async move {
///             for n in 0..100 {
///                 tasks.submit(n).timeout(Duration::from_secs(4)).await?;
///             }
///             Ok(())
///         })
///         .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(n * 2)).workers(2))
///         .stage(stage_fn("show", async |n: u32, _: &TaskContext<()>| Ok(n.to_string())))
///         .run()
///         .await?;
///     assert_eq!(report.counts.done, 100);
///     Ok(())
/// }
/// ```
#[must_use = "a pipeline does nothing until it is started or run"]
pub struct Pipeline<I: Send + 'static, C: Send + 'static = I, D = Volatile> {
    parts: Parts<I, C>,
    durability: PhantomData<fn() -> D>,
}

/// Each stage starts the one before it from within its own start, so a stack limits them.
const MOST_STAGES: usize = 1_000;

impl<I: Send + 'static> Pipeline<I, I> {
    /// A pipeline without producers and stages. The name is for reports, logs and keys; a journal
    /// belongs to the pipeline of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Pipeline {
            parts: Parts::new(name.into()),
            durability: PhantomData,
        }
    }
}

impl<I: Send + 'static, C: Send + 'static, D: 'static> Pipeline<I, C, D> {
    /// Adds a producer: a closure that gets an [`Intake`](crate::Intake), or anything else that is a
    /// [`Producer`]. All of them run side by side.
    pub fn producer(mut self, producer: impl Producer<I>) -> Self {
        let name = producer.name();
        self.parts
            .producers
            .push(Box::new(move |launch, number, tasks| {
                let name = name.unwrap_or_else(|| format!("producer {number}")).into();
                let shared = launch.shared.clone();
                launch
                    .start(move || ProducerActor::new(shared, name, producer, tasks))
                    .recipient()
            }));
        self
    }

    /// Adds a stage, whose input is the output of the one before: a [`Stage`] that is `Clone + Send`,
    /// or a [`Work`], which has settings.
    pub fn stage<W>(self, work: W) -> Pipeline<I, <W::Stage as Stage>::Output, D>
    where
        W: IntoWork,
        W::Stage: Stage<Input = C>,
        D: Keeps<W::Stage>,
    {
        let Work {
            mut config,
            factory,
            copy,
        } = work.into_work();
        let Parts {
            name,
            producers,
            mut stages,
            chain: before,
            options,
        } = self.parts;
        let stage = stages.len() as u16;
        config.codec = D::codec();
        stages.push(config);
        let chain: Chain<I, <W::Stage as Stage>::Output> = Box::new(move |launch, hop| {
            let Some(config) = launch.configs.pop() else {
                unreachable!("each stage has put its settings there")
            };
            let room = match stage {
                0 => launch.shared.table.front.clone(),
                _ => Arc::new(Semaphore::new(config.capacity)),
            };
            // For tests, every stage is one that faults can happen to.
            #[cfg(feature = "testing")]
            let factory = {
                let faults = launch.faults.clone();
                factory.map(move |stage| Injected {
                    stage,
                    faults: faults.clone(),
                })
            };
            #[cfg(feature = "tracing")]
            let factory = factory.map(Traced);
            let (notify, notices) = channel();
            let pool = PoolConfig {
                shared: launch.shared.clone(),
                stage,
                config,
                factory,
                copy,
                hop,
                room: room.clone(),
                stats: launch.stats[stage as usize].clone(),
                threads: launch.threads.clone(),
                notices,
                notify: notify.clone(),
            };
            let pool = launch.start(move || Pool::new(pool));
            launch.pools.push(pool.clone().recipient());
            let hop = Hop::new(pool.clone().recipient(), Some(room));
            #[cfg(feature = "journal")]
            if let Some(feeds) = &mut launch.feeds {
                feeds.push(Box::new(PoolFeed::new(hop.clone(), notify)));
            }
            before(launch, hop)
        });
        Pipeline {
            parts: Parts {
                name,
                producers,
                stages,
                chain,
                options,
            },
            durability: PhantomData,
        }
    }

    /// Adds a stage that is an actor of yours: short for `.stage(Work::actor(name, addr))`, which
    /// also takes settings.
    pub fn actor<A, O, U>(self, name: impl Into<String>, addr: Addr<A>) -> Pipeline<I, O, D>
    where
        D: Keeps<ActorStage<C, O, U>>,
        A: Actor + Handler<TaskMsg<C, Reply<O, U>>> + Handler<Cancel<U>>,
        A::Context: ToEnvelope<A, TaskMsg<C, Reply<O, U>>> + ToEnvelope<A, Cancel<U>>,
        O: Send + 'static,
        U: Clone + std::fmt::Debug + Send + 'static,
    {
        self.stage(Work::actor(name, addr))
    }

    /// The order in which a task's undos run. Default: [`Order::Fifo`], as they were registered.
    pub fn order(mut self, order: Order) -> Self {
        self.parts.options.order = order;
        self
    }

    /// The number of arbiters (threads) of its own that the pipeline runs on. Default: as many as the
    /// machine runs side by side. Blocking stages have theirs besides.
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.parts.options.arbiters = Some(arbiters);
        self
    }

    /// Runs everything on the arbiter that it is started on: for tests with a [clock that stands
    /// still](crate::guide::testing), and for values that must stay on one thread. Blocking stages
    /// have threads of their own all the same.
    pub fn current_arbiter(mut self) -> Self {
        self.parts.options.arbiters = None;
        self
    }

    /// Maximum number of tasks in flight (accepted, no outcome yet). Default: the sum of all queue
    /// capacities and workers.
    ///
    /// `submit` waits at this bound. A task holds its place until its rollback is over.
    pub fn max_in_flight(mut self, tasks: usize) -> Self {
        self.parts.options.max_in_flight = Some(tasks);
        self
    }

    /// Number of stuck tasks that may wait before `submit` is refused with
    /// [`SubmitError::Stuck`](crate::SubmitError::Stuck). Default: 1,000.
    ///
    /// A pipeline whose undos fail one after the other shouldn't begin more work that it can't take
    /// back. It accepts tasks again as soon as some are [retried](PipelineHandle::retry) or
    /// [resolved](PipelineHandle::resolve).
    pub fn max_stuck(mut self, tasks: usize) -> Self {
        self.parts.options.max_stuck = tasks;
        self
    }

    /// Has the undos of a stuck task tried again by themselves, on this schedule: the first retry comes
    /// that long after the task got stuck, and the next ones each time it gets stuck again. Default:
    /// stuck tasks wait for a person.
    ///
    /// For undos that fail as long as another system is down. Take a slow schedule; each round runs
    /// [`cancel_retry`](crate::IntoWork::cancel_retry) anew:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use batrun::prelude::*;
    /// # let pipeline: Pipeline<u32> = Pipeline::new("orders");
    /// // Every ten minutes, for a day.
    /// let pipeline = pipeline.retry_stuck(Retry::constant(144, Duration::from_secs(600)));
    /// # let _ = pipeline;
    /// ```
    ///
    /// Tasks that were stuck when the pipeline started are tried as well. A pipeline that is ending doesn't
    /// wait for it.
    pub fn retry_stuck(mut self, retry: Retry) -> Self {
        self.parts.options.retry_stuck = Some(retry);
        self
    }

    /// Maximum number of undos that a task may register. Default: 1,024. One more is refused with
    /// [`UndoError::TooMany`](crate::stage::UndoError::TooMany).
    pub fn max_undos(mut self, undos: usize) -> Self {
        self.parts.options.max_undos = undos;
        self
    }

    /// The time that a shutdown waits, past its grace or its abort, for tasks to stop and roll back.
    /// Default: 60 s.
    ///
    /// Tasks that haven't by then end stuck: their remaining undos do not run, and threads whose call
    /// hasn't returned are left behind. Set `abandon_after` above the time that your undos and their
    /// retries may take.
    pub fn abandon_after(mut self, duration: Duration) -> Self {
        self.parts.options.abandon_after = duration;
        self
    }

    /// Records what happens to each task, with times, for [`Control::timeline`]: see [`Recorder`] for what is kept.
    /// Default: no recorder; only the rollbacks of tasks that end other than done have times.
    pub fn recorder(mut self, recorder: Recorder) -> Self {
        self.parts.options.recorder = Some(recorder);
        self
    }

    /// Records each change of a task in a [`Ledger`] of yours. Default: nothing is recorded.
    pub fn ledger(mut self, ledger: impl Ledger) -> Self {
        self.parts.options.ledger = Some(Arc::new(GuardedLedger::new(ledger)));
        self
    }

    /// Puts a fault into the pipeline, to see that it rolls back what it did. Any number of them.
    #[cfg(feature = "testing")]
    pub fn inject(mut self, fault: Fault) -> Self {
        self.parts.options.faults.faults.push(fault);
        self
    }

    /// Makes runs or undos happen twice, to see that the world is the same afterwards. Default:
    /// [`Repeat::nothing`].
    #[cfg(feature = "testing")]
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.parts.options.faults.repeat = repeat;
        self
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.parts.name.is_empty() {
            return Err(BuildError::NoPipelineName);
        }
        if self.parts.stages.is_empty() {
            return Err(BuildError::NoStage(self.parts.name.clone()));
        }
        if self.parts.stages.len() > MOST_STAGES {
            return Err(BuildError::TooManyStages(self.parts.name.clone()));
        }
        for (n, stage) in self.parts.stages.iter().enumerate() {
            if stage.name.is_empty() {
                return Err(BuildError::NoStageName(self.parts.name.clone()));
            }
            stage.check()?;
            if self.parts.stages[..n]
                .iter()
                .any(|other| other.name == stage.name)
            {
                return Err(BuildError::SameName(stage.name.clone()));
            }
        }
        if self.parts.options.arbiters == Some(0) {
            return Err(BuildError::ZeroArbiters(self.parts.name.clone()));
        }
        #[cfg(feature = "journal")]
        if self.parts.options.journal.is_some() {
            if self.parts.options.ledger.is_some() {
                return Err(BuildError::TwoLedgers(self.parts.name.clone()));
            }
            if self.parts.stages.iter().any(|stage| stage.codec.is_none()) {
                return Err(BuildError::JournalAfterStages(self.parts.name.clone()));
            }
        }
        #[cfg(feature = "journal")]
        if self.parts.options.crash_limit == 0 {
            return Err(BuildError::ZeroCrashLimit(self.parts.name.clone()));
        }
        if self.parts.options.max_in_flight == Some(0) {
            return Err(BuildError::ZeroInFlight(self.parts.name.clone()));
        }
        if self.parts.options.max_stuck == 0 {
            return Err(BuildError::ZeroStuck(self.parts.name.clone()));
        }
        #[cfg(feature = "testing")]
        self.parts.options.faults.check(&self.parts.stages)?;
        Ok(())
    }

    /// Starts the pipeline: inside the current actix `System` if there is one, which is left as it
    /// was when the pipeline ends, or else on a private one.
    ///
    /// # Errors
    /// [`Error::Build`] names the stage that is put together wrongly; [`Error::Spawn`] if the
    /// operating system refuses a thread; `Error::Journal` if the journal is another pipeline's or
    /// damaged. Nothing was started then.
    ///
    /// # Cancel safety
    /// Not to be dropped halfway: outside of a System, a pipeline that was just being started then ends
    /// at once, its tasks unfinished.
    pub async fn start(self) -> Result<PipelineHandle<I, C>, Error> {
        self.check()?;
        let parts = self.parts.recover().await?;
        if System::try_current().is_some() {
            return parts.launch();
        }
        let (started, handle) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("batrun-system".to_owned())
            .spawn(move || {
                System::new().block_on(async move {
                    if started.send(parts.launch()).is_ok() {
                        ended.await.ok();
                    }
                });
            })
            .map_err(Error::Spawn)?;
        let handle: PipelineHandle<I, C> = handle.await.map_err(|_| Error::Gone)??;
        handle.set_system(PrivateSystem { end, thread });
        Ok(handle)
    }

    /// Starts the pipeline and waits until its producers have ended, every clone of their intakes is
    /// dropped, and every task has its outcome. `Ok` says that it ended: the report says how.
    ///
    /// # Errors
    /// Those of [`start`](Self::start), and [`Error::Gone`] when the runtime ends first.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the pipeline to run to its end.
    pub async fn run(self) -> Result<Report, Error> {
        let handle = self.start().await?;
        handle.join().await
    }
}
