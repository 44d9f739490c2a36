//! Starts a pipeline: reads the journal, then makes the shared state, the reporter, the pools from the
//! last to the first, and the producers.

use std::{
    io, mem,
    sync::{Arc, Mutex, OnceLock, Weak, atomic::AtomicBool},
};

use actix::{Actor, Addr, Arbiter, Recipient};
use tokio::sync::Semaphore;
#[cfg(feature = "journal")]
use tokio::sync::oneshot;

use super::{handle::PipelineHandle, options::Options};
#[cfg(feature = "testing")]
use crate::faults::Faults;
use crate::{
    clock::Clock,
    engine::{
        producer::ProducerActor,
        reporter::{Reporter, StagePolicy, shutdown::ShutdownState},
        threads::Threads,
    },
    error::Error,
    failure, panic_guard,
    report::{Board, OutcomeFeed, StageStats},
    shared::{
        ActorAddrs, Shared,
        hop::Hop,
        keyed::KeyedTasks,
        messages::{ToPool, ToProducer},
    },
    stage::StageConfig,
    submit::{Intake, OpenGuard, Outbox},
    task::{StageName, Table},
};
#[cfg(feature = "journal")]
use crate::{
    engine::restore::{Adopter, RestoreFeed, restore},
    journal::{JournalLedger, JournalStats, PipelineSpec, Recovered, Takeover},
    ledger::Ledger,
    report::times,
};

/// Everything that a pipeline is made of.
pub(super) struct Parts<I: Send + 'static, C: Send + 'static> {
    pub(super) name: String,
    pub(super) producers: Vec<StartProducer<I>>,
    pub(super) stages: Vec<StageConfig>,
    pub(super) chain: Chain<I, C>,
    pub(super) options: Options,
}

pub(super) type StartProducer<I> =
    Box<dyn FnOnce(&Launch, usize, Intake<I>) -> Recipient<ToProducer> + Send>;
/// Starts the pools from the last to the first; each needs to know the next one.
pub(super) type Chain<I, C> = Box<dyn FnOnce(&mut Launch, Hop<C>) -> Hop<I> + Send>;

/// A launch under way: what the parts are started with.
pub(super) struct Launch {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Arc<Threads>,
    /// Taken from the last stage to the first, as the pools are.
    pub(super) configs: Vec<StageConfig>,
    pub(super) stats: Vec<Arc<StageStats>>,
    pub(super) pools: Vec<Recipient<ToPool>>,
    /// The way of restored tasks to the pools, from the last one to the first.
    #[cfg(feature = "journal")]
    pub(super) feeds: Option<Vec<Box<dyn RestoreFeed + Send>>>,
    #[cfg(feature = "testing")]
    pub(super) faults: Arc<Faults>,
}

impl Launch {
    /// Starts an actor where producers, pools and the reporter live.
    pub(super) fn start<A: Actor<Context = actix::Context<A>>>(
        &self,
        make: impl FnOnce() -> A + Send + 'static,
    ) -> Addr<A> {
        match self.threads.first() {
            Some(arbiter) => A::start_in_arbiter(arbiter, move |_| make()),
            None => make().start(),
        }
    }
}

/// A pipeline that has read its journal, if it has one.
pub(super) struct Launchable<I: Send + 'static, C: Send + 'static> {
    parts: Parts<I, C>,
    #[cfg(feature = "journal")]
    journal: Option<(JournalLedger, Recovered, Option<Takeover>)>,
}

impl<I: Send + 'static> Parts<I, I> {
    pub(super) fn new(name: String) -> Self {
        Parts {
            name,
            producers: Vec::new(),
            stages: Vec::new(),
            chain: Box::new(|_, hop| hop),
            options: Options::default(),
        }
    }
}

impl<I: Send + 'static, C: Send + 'static> Parts<I, C> {
    #[cfg(not(feature = "journal"))]
    pub(super) async fn recover(self) -> Result<Launchable<I, C>, Error> {
        Ok(Launchable { parts: self })
    }

    /// Reads the journal, on a thread of its own: that may take a while.
    #[cfg(feature = "journal")]
    pub(super) async fn recover(mut self) -> Result<Launchable<I, C>, Error> {
        let Some(journal) = self.options.journal.take() else {
            return Ok(Launchable {
                parts: self,
                journal: None,
            });
        };
        let spec = PipelineSpec {
            pipeline: self.name.clone(),
            stages: self
                .stages
                .iter()
                .map(|stage| (stage.name.as_str().into(), stage.version))
                .collect(),
            codecs: Arc::new(self.stages.iter().filter_map(|stage| stage.codec).collect()),
            recovery: self.options.recovery,
            keep_undos: self.options.keep_undos,
            crash_limit: self.options.crash_limit,
            stats: Arc::new(JournalStats::timed(times::histogram())),
        };
        let (read, reading) = oneshot::channel();
        std::thread::Builder::new()
            .name("batrun-recovery".to_owned())
            .spawn(move || read.send(journal.start(spec)).ok())
            .map_err(Error::Spawn)?;
        let recovered = reading.await.map_err(|_| Error::Gone)??;
        Ok(Launchable {
            parts: self,
            journal: Some(recovered),
        })
    }
}

impl<I: Send + 'static, C: Send + 'static> Launchable<I, C> {
    pub(super) fn launch(self) -> Result<PipelineHandle<I, C>, Error> {
        let Parts {
            name,
            producers,
            stages,
            chain,
            options,
        } = self.parts;
        #[cfg(feature = "journal")]
        let (journal, recovered, takeover) = match self.journal {
            Some((journal, recovered, takeover)) => (Some(journal), Some(recovered), takeover),
            None => (None, None, None),
        };
        let name: Arc<str> = name.into();
        #[cfg(feature = "journal")]
        let key_prefix = match recovered.as_ref().and_then(|all| all.journal_id.as_ref()) {
            Some(id) => format!("{name}-{id}").into(),
            None => name.clone(),
        };
        #[cfg(not(feature = "journal"))]
        let key_prefix = name.clone();
        #[cfg(feature = "journal")]
        let journal = journal.map(Arc::new);
        #[cfg(feature = "journal")]
        let ledger = journal
            .clone()
            .map(|journal| journal as Arc<dyn Ledger>)
            .or(options.ledger);
        #[cfg(not(feature = "journal"))]
        let ledger = options.ledger;
        #[cfg(feature = "testing")]
        let stages = options.faults.prepared(stages);
        let threads = Arc::new(threads(options.arbiters)?);
        let places = options.max_in_flight.unwrap_or_else(|| all_room(&stages));
        let places = places.min(Semaphore::MAX_PERMITS);
        let front = stages.first().map_or(1, |stage| stage.capacity);
        let clock = Clock::start();
        let names: Vec<StageName> = stages
            .iter()
            .map(|stage| stage.name.as_str().into())
            .collect();
        let stats: Vec<Arc<StageStats>> = stages
            .iter()
            .map(|stage| Arc::new(StageStats::new(stage.shown())))
            .collect();
        let board = Arc::new(Board::new(
            name.clone(),
            names.clone(),
            stats.clone(),
            places,
            options.max_stuck,
            options.recorder,
            &clock,
        ));
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| Shared {
            name,
            board,
            key_prefix,
            clock,
            is_plain: ledger.is_none() && options.recorder.is_none(),
            ledger: ledger.clone(),
            #[cfg(feature = "journal")]
            journal: journal.clone(),
            keyed: KeyedTasks::default(),
            table: Table::new(shared.clone(), places, front, options.max_stuck),
            stages: names,
            fixed_size: stages.iter().map(|stage| stage.actor).collect(),
            max_undos: options.max_undos,
            producers: Mutex::default(),
            paused: AtomicBool::new(false),
            switching: Mutex::default(),
            #[cfg(feature = "journal")]
            leaves: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            suspended_why: OnceLock::new(),
            actors: OnceLock::new(),
        });
        let outcomes = Arc::new(OutcomeFeed::new());
        let (shutdown, final_report) = ShutdownState::new(
            stages.len(),
            options.abandon_after,
            threads.clone(),
            outcomes.clone(),
            ledger,
        );
        let mut launch = Launch {
            shared: shared.clone(),
            threads: threads.clone(),
            configs: stages.clone(),
            stats: stats.clone(),
            pools: Vec::new(),
            #[cfg(feature = "journal")]
            feeds: recovered.is_some().then(Vec::new),
            #[cfg(feature = "testing")]
            faults: Arc::new(options.faults),
        };
        let policies = stages.iter().zip(&stats).map(|(stage, stats)| StagePolicy {
            cancel_retry: stage.cancel_retry,
            on_stuck: stage.on_stuck,
            stats: stats.clone(),
        });
        let reporter = Reporter::new(
            shared.clone(),
            options.order,
            options.retry_stuck,
            policies.collect(),
            outcomes.clone(),
            shutdown,
            producers.len(),
        );
        let reporter = launch.start(move || reporter);
        let hop = chain(&mut launch, Hop::new(reporter.clone().recipient(), None));
        launch.pools.reverse();
        let actors = ActorAddrs {
            reporter: reporter.recipient(),
            pools: mem::take(&mut launch.pools),
        };
        // Before any task can come in.
        shared.actors.set(actors).ok();
        #[cfg(feature = "journal")]
        if let (Some(mut feeds), Some(recovered)) = (launch.feeds.take(), recovered) {
            feeds.reverse();
            restore(&shared, &mut feeds, recovered);
            if let (Some(takeover), Some(journal)) = (takeover, &shared.journal) {
                let first = stats[0].clone();
                let adopter = Adopter::new(shared.clone(), first, feeds);
                takeover.start(journal, adopter).map_err(Error::Spawn)?;
            }
        }
        let open_guard = Arc::new(OpenGuard(shared.clone()));
        for (n, start) in producers.into_iter().enumerate() {
            let outbox = Arc::new(Outbox::new(shared.clone(), hop.clone()));
            let intake = Intake::new(outbox, open_guard.clone());
            shared.add_producer(start(&launch, n + 1, intake));
        }
        // The handle's own, which produces nothing.
        let outbox = Arc::new(Outbox::new(shared.clone(), hop));
        let idle = launch.start({
            let outbox = outbox.clone();
            move || ProducerActor::idle(outbox)
        });
        shared.add_producer(idle.recipient());
        Ok(PipelineHandle::new(
            shared,
            outbox,
            open_guard,
            outcomes,
            final_report,
            threads,
        ))
    }
}

/// Arbiters of its own, so many of them, or the current one.
fn threads(arbiters: Option<usize>) -> Result<Threads, Error> {
    let Some(count) = arbiters else {
        return Ok(Threads::current());
    };
    let mut arbiters = Vec::new();
    for _ in 0..count {
        match failure::catch(Arbiter::new) {
            Ok(arbiter) => arbiters.push(arbiter),
            Err(failure) => {
                Threads::own(arbiters).leave(|| {});
                return Err(Error::Spawn(io::Error::other(panic_guard::shown(&failure))));
            }
        }
    }
    Ok(Threads::own(arbiters))
}

/// The number of tasks that fit into all queues and workers.
fn all_room(stages: &[StageConfig]) -> usize {
    stages.iter().fold(0, |sum: usize, stage| {
        sum.saturating_add(stage.capacity)
            .saturating_add(stage.most_at_once())
    })
}
