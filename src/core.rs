//! What everyone in a pipeline shares: its clock, its ledger, its tasks and whom to tell.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::Recipient;

use crate::{
    Error,
    clock::{Clock, NEVER},
    guard,
    ledger::{Change, Ledger, LedgerError, Recorded, Transition},
    message::{ToPool, ToProducer, ToReporter},
    task::{Halted, Outcome, StageName, Stop, StopCause, Table, TaskId, TaskRef},
};

pub(crate) struct Core {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
    pub(crate) table: Table,
    pub(crate) stages: Vec<StageName>,
    /// Which stages are actors of the user's, whose size is fixed.
    pub(crate) fixed: Vec<bool>,
    pub(crate) max_undos: usize,
    /// What a test has put in.
    #[cfg(feature = "testing")]
    pub(crate) injection: crate::inject::Injection,
    /// No stage work starts. Read by workers between two tasks.
    pub(crate) paused: AtomicBool,
    /// A record failed: nothing starts any more.
    pub(crate) suspended: AtomicBool,
    /// Set once reporter and pools have been started, before any task comes in.
    pub(crate) lines: OnceLock<Lines>,
    /// Whom to tell when nothing more is accepted.
    pub(crate) producers: Mutex<Producers>,
}

#[derive(Default)]
pub(crate) struct Producers {
    running: Vec<Recipient<ToProducer>>,
    ended: bool,
}

/// Whom to tell.
pub(crate) struct Lines {
    pub(crate) reporter: Recipient<ToReporter>,
    pub(crate) pools: Vec<Recipient<ToPool>>,
}

/// Queued tasks whose end was decided, by stage, to be told to their pools in one go.
pub(crate) struct Decided(Vec<Vec<TaskRef>>);

impl Core {
    pub(crate) fn tell_reporter(&self, message: ToReporter) {
        if let Some(lines) = self.lines.get() {
            lines.reporter.do_send(message);
        }
    }

    pub(crate) fn tell_pool(&self, stage: u16, message: ToPool) {
        if let Some(pool) = self
            .lines
            .get()
            .and_then(|lines| lines.pools.get(stage as usize))
        {
            pool.do_send(message);
        }
    }

    pub(crate) fn tell_pools(&self, message: impl Fn() -> ToPool) {
        if let Some(lines) = self.lines.get() {
            for pool in &lines.pools {
                pool.do_send(message());
            }
        }
    }

    pub(crate) fn add_producer(&self, producer: Recipient<ToProducer>) {
        let mut producers = guard::lock(&self.producers);
        if producers.ended {
            producer.do_send(ToProducer::End);
        } else {
            producers.running.push(producer);
        }
    }

    pub(crate) fn end_producers(&self) {
        let mut producers = guard::lock(&self.producers);
        producers.ended = true;
        for producer in producers.running.drain(..) {
            producer.do_send(ToProducer::End);
        }
    }

    pub(crate) fn stage_name(&self, stage: u16) -> &StageName {
        // A stage's number comes from its place in this very list.
        &self.stages[(stage as usize).min(self.stages.len() - 1)]
    }

    /// Records a change where there is a ledger.
    pub(crate) fn record(&self, task: TaskId, change: Change<'_>) -> Recorded {
        match &self.ledger {
            None => Recorded::now(),
            Some(ledger) => ledger.record(Transition { task, change }),
        }
    }

    /// The outcome of the task with this key, once it has one.
    pub(crate) fn outcome_of<O: 'static>(
        self: &Arc<Self>,
        key: &str,
    ) -> impl Future<Output = Result<Option<Outcome<O>>, Error>> + Send + use<O> {
        let kept = self.ledger.as_ref().map(|ledger| ledger.outcome_of(key));
        let core = Arc::downgrade(self);
        async move {
            let Some(kept) = kept else { return Ok(None) };
            let kept = kept.await.map_err(|error| Error::Suspended(error.text()))?;
            // The ledger may know before the reporter does. Who has an outcome sees it in a snapshot.
            let task = kept.as_ref().map(|outcome| outcome.task);
            let is_counted = |core: Arc<Core>| task.is_none_or(|task| core.table.is_filed(task));
            while !core.upgrade().is_none_or(is_counted) {
                tokio::task::yield_now().await;
            }
            Ok(kept.map(|kept| {
                let Outcome {
                    task,
                    end,
                    rollback,
                    output,
                } = kept;
                let output = output.and_then(|any| any.downcast().ok());
                Outcome {
                    task,
                    end,
                    rollback,
                    output: output.map(|output| *output),
                }
            }))
        }
    }

    /// A record failed: everything stops where it is.
    pub(crate) fn unrecorded(&self, error: &LedgerError) {
        if !self.suspended.swap(true, Ordering::SeqCst) {
            log::error!(
                "pipeline {} is suspended: its ledger failed: {error}",
                self.name
            );
            self.table.refuse(crate::task::Refused::Suspended);
            self.tell_reporter(ToReporter::Unrecorded(error.text()));
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Cancels a task; `false` when it had ended, or was already about to.
    pub(crate) fn cancel(&self, task: &TaskRef, cause: StopCause) -> bool {
        let mut decided = Decided::new(self);
        let took = self.stop(task, Stop::Cancel(cause), &mut decided);
        decided.tell(self);
        took
    }

    pub(crate) fn time_out(&self, task: &TaskRef, decided: &mut Decided) -> bool {
        self.stop(task, Stop::Late, decided)
    }

    /// Decides from outside that a task is to end, and tells whoever has it.
    fn stop(&self, task: &TaskRef, why: Stop, decided: &mut Decided) -> bool {
        let Some(halted) = task.stop(why) else {
            return false;
        };
        if log::log_enabled!(log::Level::Debug) {
            let stage = match halted {
                Halted::Queued(stage) | Halted::Running(stage, _) => Some(stage),
                Halted::Cleaning => None,
            };
            let stage = stage.map_or("(cleaning up)", |stage| &**self.stage_name(stage));
            let (id, attempt, state) = (task.id(), task.attempt(), task.state());
            let what = match why {
                Stop::Late => "timed out",
                Stop::Cancel(_) => "cancelled",
            };
            log::debug!("task {id} stage {stage} attempt {attempt}: {what}, {state:?}");
        }
        match halted {
            Halted::Queued(stage) => {
                decided.0[(stage as usize).min(self.stages.len() - 1)].push(task.clone());
            }
            Halted::Running(stage, worker) => {
                self.tell_pool(stage, ToPool::Halt { worker });
            }
            Halted::Cleaning => self.tell_reporter(ToReporter::Interrupted(task.clone())),
        }
        true
    }

    /// The time that is left to a deadline.
    pub(crate) fn left(&self, deadline: u64) -> Option<Duration> {
        (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(self.clock.now())))
    }
}

impl Decided {
    pub(crate) fn new(core: &Core) -> Self {
        Decided(core.stages.iter().map(|_| Vec::new()).collect())
    }

    pub(crate) fn tell(self, core: &Core) {
        for (stage, tasks) in self.0.into_iter().enumerate() {
            if !tasks.is_empty() {
                core.tell_pool(stage as u16, ToPool::Decided(tasks));
            }
        }
    }
}
