//! ractor: a Factory for each stage, whose workers dispatch to the next stage's.
//!
//! Its guide advises `QueuerRouting` where tasks need no order: the factory keeps the queue and a
//! worker that is free gets the next one. (`RoundRobinRouting` was no faster for hop, and under late
//! tasks ran out of time behind workers that hang.) Its mailboxes and queues have no bound, so the
//! producer waits for credits that the collector gives back.
use std::{sync::Arc, time::Instant};

use ractor::{
    Actor, ActorProcessingErr, ActorRef,
    factory::{
        Factory, FactoryArguments, FactoryRef, Job as FactoryJob, Worker, WorkerId, queues,
        routing, worker_builder,
    },
};
use tokio::{runtime::Builder, sync::Semaphore};

use crate::{
    collect::{Counting, counting},
    work::{End, Envelope, Job, Measure, Params, Workload},
};

/// Number of credits, and of those that are taken or given back at once.
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
    let measure = measure(Params { ..*params });
    Some(super::spawned(&mut Builder::new_multi_thread(), measure))
}

async fn measure(params: Params) -> anyhow::Result<Measure> {
    let job = Job::new(&params);
    let credits = Arc::new(Semaphore::new(IN_FLIGHT));
    let (counting, mut counted) = counting(&job, &params);
    let collector = Collector(Arc::clone(&credits));
    let (collector, _) = Actor::spawn(None, collector, counting).await?;
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

    for id in 0..params.tasks {
        let submitted = Instant::now();
        if params.workload != Workload::Alone && id % CREDITS == 0 {
            credits.acquire_many(CREDITS as u32).await?.forget();
        }
        first
            .dispatch((), job.envelope(id))
            .map_err(|_| anyhow::anyhow!("the factory is gone"))?;
        if params.workload == Workload::Alone {
            counted.one(id, submitted).await;
        }
    }
    counted.all().await
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

/// Gives back credits.
struct Collector(Arc<Semaphore>);

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
        counting: &mut Counting,
    ) -> Result<(), ActorProcessingErr> {
        if counting.add(task, end).is_multiple_of(CREDITS) {
            self.0.add_permits(CREDITS as usize);
        }
        Ok(())
    }
}
