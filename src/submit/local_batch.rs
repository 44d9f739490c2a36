//! The quick way in: tasks that a producer submits while its actor polls it.
//!
//! No other thread can see these tasks until the poll is over, so a submit takes no lock: it draws
//! a record, a permit and a number from a lease of up to [`BATCH`] of them. The batch is a
//! thread-local for the time of the poll, because that is the one place where a submit from within
//! the poll, and no other, finds it.

use std::{
    any::Any,
    cell::RefCell,
    mem,
    sync::{Arc, atomic::Ordering},
};

use super::outbox::{BATCH, Outbox};
use crate::{
    clock::{Clock, Reading},
    logging,
    shared::hop::Batch,
    task::{BlankRecord, Limits, RecordLease, Refusal, TaskRef},
};

thread_local! {
    /// That of the producer that is being polled on this thread.
    static CURRENT: RefCell<Option<Box<LocalBatch>>> = const { RefCell::new(None) };
}

/// The number of holds of dropped tickets that are kept for the next tasks.
const DROPPED: usize = 4 * BATCH;

/// A place and room for a task: its submit holds them already, or needs them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Permits {
    Held,
    Needed,
}

/// Tasks that were submitted during a poll of their producer and not sent on yet.
pub(crate) struct LocalBatch {
    /// The address of the outbox that it belongs to. Only compared, while that outbox is alive.
    outbox: usize,
    /// A `Batch<C>`; the thread-local can't name `C`.
    batch: Box<dyn Any + Send>,
    lease: Option<RecordLease>,
    /// The size of the next lease. What isn't used has to be given back, which costs as much as it was to get.
    next_lease: usize,
    /// Number of tasks that this poll has submitted and sent on.
    submitted: usize,
    /// Memory for the next lease.
    records: Vec<BlankRecord>,
    reading: Reading,
    dropped_tickets: Vec<TaskRef>,
}

impl LocalBatch {
    fn new<C: Send + 'static>(outbox: &Arc<Outbox<C>>) -> Self {
        LocalBatch {
            outbox: Arc::as_ptr(outbox).addr(),
            batch: Box::new(Batch::<C>::new()),
            lease: None,
            next_lease: 1,
            submitted: 0,
            records: Vec::new(),
            reading: Reading::take(&outbox.shared.clock),
            dropped_tickets: Vec::new(),
        }
    }

    /// Polls a producer's future with a batch at hand, then sends on what it has submitted. `batch` is
    /// empty at first, and is kept from one poll to the next.
    pub(crate) fn during<C: Send + 'static, T>(
        outbox: &Arc<Outbox<C>>,
        batch: &mut Option<Box<LocalBatch>>,
        poll: impl FnOnce() -> T,
    ) -> T {
        outbox.expect_flush();
        // A ledger must be asked before a task is accepted, one by one: no batch then.
        if outbox.shared.ledger.is_some() {
            let polled = poll();
            outbox.flush();
            return polled;
        }
        let ready = batch
            .take()
            .unwrap_or_else(|| Box::new(LocalBatch::new(outbox)));
        // There is one before it if this is a poll within a poll.
        let before = ready.put_in_place(&outbox.shared.clock);
        // The caller has guarded it, so it can't panic and leave this batch in place.
        let polled = poll();
        *batch = CURRENT.with(|current| current.replace(before));
        if let Some(filled) = batch {
            filled.send(outbox);
            // The next poll is likely to submit as many.
            filled.next_lease = mem::take(&mut filled.submitted).clamp(1, BATCH);
        }
        outbox.flush();
        polled
    }

    fn put_in_place(mut self: Box<Self>, clock: &Clock) -> Option<Box<LocalBatch>> {
        self.reading = Reading::take(clock);
        CURRENT.with(|current| current.replace(Some(self)))
    }

    /// Enters the accepted tasks into the table and sends them on. Gives back what was leased and not
    /// used.
    fn send<C: Send + 'static>(&mut self, outbox: &Outbox<C>) {
        let Some(batch) = self.batch_of::<C>() else {
            return;
        };
        let batch = mem::replace(batch, Batch::new());
        let lease = self.lease.take();
        if batch.is_empty() && lease.is_none() && self.dropped_tickets.is_empty() {
            return;
        }
        self.submitted += batch.len();
        let unused = lease.as_ref().map_or(0, RecordLease::left);
        let table = &outbox.shared.table;
        self.records = table.enter(
            &batch.tasks,
            &outbox.leased_count,
            lease,
            &mut self.dropped_tickets,
        );
        outbox.give_back_permits(unused);
        if !batch.is_empty() {
            outbox.hop.send(batch);
        }
    }

    /// Makes sure of a record; `false` when there is no place or no room for it.
    #[inline(always)]
    fn prepare<C: Send + 'static>(
        &mut self,
        outbox: &Outbox<C>,
        permits: Permits,
    ) -> Result<bool, Refusal> {
        let left = self.lease.as_ref().map_or(0, RecordLease::left);
        if left > 0 {
            // The lease has brought a place and room for each of its records.
            outbox.give_back_permits(usize::from(permits == Permits::Held));
            return Ok(true);
        }
        self.lease(outbox, permits)
    }

    #[cold]
    fn lease<C: Send + 'static>(
        &mut self,
        outbox: &Outbox<C>,
        permits: Permits,
    ) -> Result<bool, Refusal> {
        // The lease before is used up, so there is nothing to give back. Accepted tasks wait for the
        // end of the poll, unless they fill a message.
        let waiting = self.batch_of::<C>().map_or(0, |batch| batch.len());
        if waiting >= BATCH {
            self.send(outbox);
        }
        let most = match permits {
            Permits::Held => 1,
            // No more than fits into the message that is being filled: a whole one if that was sent.
            Permits::Needed => {
                let fits = BATCH - waiting % BATCH;
                outbox.take_most_permits(self.next_lease.min(fits))
            }
        };
        self.next_lease = (2 * self.next_lease).min(BATCH);
        if most == 0 {
            return Ok(false);
        }
        if let Some(used_up) = self.lease.take() {
            self.records = used_up.into_memory();
        }
        let memory = mem::take(&mut self.records);
        match outbox.shared.table.lease(most, memory) {
            Ok(lease) => {
                self.lease = Some(lease);
                if let Some(batch) = self.batch_of::<C>()
                    && batch.is_empty()
                {
                    *batch = outbox.hop.batch(most);
                }
                Ok(true)
            }
            Err(refusal) => {
                outbox.give_back_permits(most);
                Err(refusal)
            }
        }
    }

    #[inline]
    fn batch_of<C: Send + 'static>(&mut self) -> Option<&mut Batch<C>> {
        self.batch.downcast_mut::<Batch<C>>()
    }
}

/// Accepts a task through the batch of the producer that is being polled on this thread, if it is this
/// outbox's and there is room or the caller holds the permits. Returns the ticket's hold, or `None`
/// where the task has to go the other way.
#[inline(always)]
pub(super) fn admit<C: Send + 'static>(
    outbox: &Arc<Outbox<C>>,
    context: &mut Option<C>,
    limits: &Limits,
    permits: Permits,
) -> Option<Result<TaskRef, Refusal>> {
    CURRENT
        .try_with(|current| {
            // It is borrowed already if a value of the user's that is dropped in here submits a task.
            let mut current = current.try_borrow_mut().ok()?;
            let current = current.as_deref_mut()?;
            if current.outbox != Arc::as_ptr(outbox).addr() {
                return None;
            }
            match current.prepare(outbox, permits) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(refusal) => return Some(Err(refusal)),
            }
            current.reading.refresh_soon(&outbox.shared.clock);
            let (task, ticket) = current.lease.as_mut()?.admit(limits, &current.reading)?;
            let (batch, context) = (current.batch_of()?, context.take()?);
            batch.push(task, context);
            // A plain add, since only this thread writes it. A snapshot must not miss a task whose
            // `submit` has returned.
            let count = &outbox.leased_count;
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
            logging::debug!("task {} accepted", ticket.id());
            Some(Ok(ticket))
        })
        .ok()
        .flatten()
}

/// Keeps the hold of a dropped ticket for the next task's: counting holds up and down costs more than
/// all else that is done for most tasks here.
pub(super) fn keep(ticket: TaskRef) {
    CURRENT
        .try_with(|current| {
            if let Ok(mut current) = current.try_borrow_mut()
                && let Some(current) = current.as_deref_mut()
                && current.dropped_tickets.len() < DROPPED
            {
                current.dropped_tickets.push(ticket);
            }
        })
        .ok();
}
