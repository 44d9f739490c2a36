//! Starts what was built: reads the journal, then makes what all share, the reporter, the pools from
//! the last to the first, and the producers.

use std::{
    io, mem,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};

use actix::{Actor, Addr, Arbiter, Recipient};
use tokio::sync::Semaphore;
#[cfg(feature = "journal")]
use tokio::sync::oneshot;

use super::Pipeline;
use crate::{
    Error,
    clock::Clock,
    core::{Core, Lines},
    guard,
    handle::PipelineHandle,
    intake::{Door, Intake, Slip},
    message::{Hop, ToPool},
    outcomes::Outcomes,
    producer::ProducerActor,
    report::Board,
    run::{Ending, Grounds, Reporter, StagePolicy},
    task::Table,
    work::Settings,
};
#[cfg(feature = "journal")]
use crate::{
    journal::{JournalLedger as Keeper, PipelineSpec as Start, Recovered},
    ledger::Ledger,
    run::{Feed, restore},
};

/// What the parts are started with.
pub(super) struct Launch {
    pub(super) core: Arc<Core>,
    pub(super) grounds: Arc<Grounds>,
    /// Taken from the last stage to the first, as the pools are.
    pub(super) settings: Vec<Settings>,
    pub(super) boards: Vec<Arc<Board>>,
    pub(super) pools: Vec<Recipient<ToPool>>,
    /// How restored tasks get to the pools, from the last one to the first.
    #[cfg(feature = "journal")]
    pub(super) feeds: Option<Vec<Box<dyn Feed + Send>>>,
}

impl Launch {
    /// Starts an actor where producers, pools and the reporter live.
    pub(super) fn start<A: Actor<Context = actix::Context<A>>>(
        &self,
        make: impl FnOnce() -> A + Send + 'static,
    ) -> Addr<A> {
        match self.grounds.first() {
            Some(arbiter) => A::start_in_arbiter(arbiter, move |_| make()),
            None => make().start(),
        }
    }
}

impl<I: Send + 'static, C: Send + 'static, D: 'static> Pipeline<I, C, D> {
    #[cfg(not(feature = "journal"))]
    pub(super) async fn recover(self) -> Result<Launchable<I, C, D>, Error> {
        Ok(Launchable(self))
    }

    /// Reads the journal, on a thread of its own: that may take a while.
    #[cfg(feature = "journal")]
    pub(super) async fn recover(mut self) -> Result<Launchable<I, C, D>, Error> {
        let Some(journal) = self.options.journal.take() else {
            return Ok(Launchable(self, None));
        };
        let start = Start {
            pipeline: self.name.clone(),
            stages: self
                .stages
                .iter()
                .map(|stage| (stage.name.as_str().into(), stage.version))
                .collect(),
            codecs: self.stages.iter().filter_map(|stage| stage.codec).collect(),
            recovery: self.options.recovery,
        };
        let (read, reading) = oneshot::channel();
        std::thread::Builder::new()
            .name("batrun-recovery".to_owned())
            .spawn(move || read.send(journal.start(start)).ok())
            .map_err(Error::Spawn)?;
        let (keeper, recovered) = reading.await.map_err(|_| Error::Gone)??;
        Ok(Launchable(self, Some((keeper, recovered))))
    }
}

/// A pipeline that has read its journal.
#[cfg(feature = "journal")]
pub(super) struct Launchable<I: Send + 'static, C: Send + 'static, D>(
    Pipeline<I, C, D>,
    Option<(Keeper, Recovered)>,
);

#[cfg(not(feature = "journal"))]
pub(super) struct Launchable<I: Send + 'static, C: Send + 'static, D>(Pipeline<I, C, D>);

impl<I: Send + 'static, C: Send + 'static, D: 'static> Launchable<I, C, D> {
    pub(super) fn launch(self) -> Result<PipelineHandle<I, C>, Error> {
        let Pipeline {
            name,
            producers,
            stages,
            chain,
            options,
            ..
        } = self.0;
        #[cfg(feature = "journal")]
        let (keeper, recovered) = self.1.unzip();
        #[cfg(feature = "journal")]
        let ledger = keeper
            .map(|keeper| Arc::new(keeper) as Arc<dyn Ledger>)
            .or(options.ledger);
        #[cfg(not(feature = "journal"))]
        let ledger = options.ledger;
        #[cfg(feature = "testing")]
        let stages = options.injection.prepared(stages);
        let grounds = Arc::new(grounds(options.arbiters)?);
        let places = options.max_in_flight.unwrap_or_else(|| fitting(&stages));
        let places = places.min(Semaphore::MAX_PERMITS);
        let front = stages.first().map_or(1, |stage| stage.capacity);
        let core = Arc::new_cyclic(|core| Core {
            name: name.into(),
            clock: Clock::start(),
            ledger: ledger.clone(),
            table: Table::new(core.clone(), places, front, options.max_stuck),
            stages: stages
                .iter()
                .map(|stage| stage.name.as_str().into())
                .collect(),
            fixed: stages.iter().map(|stage| stage.actor).collect(),
            max_undos: options.max_undos,
            #[cfg(feature = "testing")]
            injection: options.injection,
            producers: Mutex::default(),
            paused: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            lines: OnceLock::new(),
        });
        let boards: Vec<Arc<Board>> = stages.iter().map(|_| Arc::new(Board::new())).collect();
        let outcomes = Arc::new(Outcomes::new());
        let (ending, finish) = Ending::new(
            stages.len(),
            options.abandon_after,
            grounds.clone(),
            outcomes.clone(),
            ledger,
        );
        let mut launch = Launch {
            core: core.clone(),
            grounds: grounds.clone(),
            settings: stages.clone(),
            boards: boards.clone(),
            pools: Vec::new(),
            #[cfg(feature = "journal")]
            feeds: recovered.is_some().then(Vec::new),
        };
        let policies = stages
            .iter()
            .zip(&boards)
            .map(|(stage, board)| StagePolicy {
                cancel_retry: stage.cancel_retry,
                on_stuck: stage.on_stuck,
                board: board.clone(),
            });
        let reporter = Reporter::new(
            core.clone(),
            options.order,
            policies.collect(),
            outcomes.clone(),
            ending,
            producers.len(),
        );
        let reporter = launch.start(move || reporter);
        let hop = chain(&mut launch, Hop::new(reporter.clone().recipient(), None));
        launch.pools.reverse();
        let lines = Lines {
            reporter: reporter.recipient(),
            pools: mem::take(&mut launch.pools),
        };
        // Before any task can come in.
        core.lines.set(lines).ok();
        #[cfg(feature = "journal")]
        if let (Some(mut feeds), Some(recovered)) = (launch.feeds.take(), recovered) {
            feeds.reverse();
            restore(&core, &mut feeds, recovered);
        }
        let door = Arc::new(Door(core.clone()));
        for (n, start) in producers.into_iter().enumerate() {
            let slip = Arc::new(Slip::new(core.clone(), hop.clone()));
            core.add_producer(start(&launch, n + 1, Intake::new(slip, door.clone())));
        }
        let slip = Arc::new(Slip::new(core.clone(), hop));
        let gate = launch.start({
            let slip = slip.clone();
            move || ProducerActor::idle(slip)
        });
        core.add_producer(gate.recipient());
        Ok(PipelineHandle::new(
            core,
            slip,
            door,
            launch.boards,
            outcomes,
            finish,
            grounds,
        ))
    }
}

/// Threads of its own, so many of them, or the current one.
fn grounds(arbiters: Option<usize>) -> Result<Grounds, Error> {
    let Some(count) = arbiters else {
        return Ok(Grounds::current());
    };
    let mut arbiters = Vec::new();
    for _ in 0..count {
        match guard::run(Arbiter::new) {
            Ok(arbiter) => arbiters.push(arbiter),
            Err(failure) => {
                Grounds::own(arbiters).leave(|| {});
                return Err(Error::Spawn(io::Error::other(guard::shown(&failure))));
            }
        }
    }
    Ok(Grounds::own(arbiters))
}

/// How many tasks fit into all queues and workers.
fn fitting(stages: &[Settings]) -> usize {
    stages.iter().fold(0, |sum: usize, stage| {
        let workers = if stage.actor {
            stage.capacity
        } else {
            stage.workers
        };
        sum.saturating_add(stage.capacity).saturating_add(workers)
    })
}
