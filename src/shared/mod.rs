//! Everything that the parts of a running pipeline share: its state, and the messages between its
//! actors.
//!
//! [`hop`] carries tasks, [`messages`] are everything else that actors say to each other, and
//! [`stop`] is how a task is ended from outside.

#[cfg(feature = "journal")]
mod by_key;
#[cfg(feature = "journal")]
mod anywhere;
pub(crate) mod hop;
pub(crate) mod keyed;
pub(crate) mod messages;
mod retry;
mod status;
mod switches;
mod observe;
pub(crate) mod stop;

use std::{
    any::Any,
    future::Future,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::Recipient;

use self::{
    keyed::KeyedTasks,
    messages::{ToPool, ToProducer, ToReporter},
};
#[cfg(feature = "journal")]
use crate::journal::JournalLedger;
use crate::{
    clock::{Clock, NEVER, Nanos},
    error::Error,
    failure::{Failure, FailureKind},
    ledger::{Change, Ledger, LedgerError, Recorded, Transition},
    logging, panic_guard,
    report::Board,
    task::{Outcome, Owner, Refusal, StageIx, StageName, Table, Task, TaskId, TaskOwner, TaskRef},
};

/// The state that all parts of a pipeline share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    /// The beginning of each [`Key`](crate::task::Key): the name, with its journal's number.
    pub(crate) key_prefix: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
    /// The ledger, if it is a journal.
    #[cfg(feature = "journal")]
    pub(crate) journal: Option<Arc<JournalLedger>>,
    /// Neither ledger nor recorder is to be told of anything.
    pub(crate) is_plain: bool,
    pub(crate) table: Table,
    /// The tasks among those in it that have a key.
    pub(crate) keyed: KeyedTasks,
    pub(crate) stages: Vec<StageName>,
    /// By stage: it is an actor of the user's, whose size is fixed.
    pub(crate) fixed_size: Vec<bool>,
    pub(crate) max_undos: usize,
    /// Kept for those who ask when it is gone.
    pub(crate) board: Arc<Board>,
    /// No stage work starts. Each stage has a switch of its own besides, which its workers read.
    pub(crate) paused: AtomicBool,
    /// Held while that is changed, with the stages' own.
    pub(crate) switching: Mutex<()>,
    /// It was told to end, and others may have what waits.
    #[cfg(feature = "journal")]
    pub(crate) leaves: AtomicBool,
    /// A record failed: nothing starts any more.
    pub(crate) suspended: AtomicBool,
    pub(crate) suspended_why: OnceLock<Arc<str>>,
    /// Set once reporter and pools have been started, before any task comes in.
    pub(crate) actors: OnceLock<ActorAddrs>,
    /// Producers that are to be told when nothing more is accepted.
    pub(crate) producers: Mutex<Producers>,
}

#[derive(Default)]
pub(crate) struct Producers {
    running: Vec<Recipient<ToProducer>>,
    ended: bool,
}

impl TaskOwner for Shared {
    fn task_lost(&self, task: TaskRef) {
        // Those of a pipeline that is suspended stay where they are.
        let Some(stage) = task.stage().filter(|_| !self.is_suspended()) else {
            return;
        };
        let why = "it was lost with an actor of the pipeline that had died";
        let failure = Failure::of(FailureKind::Panic, why);
        if task.fail(stage, failure).is_ok() || task.let_go(stage) {
            self.tell_reporter(ToReporter::Stopped(task));
        }
    }
}

/// The addresses of the reporter and, by stage, of the pools.
pub(crate) struct ActorAddrs {
    pub(crate) reporter: Recipient<ToReporter>,
    pub(crate) pools: Vec<Recipient<ToPool>>,
}

impl Shared {
    /// The pipeline that a task is in, unless it is gone.
    pub(crate) fn of(task: &Task) -> Option<Arc<Shared>> {
        let owner: Arc<dyn Any + Send + Sync> = task.owner.upgrade()?;
        owner.downcast().ok()
    }

    /// As the owner of tasks.
    pub(crate) fn as_owner(self: &Arc<Self>) -> Owner {
        let weak: std::sync::Weak<Shared> = Arc::downgrade(self);
        weak
    }

    pub(crate) fn tell_reporter(&self, message: ToReporter) {
        if let Some(actors) = self.actors.get() {
            actors.reporter.do_send(message);
        }
    }

    pub(crate) fn tell_pool(&self, stage: StageIx, message: ToPool) {
        if let Some(pool) = self
            .actors
            .get()
            .and_then(|actors| actors.pools.get(stage as usize))
        {
            pool.do_send(message);
        }
    }

    pub(crate) fn tell_pools(&self, message: impl Fn() -> ToPool) {
        if let Some(actors) = self.actors.get() {
            for pool in &actors.pools {
                pool.do_send(message());
            }
        }
    }

    pub(crate) fn add_producer(&self, producer: Recipient<ToProducer>) {
        let mut producers = panic_guard::lock(&self.producers);
        if producers.ended {
            producer.do_send(ToProducer::End);
        } else {
            producers.running.push(producer);
        }
    }

    pub(crate) fn end_producers(&self) {
        let mut producers = panic_guard::lock(&self.producers);
        producers.ended = true;
        for producer in producers.running.drain(..) {
            producer.do_send(ToProducer::End);
        }
    }

    pub(crate) fn stage_name(&self, stage: StageIx) -> &StageName {
        // A stage's number comes from its place in this very list.
        &self.stages[(stage as usize).min(self.stages.len() - 1)]
    }

    /// Records a change, if there is a ledger.
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
        let key: Arc<str> = key.into();
        let kept = self.ledger.as_ref().map(|ledger| ledger.outcome_of(&key));
        let shared = Arc::downgrade(self);
        async move {
            let Some(kept) = kept else { return Ok(None) };
            let kept = kept.await.map_err(|error| Error::Suspended(error.text()))?;
            // The ledger may know before the reporter does, and a caller who has an outcome must see it
            // in a snapshot.
            let task = kept.as_ref().map(|outcome| outcome.task);
            let is_counted =
                |shared: Arc<Shared>| task.is_none_or(|task| shared.table.is_filed(task));
            while !shared.upgrade().is_none_or(is_counted) {
                tokio::task::yield_now().await;
            }
            let mut outcome = kept.map(Outcome::downcast);
            if let Some(outcome) = &mut outcome {
                // A ledger of the user's may not have kept it.
                outcome.key.get_or_insert(key);
            }
            Ok(outcome)
        }
    }

    /// A record failed: everything stops where it is.
    pub(crate) fn suspend(&self, error: &LedgerError) {
        self.suspended_why.get_or_init(|| error.text());
        if !self.suspended.swap(true, Ordering::SeqCst) {
            logging::error!(
                "pipeline {} is suspended, because its ledger failed: {error}",
                self.name
            );
            self.table.refuse(Refusal::Suspended);
            self.tell_reporter(ToReporter::LedgerFailed(error.text()));
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// The time that is left to a deadline.
    pub(crate) fn time_left(&self, deadline: Nanos) -> Option<Duration> {
        (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(self.clock.now())))
    }
}
