//! Shared parts of the systems that are written by hand: measuring one task after the other, and
//! counting in an actor.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::work::{End, Envelope, Job, Measure, Params, Tally, Workload};

/// Runs one task after the other: `through` takes each to its end.
pub async fn alone(
    job: Arc<Job>,
    tasks: u64,
    mut through: impl AsyncFnMut(Envelope) -> anyhow::Result<(Envelope, End)>,
) -> anyhow::Result<Measure> {
    let began = Instant::now();
    let mut tally = Tally::new(job.clone());
    for id in 0..tasks {
        let submitted = Instant::now();
        let (task, end) = through(job.envelope(id)).await?;
        tally.latency(submitted.elapsed());
        tally.add(task, end);
        pause(id).await;
    }
    Ok(tally.finish(began))
}

/// Now and then the stages fall idle for longer.
async fn pause(id: u64) {
    if id.is_multiple_of(100) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Counts the outcomes in an actor, for a producer that waits elsewhere.
pub struct Counting {
    /// `None` once all outcomes have come.
    tally: Option<Tally>,
    tasks: u64,
    /// Told of each task that ends, if somebody waits for it alone.
    alone: Option<mpsc::UnboundedSender<()>>,
    counted: Option<oneshot::Sender<Measure>>,
    began: Instant,
}

/// The producer's end of it.
pub struct Counted {
    ended: mpsc::UnboundedReceiver<()>,
    all: oneshot::Receiver<Measure>,
    latencies_ns: Vec<u64>,
}

/// The run begins now.
pub fn counting(job: &Arc<Job>, params: &Params) -> (Counting, Counted) {
    let (alone, ended) = mpsc::unbounded_channel();
    let (counted, all) = oneshot::channel();
    let counting = Counting {
        tally: Some(Tally::new(Arc::clone(job))),
        tasks: params.tasks,
        alone: (params.workload == Workload::Alone).then_some(alone),
        counted: Some(counted),
        began: Instant::now(),
    };
    let counted = Counted {
        ended,
        all,
        latencies_ns: Vec::new(),
    };
    (counting, counted)
}

impl Counting {
    /// Takes a result. Returns the number of known outcomes.
    pub fn add(&mut self, task: Envelope, end: End) -> u64 {
        let Some(tally) = &mut self.tally else {
            return self.tasks;
        };
        tally.add(task, end);
        let seen = tally.seen();
        if let Some(alone) = &self.alone {
            let _ = alone.send(());
        }
        if seen == self.tasks
            && let (Some(tally), Some(counted)) = (self.tally.take(), self.counted.take())
        {
            let _ = counted.send(tally.finish(self.began));
        }
        seen
    }
}

impl Counted {
    /// Waits for the task that was just submitted, the only one.
    pub async fn one(&mut self, id: u64, submitted: Instant) {
        self.ended.recv().await;
        self.latencies_ns
            .push(submitted.elapsed().as_nanos() as u64);
        pause(id).await;
    }

    /// Waits for all of them.
    pub async fn all(self) -> anyhow::Result<Measure> {
        let measure = self.all.await?;
        Ok(match self.latencies_ns.is_empty() {
            true => measure,
            false => Measure {
                latencies_ns: self.latencies_ns,
                ..measure
            },
        })
    }
}
