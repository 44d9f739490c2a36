//! Submitted tasks that have not been sent on yet, and the places and room that they take.

use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use actix::Recipient;
use tokio::sync::{Semaphore, TryAcquireError};

use super::error::SubmitError;
use crate::{
    clock::NEVER,
    ledger::{Change, LedgerError, Recorded, Value, Why},
    logging, panic_guard,
    shared::{
        Shared,
        hop::{Batch, Hop},
        messages::{ToProducer, ToReporter},
    },
    task::{Limits, Names, Refusal, StopCause, Task, TaskRef},
};

/// The number of tasks that go to the first pool at once.
pub(super) const BATCH: usize = 256;

/// A task that has its record: its own hold on it, and its ticket's.
pub(super) struct NewTask {
    pub(super) task: TaskRef,
    pub(super) ticket: TaskRef,
}

/// A task that is being recorded.
pub(super) struct Recording {
    pub(super) task: NewTask,
    pub(super) recorded: Recorded,
    pub(super) key: Option<Arc<str>>,
}

/// The tasks submitted through an intake and its clones. They gather without waiting: the producer
/// actor sends them on after each poll of the user's future, or when told that some came in from
/// elsewhere. A submit from within that poll goes by a [`LocalBatch`](super::LocalBatch) instead.
pub(crate) struct Outbox<C: Send + 'static> {
    pub(super) shared: Arc<Shared>,
    pub(super) hop: Hop<C>,
    pending: Mutex<Pending<C>>,
    flusher: OnceLock<Recipient<ToProducer>>,
    /// Tasks accepted through a lease and not entered into the table yet.
    pub(super) leased_count: Arc<AtomicU64>,
}

struct Pending<C> {
    batch: Batch<C>,
    flush: Flush,
}

/// The way the pending tasks get on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// The actor has to be told.
    OnDemand,
    /// The actor will flush without being told.
    Expected,
    /// The actor has left: nobody will flush, so each task is sent by itself.
    Direct,
}

impl<C: Send + 'static> Outbox<C> {
    pub(crate) fn new(shared: Arc<Shared>, hop: Hop<C>) -> Self {
        let leased_count = shared.table.leased_count();
        Outbox {
            shared,
            hop,
            pending: Mutex::new(Pending {
                batch: Batch::new(),
                flush: Flush::OnDemand,
            }),
            flusher: OnceLock::new(),
            leased_count,
        }
    }

    pub(crate) fn set_flusher(&self, flusher: Recipient<ToProducer>) {
        self.flusher.set(flusher).ok();
    }

    /// The actor is about to poll its producer, and flushes afterwards.
    pub(super) fn expect_flush(&self) {
        let mut pending = panic_guard::lock(&self.pending);
        if pending.flush == Flush::OnDemand {
            pending.flush = Flush::Expected;
        }
    }

    /// Sends on what is pending.
    pub(crate) fn flush(&self) {
        let mut pending = panic_guard::lock(&self.pending);
        if pending.flush == Flush::Expected {
            pending.flush = Flush::OnDemand;
        }
        if !pending.batch.is_empty() {
            let batch = mem::replace(&mut pending.batch, self.hop.batch(0));
            self.hop.send(batch);
        }
    }

    /// The actor leaves. A task that was admitted before the intake closed may still come.
    pub(crate) fn leave(&self) {
        panic_guard::lock(&self.pending).flush = Flush::Direct;
        self.flush();
    }

    fn push(&self, task: TaskRef, context: C) {
        let mut pending = panic_guard::lock(&self.pending);
        pending.batch.push(task, context);
        if pending.batch.len() >= BATCH || pending.flush == Flush::Direct {
            let batch = mem::replace(&mut pending.batch, self.hop.batch(0));
            // Sent under the lock, so that tasks start in the order of acceptance.
            self.hop.send(batch);
        } else if pending.flush == Flush::OnDemand {
            pending.flush = Flush::Expected;
            if let Some(flusher) = self.flusher.get() {
                flusher.do_send(ToProducer::Flush);
            }
        }
    }

    /// Gives a task its record and records it. The caller holds its place and its room.
    pub(super) fn admit(
        &self,
        context: &C,
        limits: &Limits,
        names: Names,
    ) -> Result<(NewTask, Recorded), Refusal> {
        let Shared { clock, table, .. } = &*self.shared;
        let (task, ticket) = table.admit(limits, clock.now(), clock.cycles())?;
        let id = task.id();
        let deadline = task.deadline();
        let new = NewTask { task, ticket };
        // Before it is recorded: once it is, it may end at any time.
        new.task.set_names(names.clone());
        if self.shared.ledger.is_none() {
            return Ok((new, Recorded::now()));
        }
        let change = Change::Accepted {
            context: Value::of(context),
            key: names.key.as_deref(),
            label: names.label.as_deref(),
            deadline: self.shared.time_left(deadline),
            work_timeout: (limits.work_timeout != NEVER)
                .then(|| Duration::from_nanos(limits.work_timeout)),
        };
        let recorded = self.shared.record(id, change);
        Ok((new, recorded))
    }

    /// The task is accepted: sends it on its way. Returns its ticket's hold.
    pub(super) fn accept(&self, NewTask { task, ticket }: NewTask, context: C) -> TaskRef {
        logging::debug!("task {} accepted", task.id());
        self.push(task, context);
        ticket
    }

    /// The ledger refused the task, so it was never accepted. Returns the hold for a ticket of the task
    /// that has its key, or the error.
    pub(super) fn unaccept(
        &self,
        task: TaskRef,
        error: &LedgerError,
        key: Option<Arc<str>>,
        context: C,
    ) -> Result<TaskRef, SubmitError<C>> {
        if self.shared.table.revoke(task) {
            self.shared.table.places.add_permits(1);
        }
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
        match (error.why(), key) {
            (Why::Known(id), Some(key)) => {
                panic_guard::drop_quietly(context);
                Ok(Arc::new(Task::in_ledger(id, self.shared.as_owner(), key)))
            }
            (Why::Broken, _) => {
                self.shared.suspend(error);
                Err(SubmitError::Suspended(context))
            }
            (Why::Refused | Why::Known(_), _) => {
                Err(SubmitError::Unrecorded(context, error.text()))
            }
        }
    }

    /// A task that may be recorded by now, and whose `submit` was dropped. With a key it goes on once
    /// it is recorded, because its key is taken; without one it is cancelled.
    pub(super) fn leave_recording(self: &Arc<Self>, recording: Recording, context: Option<C>) {
        let Recording {
            task,
            recorded,
            key,
        } = recording;
        let (key, context) = match (key, context) {
            (Some(key), Some(context)) => (key, context),
            (_, context) => {
                self.abandon(&task.task);
                // Only now: its drop is the user's code.
                return panic_guard::drop_quietly(context);
            }
        };
        let outbox = self.clone();
        let accepted = async move {
            match recorded.await {
                Ok(()) => outbox.accept(task, context).leave_ticket(),
                Err(error) => {
                    let refused = outbox.unaccept(task.task, &error, Some(key), context);
                    panic_guard::drop_quietly(refused);
                }
            }
        };
        let message = ToReporter::RunDetached(Box::pin(accepted));
        self.shared.tell_reporter(message);
    }

    /// Cancels a task that was recorded, or may have been, and that nobody waits for any more.
    pub(super) fn abandon(&self, task: &TaskRef) {
        self.shared.cancel(task, StopCause::User);
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
    }

    fn room(&self) -> Option<&Semaphore> {
        self.hop.room.as_deref()
    }

    /// Takes a place and room, if both are there now.
    pub(super) fn take_permits(&self) -> Result<(), TryAcquireError> {
        let place = self.shared.table.places.try_acquire()?;
        if let Some(room) = self.room() {
            room.try_acquire()?.forget();
        }
        place.forget();
        Ok(())
    }

    /// Takes half of the places and of the room that there is, up to `most`: the rest is for others.
    pub(super) fn take_most_permits(&self, most: usize) -> usize {
        let places = &self.shared.table.places;
        let mut there = places.available_permits();
        if let Some(room) = self.room() {
            there = there.min(room.available_permits());
        }
        let there = most.min(there.div_ceil(2));
        // Somebody else may be quicker: then it is tried with one.
        for wanted in [there, 1] {
            let Ok(taken) = places.try_acquire_many(wanted as u32) else {
                continue;
            };
            match self.room().map(|room| room.try_acquire_many(wanted as u32)) {
                Some(Err(_)) => {}
                room => {
                    taken.forget();
                    if let Some(Ok(room)) = room {
                        room.forget();
                    }
                    if wanted > 0 {
                        return wanted;
                    }
                }
            }
        }
        0
    }

    pub(super) fn give_back_permits(&self, permits: usize) {
        if permits > 0 {
            self.shared.table.places.add_permits(permits);
            if let Some(room) = self.room() {
                room.add_permits(permits);
            }
        }
    }
}
