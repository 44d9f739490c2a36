//! ractor: a Factory for each stage, whose workers dispatch to the next stage's.
//!
//! Its guide advises `QueuerRouting` where tasks need no order: the factory keeps the queue and a
//! worker that is free gets the next one. (`RoundRobinRouting` was no faster for hop, and under late
//! tasks ran out of time behind workers that hang.) Its mailboxes and queues have no bound, so the
//! producer waits for credits that the collector gives back.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ractor::{
    Actor, ActorProcessingErr, ActorRef,
    factory::{
        Factory, FactoryArguments, FactoryRef, Job as FactoryJob, Worker, WorkerId, queues,
        routing, worker_builder,
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::work::{End, Envelope, Job, Measure, Params, Tally, Workload};

/// Credits, and how many of them are taken or given back at once.
const IN_FLIGHT: usize = 1_000;
const CREDITS: u64 = 50;

type StageFactory = Factory<
    (),
    Envelope,
    (),
    Stage,
    routing::QueuerRouting<(), Envelope>,
    queues::DefaultQueue<(), Envelope>,
>;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(on_tokio(Params { ..*params }))
}

fn on_tokio(params: Params) -> anyhow::Result<Measure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    // Spawned, so that the producer is on a worker thread like the actors.
    runtime.block_on(async { tokio::spawn(measure(params)).await? })
}

async fn measure(params: Params) -> anyhow::Result<Measure> {
    let job = Job::new(&params);
    let credits = Arc::new(Semaphore::new(IN_FLIGHT));
    let (ended, mut alone) = mpsc::unbounded_channel();
    let (counted, all) = oneshot::channel();
    let began = Instant::now();
    let counting = Counting {
        tally: Some(Tally::new(Arc::clone(&job))),
        tasks: params.tasks,
        credits: Arc::clone(&credits),
        alone: (params.workload == Workload::Alone).then_some(ended),
        counted: Some(counted),
        began,
    };
    let (collector, _) = Actor::spawn(None, Collector, counting).await?;
    let mut next = None;
    for stage in (0..params.stages).rev() {
        let here = Stage {
            job: Arc::clone(&job),
            stage,
            next: next.take(),
            collector: collector.clone(),
        };
        let arguments = FactoryArguments::builder()
            .worker_builder(Box::new(worker_builder(move |_| (here.clone(), ()))))
            .queue(Default::default())
            .router(Default::default())
            .num_initial_workers(params.workers)
            .build();
        let (factory, _) = Actor::spawn(None, StageFactory::default(), arguments).await?;
        next = Some(factory);
    }
    let first = next.ok_or_else(|| anyhow::anyhow!("no stages"))?;

    let mut latencies_ns = Vec::new();
    for id in 0..params.tasks {
        let submitted = Instant::now();
        if params.workload != Workload::Alone && id % CREDITS == 0 {
            credits.acquire_many(CREDITS as u32).await?.forget();
        }
        first
            .dispatch((), job.envelope(id))
            .map_err(|_| anyhow::anyhow!("the factory is gone"))?;
        if params.workload == Workload::Alone {
            alone.recv().await;
            latencies_ns.push(submitted.elapsed().as_nanos() as u64);
            if id % 100 == 99 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let mut measure = all.await?;
    if params.workload == Workload::Alone {
        measure.latencies_ns = latencies_ns;
    }
    Ok(measure)
}

#[derive(Clone)]
struct Stage {
    job: Arc<Job>,
    stage: usize,
    next: Option<FactoryRef<(), Envelope>>,
    collector: ActorRef<Ended>,
}

impl Worker for Stage {
    type Key = ();
    type Message = Envelope;
    type Arguments = ();
    type State = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &FactoryRef<(), Envelope>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &FactoryRef<(), Envelope>,
        FactoryJob { msg: mut task, .. }: FactoryJob<(), Envelope>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match (self.job.stage(self.stage, &mut task).await, &self.next) {
            (Ok(()), Some(next)) => next.dispatch((), task)?,
            (result, _) => self
                .collector
                .cast(Ended(task, result.err().unwrap_or(End::Done)))?,
        }
        Ok(())
    }
}

struct Ended(Envelope, End);

struct Collector;

struct Counting {
    tally: Option<Tally>,
    tasks: u64,
    credits: Arc<Semaphore>,
    /// Told of each task that ends, if somebody waits for it alone.
    alone: Option<mpsc::UnboundedSender<()>>,
    counted: Option<oneshot::Sender<Measure>>,
    began: Instant,
}

impl Actor for Collector {
    type Msg = Ended;
    type State = Counting;
    type Arguments = Counting;

    async fn pre_start(
        &self,
        _: ActorRef<Ended>,
        counting: Counting,
    ) -> Result<Counting, ActorProcessingErr> {
        Ok(counting)
    }

    async fn handle(
        &self,
        _: ActorRef<Ended>,
        Ended(task, end): Ended,
        state: &mut Counting,
    ) -> Result<(), ActorProcessingErr> {
        let Some(tally) = &mut state.tally else {
            return Ok(());
        };
        tally.add(task, end);
        let seen = tally.seen();
        if seen.is_multiple_of(CREDITS) {
            state.credits.add_permits(CREDITS as usize);
        }
        if let Some(alone) = &state.alone {
            let _ = alone.send(());
        }
        if seen == state.tasks
            && let (Some(tally), Some(counted)) = (state.tally.take(), state.counted.take())
        {
            let _ = counted.send(tally.finish(state.began));
        }
        Ok(())
    }
}
