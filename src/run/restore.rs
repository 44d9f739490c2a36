//! Tasks that a process before has left, back to where they were.

use std::{
    any::Any,
    sync::Arc,
    task::{Context, Waker},
};

use actix::Recipient;
use tokio::sync::Semaphore;

use super::pool::FromWorker;
use crate::{
    clock::{NEVER, nanos},
    core::Core,
    journal::{Recovered, RecoveredTask, Todo},
    message::{Batch, Debt, Hop, ToReporter},
    task::{Admission, Restored, State, TaskRef, Undo, UndoStatus},
};

/// Takes restored tasks to a pool.
pub(crate) trait Feed {
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
    pool: Recipient<FromWorker<I>>,
    batch: Batch<I>,
}

/// How many tasks go to a pool in one message.
const BATCH: usize = 256;

impl<I: Send + 'static> PoolFeed<I> {
    pub(crate) fn new(hop: Hop<I>, pool: Recipient<FromWorker<I>>) -> Self {
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

impl<I: Send + 'static> Feed for PoolFeed<I> {
    fn queue(&mut self, task: TaskRef, context: Box<dyn Any + Send>) {
        self.batch.push(task, Self::typed(context));
        if self.batch.len() == BATCH {
            self.send();
        }
    }

    fn rest(&mut self, task: TaskRef, context: Box<dyn Any + Send>) {
        self.pool.do_send(FromWorker::Retry {
            task,
            input: Self::typed(context),
            due: 0,
            cleaning: true,
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
pub(crate) fn restore(core: &Core, feeds: &mut [Box<dyn Feed + Send>], recovered: Recovered) {
    let Recovered {
        tasks,
        stuck,
        quarantined,
        last_id,
    } = recovered;
    let live = tasks.len();
    if live + stuck.len() > 0 {
        let (pipeline, stuck) = (&core.name, stuck.len());
        log::info!("pipeline {pipeline}: {live} tasks go on, {stuck} are stuck");
    }
    core.table
        .take_over(last_id, stuck, quarantined.len() as u64);
    // Before any of them is on its way: what comes back belongs to nobody else from now on.
    let mut debts = Vec::new();
    debts.extend(owe(&core.table.places, live));
    for (stage, feed) in feeds.iter().enumerate() {
        // Later attempts need no room.
        let fills = |task: &&RecoveredTask| {
            task.attempt == 1 && matches!(task.todo, Todo::Queue(k, _) if k as usize == stage)
        };
        let filled = tasks.iter().filter(fills).count();
        debts.extend(feed.room().and_then(|room| owe(room, filled)));
    }
    for task in tasks {
        put_back(core, feeds, task);
    }
    for feed in feeds {
        feed.send();
    }
    if !debts.is_empty() {
        core.tell_reporter(ToReporter::Debts(debts));
    }
}

fn put_back(core: &Core, feeds: &mut [Box<dyn Feed + Send>], task: RecoveredTask) {
    let RecoveredTask {
        id,
        attempt,
        spared,
        generation,
        left,
        work_timeout,
        undos,
        todo,
    } = task;
    let deadline = match &todo {
        // A rollback has none.
        Todo::Stop(_) | Todo::RollBack(..) => None,
        Todo::Queue(..) | Todo::CleanUp(..) => left,
    };
    let admission = Admission {
        deadline: deadline.map_or(NEVER, |left| core.clock.now().saturating_add(nanos(left))),
        work_timeout: work_timeout.map_or(NEVER, nanos),
        wants_output: false,
        count: core.clock.count(),
    };
    let past = |state, attempt, generation, stage, undos, end| Restored {
        state,
        attempt,
        generation,
        spared: (stage, spared),
        undos,
        end,
    };
    let record = |past| core.table.restore(id, &admission, past);
    match todo {
        Todo::Queue(k, context) => {
            let past = past(State::Queued(k), attempt, generation, k, undos, None);
            feeds[k as usize].queue(record(past), context);
        }
        Todo::CleanUp(k, context) if !has_undos(&undos, k, attempt) => {
            let undone = undos.iter().any(|undo| {
                undo.stage == k
                    && undo.attempt == attempt
                    && matches!(undo.status, UndoStatus::Cancelled)
            });
            let generation = generation + u32::from(undone);
            let past = past(State::Queued(k), attempt + 1, generation, k, undos, None);
            feeds[k as usize].queue(record(past), context);
        }
        Todo::CleanUp(k, context) => {
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
            core.tell_reporter(ToReporter::Resumed { task, stage: k });
        }
        Todo::Stop(end) => {
            let past = past(State::RollingBack, attempt, generation, 0, undos, Some(end));
            core.tell_reporter(ToReporter::Stopped(record(past)));
        }
        Todo::RollBack(end, cancelled) => {
            let past = past(State::RollingBack, attempt, generation, 0, undos, Some(end));
            let task = record(past);
            core.tell_reporter(ToReporter::RollBack { task, cancelled });
        }
    }
}

fn has_undos(undos: &[Undo], stage: u16, attempt: u32) -> bool {
    undos.iter().any(|undo| {
        undo.stage == stage
            && undo.attempt == attempt
            && matches!(undo.status, UndoStatus::Registered)
    })
}

/// Takes the room that these tasks fill, or, where there is less, all that comes back until they
/// have it: whoever asks later waits behind this.
fn owe(room: &Arc<Semaphore>, filled: usize) -> Option<Debt> {
    let room = room.clone();
    let filled = u32::try_from(filled).unwrap_or(u32::MAX);
    let mut debt: Debt = Box::pin(async move {
        if let Ok(permits) = room.acquire_many_owned(filled).await {
            permits.forget();
        }
    });
    // This is what puts it into the semaphore's queue.
    let mut nobody = Context::from_waker(Waker::noop());
    debt.as_mut().poll(&mut nobody).is_pending().then_some(debt)
}
