//! Plain actix actors: a task is a message, and a hop is a `do_send`.
//!
//! If no stage waits (hop, cpu, fail, alone), a worker is an actor that does the work in its
//! handler and sends the task to the next stage's workers in turn; that took half the time of a
//! dispatcher actor before each stage. If stages wait (io, late), a stage is one actor that gives
//! each task a future of its own with `actix_rt::spawn`, at most as many at once as it has workers:
//! futures in an actor's own context are all polled at each wake, and a worker that waits in its
//! handler would hold up those tasks that were sent to it in turn.
//!
//! actix's mailboxes have no bound that `do_send` heeds, so the producer waits for credits that the
//! collector gives back.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use actix::prelude::*;
use tokio::sync::Semaphore;

use crate::{
    collect::{Counting, counting},
    work::{End, Envelope, Job, Measure, Params, Workload},
};

/// Number of credits, and of those that are taken or given back at once.
const IN_FLIGHT: usize = 1_000;
const CREDITS: u64 = 50;

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(System::new().block_on(measure(params)))
}

async fn measure(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let credits = Arc::new(Semaphore::new(IN_FLIGHT));
    let (counting, mut counted) = counting(&job, params);
    let collector = Collector {
        counting,
        credits: Arc::clone(&credits),
    }
    .start();
    // The first stage; with several arbiters, as each of them has it.
    let mut arbiters = vec![Arbiter::current()];
    if arbiters_for(params.workload) == 2 {
        arbiters.push(Arbiter::new().handle());
    }
    let first: Vec<Vec<Recipient<Step>>> = arbiters
        .iter()
        .map(|arbiter| stages(params, &job, &collector, arbiter, arbiters.len()))
        .collect();
    // In turn over the arbiters, then over the workers in them.
    let first: Vec<Recipient<Step>> = (0..first[0].len())
        .flat_map(|worker| first.iter().map(move |workers| workers[worker].clone()))
        .collect();

    for id in 0..params.tasks {
        let submitted = Instant::now();
        if params.workload != Workload::Alone && id % CREDITS == 0 {
            credits.acquire_many(CREDITS as u32).await?.forget();
        }
        first[id as usize % first.len()].do_send(Step(job.envelope(id)));
        if params.workload == Workload::Alone {
            counted.one(id, submitted).await;
        }
    }
    counted.all().await
}

/// A second arbiter pays where the stages have something to compute.
fn arbiters_for(workload: Workload) -> usize {
    match workload {
        Workload::Cpu => 2,
        _ => 1,
    }
}

/// Starts one arbiter's part of all stages, from the last to the first, and gives the first: a task
/// stays on its arbiter until it is done.
fn stages(
    params: &Params,
    job: &Arc<Job>,
    collector: &Addr<Collector>,
    arbiter: &ArbiterHandle,
    arbiters: usize,
) -> Vec<Recipient<Step>> {
    let workers = params.workers / arbiters;
    let waits = matches!(
        params.workload,
        Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed
    );
    let mut next = Vec::new();
    for stage in (0..params.stages).rev() {
        let next_hop = || Next {
            workers: next.clone(),
            turn: 0,
            collector: collector.clone(),
        };
        next = if waits {
            let pool = Pool {
                job: Arc::clone(job),
                stage,
                free: workers,
                waiting: VecDeque::new(),
                next: next_hop(),
            };
            vec![Pool::start_in_arbiter(arbiter, |_| pool).recipient()]
        } else {
            (0..workers)
                .map(|_| {
                    let worker = Worker {
                        job: Arc::clone(job),
                        stage,
                        next: next_hop(),
                    };
                    Worker::start_in_arbiter(arbiter, |_| worker).recipient()
                })
                .collect()
        };
    }
    next
}

#[derive(Message)]
#[rtype(result = "()")]
struct Step(Envelope);

#[derive(Message)]
#[rtype(result = "()")]
struct Ended(Envelope, End);

/// The way of a task out of a stage.
#[derive(Clone)]
struct Next {
    /// `None` behind the last stage.
    workers: Vec<Recipient<Step>>,
    turn: usize,
    collector: Addr<Collector>,
}

impl Next {
    fn send(&mut self, task: Envelope, result: Result<(), End>) {
        match result {
            Ok(()) if !self.workers.is_empty() => {
                self.turn = (self.turn + 1) % self.workers.len();
                self.workers[self.turn].do_send(Step(task));
            }
            result => self
                .collector
                .do_send(Ended(task, result.err().unwrap_or(End::Done))),
        }
    }
}

struct Worker {
    job: Arc<Job>,
    stage: usize,
    next: Next,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Step> for Worker {
    type Result = ();

    fn handle(&mut self, Step(mut task): Step, _: &mut Self::Context) {
        let result = self.job.stage_blocking(self.stage, &mut task);
        self.next.send(task, result);
    }
}

/// A stage whose work waits.
struct Pool {
    job: Arc<Job>,
    stage: usize,
    free: usize,
    waiting: VecDeque<Envelope>,
    next: Next,
}

impl Actor for Pool {
    type Context = Context<Self>;
}

impl Pool {
    fn start(&mut self, mut task: Envelope, pool: Addr<Self>) {
        self.free -= 1;
        let (job, stage) = (Arc::clone(&self.job), self.stage);
        actix_rt::spawn(async move {
            let result = job.stage(stage, &mut task).await;
            pool.do_send(Finished(task, result));
        });
    }
}

impl Handler<Step> for Pool {
    type Result = ();

    fn handle(&mut self, Step(task): Step, context: &mut Self::Context) {
        if self.free > 0 {
            self.start(task, context.address());
        } else {
            self.waiting.push_back(task);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Finished(Envelope, Result<(), End>);

impl Handler<Finished> for Pool {
    type Result = ();

    fn handle(&mut self, Finished(task, result): Finished, context: &mut Self::Context) {
        self.next.send(task, result);
        self.free += 1;
        if let Some(task) = self.waiting.pop_front() {
            self.start(task, context.address());
        }
    }
}

struct Collector {
    counting: Counting,
    credits: Arc<Semaphore>,
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Ended> for Collector {
    type Result = ();

    fn handle(&mut self, Ended(task, end): Ended, _: &mut Self::Context) {
        if self.counting.add(task, end).is_multiple_of(CREDITS) {
            self.credits.add_permits(CREDITS as usize);
        }
    }
}
