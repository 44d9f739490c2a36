//! Submitted tasks that have not been sent on yet, and the places and room that they take.

use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use actix::Recipient;
use tokio::sync::{Semaphore, TryAcquireError};

use super::{
    answer::{answer, recording_is_over},
    error::{SubmitError, TrySubmitError},
};
use crate::{
    clock::NEVER,
    failure::Failure,
    ledger::{Change, LedgerError, Recorded, Value, Why},
    logging, panic_guard,
    shared::{
        Shared,
        hop::{Batch, Hop},
        messages::{ToProducer, ToReporter},
    },
    task::{Event, Limits, Names, Refusal, StopCause, Task, TaskRef, TicketAnswer},
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

/// A context that waits for its record, in a future that others may drop.
struct Unsent<C>(Option<C>);

impl<C> Drop for Unsent<C> {
    fn drop(&mut self) {
        panic_guard::drop_quietly(self.0.take());
    }
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
    pub(super) fn accept(
        &self,
        NewTask { task, ticket }: NewTask,
        context: C,
        key: Option<Arc<str>>,
    ) -> TaskRef {
        if let Some(key) = key {
            self.shared.keyed.insert(key, &task);
        }
        logging::debug!("task {} accepted", task.id());
        self.push(task, context);
        ticket
    }

    /// A context that is not accepted, which counts.
    pub(super) fn refuse(&self, why: Option<Refusal>, context: C) -> SubmitError<C> {
        self.shared.board.refusals.count(why);
        SubmitError::of(why, context)
    }

    /// The same for want of room.
    pub(super) fn refuse_full(&self, context: C) -> TrySubmitError<C> {
        self.shared.board.refusals.count_full();
        TrySubmitError::Full(context)
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
        // It may have been the last one that an ending pipeline waited for.
        self.shared.tell_reporter(ToReporter::Revoked);
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
            #[cfg(feature = "journal")]
            (Why::Conflict(id), _) => Err(SubmitError::KeyConflict(context, id)),
            (Why::Refused | Why::Known(_), _) => {
                Err(SubmitError::Unrecorded(context, error.text()))
            }
        }
    }

    /// A task that may be recorded by now, and whose `submit` was dropped. With a key it goes on once
    /// it is recorded, because its key is taken; without one it is cancelled.
    pub(super) fn leave_recording(self: &Arc<Self>, recording: Recording, context: Option<C>) {
        match context {
            Some(context) if recording.key.is_some() => {
                self.record_later(recording, context).leave_ticket();
            }
            context => {
                self.abandon(&recording.task.task);
                // Only now: its drop is the user's code.
                panic_guard::drop_quietly(context);
            }
        }
    }

    /// Leaves it to the reporter to wait until a task is recorded: then it goes on, or its ticket says why
    /// not. Returns its ticket's hold.
    pub(super) fn record_later(self: &Arc<Self>, recording: Recording, context: C) -> TaskRef {
        let Recording {
            task: NewTask { task, ticket },
            recorded,
            key,
        } = recording;
        task.details().is_recording = true;
        let (outbox, mut context) = (self.clone(), Unsent(Some(context)));
        let accepted = async move {
            let result = recorded.await;
            let Some(context) = context.0.take() else {
                return;
            };
            match result {
                Ok(()) => {
                    let ticket = task.clone();
                    recording_is_over(&outbox.accept(NewTask { task, ticket }, context, key));
                }
                Err(error) => outbox.unaccept_later(task, &error, key, context),
            }
        };
        let message = ToReporter::RunDetached(Box::pin(accepted));
        self.shared.tell_reporter(message);
        ticket
    }

    /// The ledger refused a task whose ticket is given.
    fn unaccept_later(
        &self,
        task: TaskRef,
        error: &LedgerError,
        key: Option<Arc<str>>,
        context: C,
    ) {
        if task.fail(0, Failure::new(error.clone())).is_err() {
            // It was stopped meanwhile, and the reporter gives it its outcome.
            if error.why() == Why::Broken {
                self.shared.suspend(error);
            }
            if let Some(room) = self.room() {
                room.add_permits(1);
            }
            return panic_guard::drop_quietly(context);
        }
        // From now on nobody can stop it.
        task.apply(Event::RolledBack).ok();
        let why = match (error.why(), key.clone()) {
            (Why::Known(task), Some(key)) => TicketAnswer::InLedger { task, key },
            (Why::Broken, _) => TicketAnswer::Suspended(error.text()),
            (_, _) => TicketAnswer::Unrecorded(error.text()),
        };
        let refused = self.unaccept(task.clone(), error, key, context);
        panic_guard::drop_quietly(refused);
        answer(&task, why);
        recording_is_over(&task);
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
