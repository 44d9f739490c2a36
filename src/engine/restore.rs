//! Puts the tasks that the previous process has left back to where they were.

use std::{
    any::Any,
    sync::{Arc, Mutex, atomic::Ordering},
};

use tokio::sync::Semaphore;

use super::{
    channel::Sender,
    room::collect,
    worker::env::{FromWorker, NextAttempt},
};
use crate::{
    clock::{NEVER, nanos},
    journal::{
        Adopt, Answer, ChunkedVec, Decision, Load, Recovered, RecoveredTask, Suspicion, Todo,
    },
    ledger::LedgerError,
    logging, panic_guard,
    report::StageStats,
    shared::{
        Shared,
        hop::{Batch, Hop},
        messages::{Detached, ToPool, ToReporter},
    },
    task::{Limits, Restored, State, TaskId, TaskRef, Undo, UndoStatus},
};

/// Takes restored tasks to a pool.
pub(crate) trait RestoreFeed {
    /// To its queue.
    fn queue(&mut self, task: TaskRef, context: Box<dyn Any + Send>);
    /// To those that wait for their next attempt, until they are cleaned up.
    fn rest(&mut self, task: TaskRef, context: Box<dyn Any + Send>);
    /// Sends what is left.
    fn send(&mut self);
    /// The room of its queue.
    fn room(&self) -> Option<&Arc<Semaphore>>;
}

pub(crate) struct PoolFeed<I: Send + 'static> {
    hop: Hop<I>,
    pool: Sender<FromWorker<I>>,
    batch: Batch<I>,
}

/// Number of tasks that go to a pool in one message.
const BATCH: usize = 256;

impl<I: Send + 'static> PoolFeed<I> {
    pub(crate) fn new(hop: Hop<I>, pool: Sender<FromWorker<I>>) -> Self {
        PoolFeed {
            hop,
            pool,
            batch: Batch::new(),
        }
    }

    /// The journal has made it by this stage's own codec.
    fn typed(context: Box<dyn Any + Send>) -> I {
        match context.downcast() {
            Ok(context) => *context,
            Err(_) => unreachable!("a context is of its stage's type"),
        }
    }
}

impl<I: Send + 'static> RestoreFeed for PoolFeed<I> {
    fn queue(&mut self, task: TaskRef, context: Box<dyn Any + Send>) {
        self.batch.push(task, Self::typed(context));
        if self.batch.len() == BATCH {
            self.send();
        }
    }

    fn rest(&mut self, task: TaskRef, context: Box<dyn Any + Send>) {
        self.pool.send(FromWorker::Retry {
            task,
            input: Self::typed(context),
            due: 0,
            next: NextAttempt::AfterCleanUp,
        });
    }

    fn send(&mut self) {
        if !self.batch.is_empty() {
            self.hop
                .send(std::mem::replace(&mut self.batch, Batch::new()));
        }
    }

    fn room(&self) -> Option<&Arc<Semaphore>> {
        self.hop.room.as_ref()
    }
}

/// Puts every task back. Nothing else has come in yet.
pub(crate) fn restore(
    shared: &Shared,
    feeds: &mut [Box<dyn RestoreFeed + Send>],
    recovered: Recovered,
) {
    let Recovered {
        tasks,
        stuck,
        quarantined,
        last_id,
        journal_id: _,
    } = recovered;
    let live = tasks.len();
    let any_stuck = !stuck.is_empty();
    if live + stuck.len() > 0 {
        let (pipeline, stuck) = (&shared.name, stuck.len());
        logging::info!("pipeline {pipeline}: {live} tasks go on, {stuck} are stuck");
    }
    shared
        .table
        .take_over(last_id, stuck, quarantined.len() as u64);
    // Before any of them is on its way: what comes back belongs to nobody else from now on.
    let places = collect(&shared.table.places, live);
    put_all_back(shared, feeds, tasks, places);
    if any_stuck {
        shared.tell_reporter(ToReporter::StuckRestored);
    }
}

/// Puts every task back. Its place is taken, or collected by this.
fn put_all_back(
    shared: &Shared,
    feeds: &mut [Box<dyn RestoreFeed + Send>],
    tasks: ChunkedVec<RecoveredTask>,
    places: Option<Detached>,
) {
    let mut collectors: Vec<_> = places.into_iter().collect();
    for (stage, feed) in feeds.iter().enumerate() {
        // Later attempts need no room.
        let fills = |task: &&RecoveredTask| {
            task.attempt == 1 && matches!(task.todo, Todo::Queue(k, _) if k as usize == stage)
        };
        let filled = tasks.iter().filter(fills).count();
        collectors.extend(feed.room().and_then(|room| collect(room, filled)));
    }
    warn_of_suspects(shared, tasks.iter());
    for task in tasks {
        put_back(shared, feeds, task);
    }
    for feed in feeds {
        feed.send();
    }
    if !collectors.is_empty() {
        shared.tell_reporter(ToReporter::CollectRoom(collectors));
    }
}

/// A running pipeline that tasks of other processes come to.
pub(crate) struct Adopter {
    shared: Arc<Shared>,
    /// Those of the first stage.
    first: Arc<StageStats>,
    feeds: Arc<Mutex<Vec<Box<dyn RestoreFeed + Send>>>>,
}

impl Adopter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        first: Arc<StageStats>,
        feeds: Vec<Box<dyn RestoreFeed + Send>>,
    ) -> Self {
        Adopter {
            shared,
            first,
            feeds: Arc::new(Mutex::new(feeds)),
        }
    }
}

impl Adopt for Adopter {
    fn load(&self) -> Load {
        // Not reserved: that would keep the others out for as long as it takes to ask the database.
        let room = match self.shared.table.why_closed() {
            None if !self.shared.is_paused() => self.shared.table.places.available_permits(),
            _ => 0,
        };
        let queued = self.first.queued.load(Ordering::Relaxed);
        Load { room, queued }
    }

    fn decide(&mut self, task: TaskId, decision: Decision) -> Option<Answer> {
        self.shared.decide(task, decision)
    }

    fn release(&mut self, most: usize) {
        self.shared.tell_pool(0, ToPool::Release(most));
    }

    fn is_leaving(&self) -> bool {
        self.shared.leaves.load(Ordering::Relaxed)
    }

    fn adopt(&mut self, tasks: Recovered) {
        let (shared, feeds) = (self.shared.clone(), self.feeds.clone());
        let adopt = move || {
            let Recovered {
                tasks,
                stuck,
                quarantined,
                ..
            } = tasks;
            let any_stuck = !stuck.is_empty();
            let failed = quarantined.len() as u64;
            shared.table.take_over(TaskId(0), stuck, failed);
            // Stuck ones take none.
            let places = collect(&shared.table.places, tasks.len());
            put_all_back(&shared, &mut panic_guard::lock(&feeds), tasks, places);
            if any_stuck {
                shared.tell_reporter(ToReporter::StuckRestored);
            }
        };
        self.shared
            .tell_reporter(ToReporter::Adopt(Box::new(adopt)));
    }

    fn fail(&self, why: &LedgerError) {
        self.shared.suspend(why);
    }

    fn on_lease_over(&self) -> Box<dyn Fn(&LedgerError) + Send + Sync> {
        // The pipeline has the lease.
        let shared = Arc::downgrade(&self.shared);
        Box::new(move |why| {
            if let Some(shared) = shared.upgrade() {
                shared.suspend(why);
            }
        })
    }
}

fn put_back(shared: &Shared, feeds: &mut [Box<dyn RestoreFeed + Send>], task: RecoveredTask) {
    let RecoveredTask {
        id,
        attempt,
        spared,
        generation,
        owners,
        left,
        work_timeout,
        undos,
        suspicion,
        names,
        todo,
    } = task;
    let deadline = match &todo {
        // A rollback has none.
        Todo::Stop(_) | Todo::RollBack(..) => None,
        Todo::Queue(..) | Todo::CleanUp(..) => left,
    };
    let limits = Limits {
        timeout: deadline.map_or(NEVER, nanos),
        work_timeout: work_timeout.map_or(NEVER, nanos),
        ..Limits::none(false)
    };
    let past = |state, attempt, generation, stage, undos, end| Restored {
        state,
        attempt,
        generation,
        spared: (stage, spared),
        owners,
        undos,
        end,
        names,
    };
    let Shared { clock, table, .. } = shared;
    let record = |past| {
        let task = table.restore(id, &limits, clock.now(), clock.cycles(), past);
        if let Some(key) = task.names().key {
            shared.keyed.insert(key, &task);
        }
        if let Some(Suspicion { undo, .. }) = suspicion {
            let task = task.clone();
            shared.tell_reporter(ToReporter::Suspect { task, undo });
        }
        task
    };
    match todo {
        Todo::Queue(k, context) => {
            let past = past(State::Queued(k), attempt, generation, k, undos, None);
            feeds[k as usize].queue(record(past), context);
        }
        Todo::CleanUp(k, context) if !has_undos(&undos, k, attempt) && suspicion.is_none() => {
            let generation = generation + u32::from(is_undone(&undos, k, attempt));
            let past = past(State::Queued(k), attempt + 1, generation, k, undos, None);
            feeds[k as usize].queue(record(past), context);
        }
        Todo::CleanUp(k, context) => {
            // The clean-up itself raises it if undos run in it.
            let cleaned = !has_undos(&undos, k, attempt) && is_undone(&undos, k, attempt);
            let generation = generation + u32::from(cleaned);
            let task = record(past(
                State::Cleaning(k),
                attempt,
                generation,
                k,
                undos,
                None,
            ));
            // The pool first: it must know the task before the reporter answers for it.
            feeds[k as usize].rest(task.clone(), context);
            shared.tell_reporter(ToReporter::CleanUpRestored { task, stage: k });
        }
        Todo::Stop(end) => {
            let past = past(State::RollingBack, attempt, generation, 0, undos, Some(end));
            shared.tell_reporter(ToReporter::Stopped(record(past)));
        }
        Todo::RollBack(end, undone) => {
            let past = past(State::RollingBack, attempt, generation, 0, undos, Some(end));
            let task = record(past);
            shared.tell_reporter(ToReporter::RollBackRestored { task, undone });
        }
    }
}

fn has_undos(undos: &[Undo], stage: u16, attempt: u32) -> bool {
    undos
        .iter()
        .any(|undo| undo.is_of(stage, attempt) && matches!(undo.status, UndoStatus::Registered))
}

/// Undos of this attempt have run in a clean-up.
fn is_undone(undos: &[Undo], stage: u16, attempt: u32) -> bool {
    undos
        .iter()
        .any(|undo| undo.is_of(stage, attempt) && matches!(undo.status, UndoStatus::Undone))
}

/// The number of suspects that the warning names.
const NAMED: usize = 20;

fn warn_of_suspects<'a>(shared: &Shared, tasks: impl Iterator<Item = &'a RecoveredTask>) {
    let suspects = tasks.filter_map(|task| Some((task.id, task.suspicion?)));
    let suspects: Vec<_> = suspects.collect();
    let Some(kills) = suspects.iter().map(|(_, suspicion)| suspicion.kills).min() else {
        return;
    };
    let named = suspects.iter().take(NAMED).map(|(id, _)| id.to_string());
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if suspects.len() > NAMED { " .." } else { "" };
    logging::warning!(
        "pipeline {}: tasks that were at work at {kills} kills of the process or more go on one at a time; \
         there are {}: {named}{more}",
        shared.name,
        suspects.len(),
    );
}
