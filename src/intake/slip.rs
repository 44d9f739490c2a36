//! What was submitted and not sent on yet.

use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use actix::Recipient;
use tokio::sync::{Semaphore, TryAcquireError};

use super::{terms::Terms, tray::Tray};
use crate::{
    clock::NEVER,
    core::Core,
    error::SubmitError,
    guard,
    ledger::{Change, LedgerError, Recorded, Value, Why},
    message::{Batch, Hop, ToProducer, ToReporter},
    task::{Refused, StopCause, TaskRef},
    ticket::Ticket,
};

/// How many tasks go to the first pool at once.
pub(super) const BATCH: usize = 256;

/// A task that has its record: its own hold on it, and its ticket's.
pub(super) struct Admitted {
    pub(super) task: TaskRef,
    pub(super) ticket: TaskRef,
}

/// A task that is being recorded.
pub(super) struct Recording {
    pub(super) task: Admitted,
    pub(super) recorded: Recorded,
    pub(super) key: Option<Box<str>>,
}

/// What was submitted and not sent on yet. It gathers without waiting: its producer actor sends it
/// on after each poll of the user's future, or when told that something came in from elsewhere.
///
/// What the producer itself submits while it is polled goes by its [`Tray`].
pub(crate) struct Slip<C: Send + 'static> {
    pub(super) core: Arc<Core>,
    pub(super) hop: Hop<C>,
    pending: Mutex<Pending<C>>,
    flusher: OnceLock<Recipient<ToProducer>>,
    pub(super) lessee: Arc<AtomicU64>,
}

struct Pending<C> {
    batch: Batch<C>,
    /// The actor will flush without being told.
    expected: bool,
    /// The actor has left: nobody will flush, so each task goes by itself.
    direct: bool,
}

impl<C: Send + 'static> Slip<C> {
    pub(crate) fn new(core: Arc<Core>, hop: Hop<C>) -> Self {
        let lessee = core.table.lessee();
        Slip {
            core,
            hop,
            pending: Mutex::new(Pending {
                batch: Batch::new(),
                expected: false,
                direct: false,
            }),
            flusher: OnceLock::new(),
            lessee,
        }
    }

    pub(crate) fn set_flusher(&self, flusher: Recipient<ToProducer>) {
        self.flusher.set(flusher).ok();
    }

    pub(super) fn room(&self) -> Option<&Semaphore> {
        self.hop.room.as_deref()
    }

    fn push(&self, task: TaskRef, context: C) {
        let mut pending = guard::lock(&self.pending);
        pending.batch.push(task, context);
        if pending.batch.len() >= BATCH || pending.direct {
            let batch = mem::replace(&mut pending.batch, self.hop.batch(0));
            // Sent under the lock, so that tasks start in the order of acceptance.
            self.hop.send(batch);
        } else if !pending.expected {
            pending.expected = true;
            if let Some(flusher) = self.flusher.get() {
                flusher.do_send(ToProducer::Flush);
            }
        }
    }

    /// Polls the user's future with a tray at hand, then sends on what was submitted.
    pub(crate) fn with_tray<T>(
        self: &Arc<Self>,
        tray: &mut Option<Box<Tray>>,
        poll: impl FnOnce() -> T,
    ) -> T {
        guard::lock(&self.pending).expected = true;
        // A ledger must be asked before anything is accepted, one by one.
        if self.core.ledger.is_none() {
            let ready = tray.take().unwrap_or_else(|| Box::new(Tray::new(self)));
            *tray = Tray::set_out(ready, &self.core.clock);
            let polled = poll();
            let mut full = Tray::take_in(tray.take());
            if let Some(full) = &mut full {
                full.send(self);
            }
            *tray = full;
            self.flush();
            polled
        } else {
            let polled = poll();
            self.flush();
            polled
        }
    }

    /// The actor leaves. A task that was admitted before the intake closed may still come.
    pub(crate) fn leave(&self) {
        guard::lock(&self.pending).direct = true;
        self.flush();
    }

    pub(crate) fn flush(&self) {
        let mut pending = guard::lock(&self.pending);
        pending.expected = false;
        if !pending.batch.is_empty() {
            let batch = mem::replace(&mut pending.batch, self.hop.batch(0));
            self.hop.send(batch);
        }
    }

    /// Gives a task its record and records it. The caller holds its place and its room.
    pub(super) fn admit(
        &self,
        context: &C,
        terms: &Terms,
        key: Option<&str>,
    ) -> Result<(Admitted, Recorded), Refused> {
        let core = &self.core;
        let admission = terms.admission(core.clock.now(), core.clock.count());
        let (task, ticket) = core.table.admit(&admission)?;
        let id = task.id();
        let admitted = Admitted { task, ticket };
        if core.ledger.is_none() {
            return Ok((admitted, Recorded::now()));
        }
        let change = Change::Accepted {
            context: Value::of(context),
            key,
            deadline: core.left(admission.deadline),
            work_timeout: (admission.work_timeout != NEVER)
                .then(|| Duration::from_nanos(admission.work_timeout)),
        };
        let recorded = core.record(id, change);
        Ok((admitted, recorded))
    }

    /// The task is accepted: sends it on its way.
    pub(super) fn accept<O>(&self, Admitted { task, ticket }: Admitted, context: C) -> Ticket<O> {
        let id = task.id();
        log::debug!("task {id} accepted");
        self.push(task, context);
        Ticket::new(ticket)
    }

    /// Takes a place and room, if both are there now.
    pub(super) fn take_permits(&self) -> Result<(), TryAcquireError> {
        let place = self.core.table.places.try_acquire()?;
        if let Some(room) = self.room() {
            room.try_acquire()?.forget();
        }
        place.forget();
        Ok(())
    }

    /// Half of the places and of the room that there is, up to so much: the rest is for others.
    pub(super) fn take_most(&self, most: usize) -> usize {
        let places = &self.core.table.places;
        let mut there = places.available_permits();
        if let Some(room) = self.room() {
            there = there.min(room.available_permits());
        }
        let there = most.min(there.div_ceil(2));
        // Somebody else may have been quicker: then it is tried with one.
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
            self.core.table.places.add_permits(permits);
            if let Some(room) = self.room() {
                room.add_permits(permits);
            }
        }
    }

    /// The task was refused by the ledger: it never was one. The ticket of the one that it is
    /// instead, or the error.
    pub(super) fn unaccept<O>(
        &self,
        task: TaskRef,
        error: &LedgerError,
        key: Option<Box<str>>,
        context: C,
    ) -> Result<Ticket<O>, SubmitError<C>> {
        if self.core.table.revoke(task) {
            self.core.table.places.add_permits(1);
        }
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
        match (error.why(), key) {
            (Why::Known(id), Some(key)) => {
                guard::drop_quietly(context);
                Ok(Ticket::of_key(&self.core, id, key))
            }
            (Why::Broken, _) => {
                self.core.unrecorded(error);
                Err(SubmitError::Suspended(context))
            }
            (Why::Refused | Why::Known(_), _) => {
                Err(SubmitError::Unrecorded(context, error.text()))
            }
        }
    }

    /// A task with a key that is being recorded, and that nobody waits for any more: it goes on once
    /// that is done.
    pub(super) fn go_on_without(self: &Arc<Self>, recording: Recording, context: C) {
        let slip = self.clone();
        let Recording {
            task,
            recorded,
            key,
        } = recording;
        let accepted = async move {
            match recorded.await {
                Ok(()) => drop(slip.accept::<()>(task, context)),
                Err(error) => {
                    let refused = slip.unaccept::<()>(task.task, &error, key, context);
                    guard::drop_quietly(refused);
                }
            }
        };
        let message = ToReporter::Await(Box::pin(accepted));
        self.core.tell_reporter(message);
    }

    /// A task that was recorded, or may have been, and that nobody waits for any more.
    pub(super) fn abandon(&self, task: &TaskRef) {
        self.core.cancel(task, StopCause::User);
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
    }

    pub(super) fn refused(&self, context: C, why: Option<Refused>) -> SubmitError<C> {
        match why {
            None | Some(Refused::Closed) => SubmitError::Closed(context),
            Some(Refused::Stuck) => SubmitError::Stuck(context),
            Some(Refused::Suspended) => SubmitError::Suspended(context),
        }
    }
}
