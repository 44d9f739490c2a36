//! The builder: what a pipeline is made of, and its settings.

mod launch;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use actix::{Actor, Addr, Handler, Recipient, System, dev::ToEnvelope};
use tokio::sync::{Semaphore, oneshot};

use self::launch::Launch;
use crate::{
    Error, Reply, TaskMsg,
    actor_stage::{ActorStage, Cancel},
    error::BuildError,
    handle::PipelineHandle,
    intake::Intake,
    keeping::{Keeps, Volatile},
    ledger::Ledger,
    message::{Hop, ToProducer},
    policy::Order,
    producer::{Producer, ProducerActor},
    report::Report,
    run::{Plan, Pool, PrivateSystem},
    stage::Stage,
    work::{Factory, IntoWork, Settings, Work, parallelism},
};
#[cfg(feature = "journal")]
use crate::{journal::Journal, keeping::Durable, run::PoolFeed};

/// A pipeline in the making: its name, its producers and its stages, in order.
///
/// `I` is what its first stage takes, `C` what the last one so far hands on; `D` says whether it has
/// a [journal](Self::journal), so that its stages must meet the bounds of one.
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
    name: String,
    producers: Vec<StartProducer<I>>,
    stages: Vec<Settings>,
    chain: Chain<I, C>,
    options: Options,
    durability: PhantomData<fn() -> D>,
}

/// Each stage starts the one before it from within its own start, so a stack limits them.
const MOST_STAGES: usize = 1_000;

type StartProducer<I> = Box<dyn FnOnce(&Launch, usize, Intake<I>) -> Recipient<ToProducer> + Send>;
/// Starts the pools from the last to the first; each needs to know the next one.
type Chain<I, C> = Box<dyn FnOnce(&mut Launch, Hop<C>) -> Hop<I> + Send>;

struct Options {
    order: Order,
    /// How many own arbiters; `None` for the current one.
    arbiters: Option<usize>,
    max_in_flight: Option<usize>,
    max_stuck: usize,
    max_undos: usize,
    abandon_after: Duration,
    ledger: Option<Arc<dyn Ledger>>,
    #[cfg(feature = "journal")]
    journal: Option<Journal>,
    #[cfg(feature = "journal")]
    recovery: crate::policy::Recovery,
    #[cfg(feature = "testing")]
    injection: crate::inject::Injection,
}

/// What a pool runs for a stage: the stage itself, or, for tests, one that faults can happen to.
#[cfg(not(feature = "testing"))]
type Staged<S> = S;
#[cfg(feature = "testing")]
type Staged<S> = crate::inject::Injected<S>;

#[cfg(not(feature = "testing"))]
fn staged<S: Stage>(factory: Factory<S>) -> Factory<Staged<S>> {
    factory
}
#[cfg(feature = "testing")]
fn staged<S: Stage>(factory: Factory<S>) -> Factory<Staged<S>> {
    factory.map(crate::inject::Injected)
}

impl<I: Send + 'static> Pipeline<I, I> {
    /// A pipeline without producers and stages. The name is for reports and logs.
    pub fn new(name: impl Into<String>) -> Self {
        Pipeline {
            name: name.into(),
            producers: Vec::new(),
            stages: Vec::new(),
            chain: Box::new(|_, hop| hop),
            options: Options {
                order: Order::Fifo,
                arbiters: Some(parallelism()),
                max_in_flight: None,
                max_stuck: 1_000,
                max_undos: 1_024,
                abandon_after: Duration::from_secs(60),
                ledger: None,
                #[cfg(feature = "journal")]
                journal: None,
                #[cfg(feature = "journal")]
                recovery: Default::default(),
                #[cfg(feature = "testing")]
                injection: Default::default(),
            },
            durability: PhantomData,
        }
    }

    /// Records everything in a [`Journal`], so that a crash loses nothing: say it before the stages,
    /// whose inputs, outputs and undos must then be `Serialize + DeserializeOwned`.
    #[cfg(feature = "journal")]
    pub fn journal(self, journal: Journal) -> Pipeline<I, I, Durable> {
        let Pipeline {
            name,
            producers,
            stages,
            chain,
            mut options,
            ..
        } = self;
        options.journal = Some(journal);
        Pipeline {
            name,
            producers,
            stages,
            chain,
            options,
            durability: PhantomData,
        }
    }
}

#[cfg(feature = "journal")]
impl<I: Send + 'static, C: Send + 'static> Pipeline<I, C, Durable> {
    /// What to do with the tasks that the process before has left: they go on, unless told otherwise.
    pub fn recovery(mut self, recovery: crate::policy::Recovery) -> Self {
        self.options.recovery = recovery;
        self
    }
}

impl<I: Send + 'static, C: Send + 'static, D: 'static> Pipeline<I, C, D> {
    /// Adds a producer: a closure that gets an [`Intake`], or whatever else is a [`Producer`]. All
    /// of them run side by side.
    pub fn producer(mut self, producer: impl Producer<I>) -> Self {
        let name = producer.name();
        self.producers.push(Box::new(move |launch, number, tasks| {
            let name = name.unwrap_or_else(|| format!("producer {number}")).into();
            let core = launch.core.clone();
            launch
                .start(move || ProducerActor::new(core, name, producer, tasks))
                .recipient()
        }));
        self
    }

    /// Adds a stage, which takes what the one before hands on.
    pub fn stage<W>(self, work: W) -> Pipeline<I, <W::Stage as Stage>::Output, D>
    where
        W: IntoWork,
        W::Stage: Stage<Input = C>,
        D: Keeps<W::Stage>,
    {
        let Work {
            mut settings,
            factory,
            copy,
        } = work.into_work();
        let Pipeline {
            name,
            producers,
            mut stages,
            chain: before,
            options,
            ..
        } = self;
        let stage = stages.len() as u16;
        settings.codec = D::codec();
        stages.push(settings);
        let chain: Chain<I, <W::Stage as Stage>::Output> = Box::new(move |launch, hop| {
            let Some(settings) = launch.settings.pop() else {
                unreachable!("each stage has put its settings there")
            };
            let room = match stage {
                0 => launch.core.table.front.clone(),
                _ => Arc::new(Semaphore::new(settings.capacity)),
            };
            let board = launch.boards[stage as usize].clone();
            let plan = Plan::<Staged<W::Stage>> {
                core: launch.core.clone(),
                stage,
                settings,
                factory: staged(factory),
                copy,
                hop,
                room: room.clone(),
                board,
                grounds: launch.grounds.clone(),
            };
            let pool = launch.start(move || Pool::new(plan));
            launch.pools.push(pool.clone().recipient());
            let hop = Hop::new(pool.clone().recipient(), Some(room));
            #[cfg(feature = "journal")]
            if let Some(feeds) = &mut launch.feeds {
                feeds.push(Box::new(PoolFeed::new(hop.clone(), pool.recipient())));
            }
            before(launch, hop)
        });
        Pipeline {
            name,
            producers,
            stages,
            chain,
            options,
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

    /// In which order a task's undos are cancelled: as registered, unless told otherwise.
    pub fn order(mut self, order: Order) -> Self {
        self.options.order = order;
        self
    }

    /// How many arbiters (threads) of its own the pipeline runs on: as many as the machine runs
    /// side by side, unless told otherwise. Blocking stages have theirs besides.
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.options.arbiters = Some(arbiters);
        self
    }

    /// Runs everything on the arbiter that it is started on. Blocking stages have threads of their
    /// own all the same.
    pub fn current_arbiter(mut self) -> Self {
        self.options.arbiters = None;
        self
    }

    /// How many tasks may be in flight at once, from their acceptance to their outcome: what fits
    /// into all queues and workers, unless told otherwise.
    pub fn max_in_flight(mut self, tasks: usize) -> Self {
        self.options.max_in_flight = Some(tasks);
        self
    }

    /// How many stuck tasks may wait for a person before no more tasks are accepted: 1,000 unless
    /// told otherwise.
    pub fn max_stuck(mut self, tasks: usize) -> Self {
        self.options.max_stuck = tasks;
        self
    }

    /// How many undos a task may register: 1,024 unless told otherwise.
    pub fn max_undos(mut self, undos: usize) -> Self {
        self.options.max_undos = undos;
        self
    }

    /// How long a shutdown waits, past its grace or its abort, for tasks to stop and roll back: 60 s
    /// unless told otherwise. Those that haven't then end stuck, and threads whose call hasn't
    /// returned are left behind. Set it above what your cancels and their retries may take.
    pub fn abandon_after(mut self, duration: Duration) -> Self {
        self.options.abandon_after = duration;
        self
    }

    /// Where to record what happens to tasks. Nothing is recorded unless told otherwise.
    pub fn ledger(mut self, ledger: impl Ledger) -> Self {
        self.options.ledger = Some(Arc::new(ledger));
        self
    }

    /// Puts a fault into the pipeline, to see that it takes back what it did. Any number of them.
    #[cfg(feature = "testing")]
    pub fn inject(mut self, fault: crate::testing::Fault) -> Self {
        self.options.injection.faults.push(fault);
        self
    }

    /// Does things twice, to see that the world is the same afterwards.
    #[cfg(feature = "testing")]
    pub fn repeat(mut self, repeat: crate::testing::Repeat) -> Self {
        self.options.injection.repeat = repeat;
        self
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.stages.is_empty() {
            return Err(BuildError::NoStage(self.name.clone()));
        }
        if self.stages.len() > MOST_STAGES {
            return Err(BuildError::TooManyStages(self.name.clone()));
        }
        for (n, stage) in self.stages.iter().enumerate() {
            stage.check()?;
            if self.stages[..n]
                .iter()
                .any(|other| other.name == stage.name)
            {
                return Err(BuildError::SameName(stage.name.clone()));
            }
        }
        if self.options.arbiters == Some(0) {
            return Err(BuildError::ZeroArbiters(self.name.clone()));
        }
        #[cfg(feature = "journal")]
        if self.options.journal.is_some() {
            if self.options.ledger.is_some() {
                return Err(BuildError::TwoLedgers(self.name.clone()));
            }
            if self.stages.iter().any(|stage| stage.codec.is_none()) {
                return Err(BuildError::JournalAfterStages(self.name.clone()));
            }
        }
        if self.options.max_in_flight == Some(0) {
            return Err(BuildError::ZeroInFlight(self.name.clone()));
        }
        #[cfg(feature = "testing")]
        self.options.injection.check(&self.stages)?;
        Ok(())
    }

    /// Starts the pipeline: inside the current actix `System` if there is one, which is left as it
    /// was when the pipeline ends, or else on a private one.
    ///
    /// # Errors
    /// [`Error::Build`] names the stage that is put together wrongly; [`Error::Spawn`] where the
    /// system gives no thread. Nothing was started then.
    pub async fn start(self) -> Result<PipelineHandle<I, C>, Error> {
        self.check()?;
        let this = self.recover().await?;
        if System::try_current().is_some() {
            return this.launch();
        }
        let (started, handle) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("batrun-system".to_owned())
            .spawn(move || {
                System::new().block_on(async move {
                    if started.send(this.launch()).is_ok() {
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
