//! kameo actors with bounded mailboxes: a hop is a `tell`, which waits for room.
//!
//! If no stage waits (hop, cpu, fail, alone), each worker is an actor and tells the next stage's
//! workers in turn. If stages wait (io, late), a stage is one actor that runs each task with
//! `Context::spawn`, at most as many at once as it has workers: workers that are told in turn are
//! blocked by one that hangs (late lost most tasks that way). `kameo_actors::pool::ActorPool` was
//! tried for both: it took three times as long for a hop and a third longer for io, and under late a
//! third of the tasks ran out of time in its queues.

use std::{sync::Arc, time::Instant};

use kameo::{mailbox, prelude::*};
use tokio::{runtime::Builder, sync::Semaphore};

use crate::{
    collect::{Counting, counting},
    work::{End, Envelope, Job, Measure, Params, Workload},
};

/// Tasks in a mailbox; 64 to 1,024 were alike.
const MAILBOX: usize = 256;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    // If the work is next to nothing, a second thread costs more than it gives.
    let mut builder = match params.workload {
        Workload::Hop | Workload::Fail => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let measure = measure(Params { ..*params });
    Some(super::spawned(&mut builder, measure))
}

async fn measure(params: Params) -> anyhow::Result<Measure> {
    let job = Job::new(&params);
    let (counting, mut counted) = counting(&job, &params);
    let collector = Collector::spawn_with_mailbox(Collector(counting), mailbox::bounded(MAILBOX));
    let mut next = Next::Collector(collector.clone());
    for stage in (0..params.stages).rev() {
        let here = Here {
            job: Arc::clone(&job),
            stage,
            next: next.clone(),
            collector: collector.clone(),
        };
        next = match params.workload {
            Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed => {
                let workers = Arc::new(Semaphore::new(params.workers));
                let pool = Pool { here, workers };
                Next::Pool(Pool::spawn_with_mailbox(pool, mailbox::bounded(MAILBOX)))
            }
            _ => {
                let workers = (0..params.workers).map(|_| {
                    let worker = Worker(here.clone());
                    Worker::spawn_with_mailbox(worker, mailbox::bounded(MAILBOX))
                });
                Next::Workers(workers.collect(), 0)
            }
        };
    }

    for id in 0..params.tasks {
        let submitted = Instant::now();
        next.send(job.envelope(id)).await?;
        if params.workload == Workload::Alone {
            counted.one(id, submitted).await;
        }
    }
    counted.all().await
}

/// The way of a task out of a stage.
#[derive(Clone)]
enum Next {
    /// All workers of a stage, and the one that had the last task.
    Workers(Vec<ActorRef<Worker>>, usize),
    Pool(ActorRef<Pool>),
    Collector(ActorRef<Collector>),
}

impl Next {
    async fn send(&mut self, task: Envelope) -> anyhow::Result<()> {
        let sent = match self {
            Next::Workers(workers, turn) => {
                *turn = (*turn + 1) % workers.len();
                workers[*turn].tell(Step(task)).await.is_ok()
            }
            Next::Pool(pool) => pool.tell(Step(task)).await.is_ok(),
            Next::Collector(collector) => collector.tell(Ended(task, End::Done)).await.is_ok(),
        };
        anyhow::ensure!(sent, "an actor is gone");
        Ok(())
    }
}

/// The arguments of a worker.
#[derive(Clone)]
struct Here {
    job: Arc<Job>,
    stage: usize,
    next: Next,
    collector: ActorRef<Collector>,
}

impl Here {
    async fn work(&mut self, mut task: Envelope) {
        // An actor is gone only when the run is over.
        let _ = match self.job.stage(self.stage, &mut task).await {
            Ok(()) => self.next.send(task).await.is_ok(),
            Err(end) => self.collector.tell(Ended(task, end)).await.is_ok(),
        };
    }
}

struct Step(Envelope);

struct Ended(Envelope, End);

#[derive(Actor)]
struct Worker(Here);

impl Message<Step> for Worker {
    type Reply = ();

    async fn handle(&mut self, Step(task): Step, _: &mut Context<Self, Self::Reply>) {
        self.0.work(task).await;
    }
}

#[derive(Actor)]
struct Pool {
    here: Here,
    workers: Arc<Semaphore>,
}

impl Message<Step> for Pool {
    type Reply = DelegatedReply<()>;

    async fn handle(
        &mut self,
        Step(task): Step,
        context: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        // The mailbox fills behind it, and the stage before waits in turn.
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let mut here = self.here.clone();
        context.spawn(async move {
            here.work(task).await;
            drop(worker);
        })
    }
}

#[derive(Actor)]
struct Collector(Counting);

impl Message<Ended> for Collector {
    type Reply = ();

    async fn handle(&mut self, Ended(task, end): Ended, _: &mut Context<Self, Self::Reply>) {
        self.0.add(task, end);
    }
}
