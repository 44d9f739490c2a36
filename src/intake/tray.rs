//! The quick way in: what a producer submits while its actor polls it.
//!
//! Nobody else has to do with these tasks until the poll is over, so they need no lock each: records
//! and permits are leased many at a time, and entered and sent on many at a time.

use std::{
    any::Any,
    cell::RefCell,
    mem,
    sync::{Arc, atomic::Ordering},
};

use super::{
    slip::{BATCH, Slip},
    terms::Terms,
};
use crate::{
    clock::{Clock, Reading},
    message::Batch,
    task::{Blank, Lease, Refused, TaskRef},
};

thread_local! {
    /// The one of the producer that is being polled on this thread.
    static TRAY: RefCell<Option<Box<Tray>>> = const { RefCell::new(None) };
}

/// How many holds of dropped tickets are kept for the next tasks.
const DROPPED: usize = 4 * BATCH;

pub(crate) struct Tray {
    /// Whose it is: a slip's address.
    slip: usize,
    /// A `Batch<C>`.
    batch: Box<dyn Any + Send>,
    lease: Option<Lease>,
    blanks: Vec<Blank>,
    reading: Reading,
    dropped: Vec<TaskRef>,
}

impl Tray {
    pub(super) fn new<C: Send + 'static>(slip: &Arc<Slip<C>>) -> Self {
        Tray {
            slip: Arc::as_ptr(slip).addr(),
            batch: Box::new(Batch::<C>::new()),
            lease: None,
            blanks: Vec::new(),
            reading: Reading::take(&slip.core.clock),
            dropped: Vec::new(),
        }
    }

    /// Puts it where `admit` finds it. Gives what was there: a poll within a poll.
    pub(super) fn set_out(mut tray: Box<Tray>, clock: &Clock) -> Option<Box<Tray>> {
        tray.reading = Reading::take(clock);
        TRAY.with(|place| place.replace(Some(tray)))
    }

    /// Takes it from there, and puts back what was there before.
    pub(super) fn take_in(before: Option<Box<Tray>>) -> Option<Box<Tray>> {
        TRAY.with(|place| place.replace(before))
    }

    /// Enters what was accepted and sends it on; gives back what was leased and not used.
    pub(super) fn send<C: Send + 'static>(&mut self, slip: &Slip<C>) {
        let Some(batch) = self.batch_of::<C>() else {
            return;
        };
        let batch = mem::replace(batch, Batch::new());
        let lease = self.lease.take();
        if batch.is_empty() && lease.is_none() && self.dropped.is_empty() {
            return;
        }
        let unused = lease.as_ref().map_or(0, Lease::left);
        let table = &slip.core.table;
        self.blanks = table.enter(&batch.tasks, &slip.lessee, lease, &mut self.dropped);
        slip.give_back_permits(unused);
        if !batch.is_empty() {
            slip.hop.send(batch);
        }
    }

    /// Makes sure of a record; `false` when there is no place or no room for it.
    #[inline(always)]
    fn prepare<C: Send + 'static>(
        &mut self,
        slip: &Slip<C>,
        has_permits: bool,
    ) -> Result<bool, Refused> {
        let left = self.lease.as_ref().map_or(0, Lease::left);
        if left > 0 {
            slip.give_back_permits(usize::from(has_permits));
            return Ok(true);
        }
        self.lease(slip, has_permits)
    }

    #[cold]
    fn lease<C: Send + 'static>(
        &mut self,
        slip: &Slip<C>,
        has_permits: bool,
    ) -> Result<bool, Refused> {
        // The lease before is used up, so there is nothing to give back; what was accepted waits for
        // the end of the poll, unless it fills a message.
        let waiting = self.batch_of::<C>().map_or(0, |batch| batch.len());
        if waiting >= BATCH {
            self.send(slip);
        }
        let most = match has_permits {
            true => 1,
            false => slip.take_most(BATCH - waiting % BATCH),
        };
        if most == 0 {
            return Ok(false);
        }
        match slip.core.table.lease(most, mem::take(&mut self.blanks)) {
            Ok(lease) => {
                self.lease = Some(lease);
                if let Some(batch) = self.batch_of::<C>()
                    && batch.is_empty()
                {
                    *batch = slip.hop.batch(most);
                }
                Ok(true)
            }
            Err(refused) => {
                slip.give_back_permits(most);
                Err(refused)
            }
        }
    }

    #[inline]
    fn batch_of<C: Send + 'static>(&mut self) -> Option<&mut Batch<C>> {
        self.batch.downcast_mut::<Batch<C>>()
    }
}

/// Accepts a task by the tray of the producer that is being polled on this thread, if it is this
/// slip's, and there is room or the caller holds the permits. The ticket's hold, or `None` where it
/// has to go the other way.
#[inline(always)]
pub(super) fn admit<C: Send + 'static>(
    slip: &Arc<Slip<C>>,
    context: &mut Option<C>,
    terms: &Terms,
    has_permits: bool,
) -> Option<Result<TaskRef, Refused>> {
    TRAY.try_with(|place| {
        // It is in use where a value of the user's that is dropped meanwhile submits something.
        let mut tray = place.try_borrow_mut().ok()?;
        let tray = tray.as_deref_mut()?;
        if tray.slip != Arc::as_ptr(slip).addr() {
            return None;
        }
        match tray.prepare(slip, has_permits) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(refused) => return Some(Err(refused)),
        }
        tray.reading.refresh(&slip.core.clock);
        let admission = terms.admission(tray.reading.now, tray.reading.count);
        let (task, ticket) = tray.lease.as_mut()?.admit(&admission)?;
        let (batch, context) = (tray.batch_of()?, context.take()?);
        batch.push(task, context);
        // Only this thread writes it, and a snapshot must not miss a task whose `submit` returned.
        let lessee = &slip.lessee;
        lessee.store(lessee.load(Ordering::Relaxed) + 1, Ordering::Release);
        log::debug!("task {} accepted", ticket.id());
        Some(Ok(ticket))
    })
    .ok()
    .flatten()
}

/// Keeps the hold of a ticket that was dropped, for the next task's.
pub(crate) fn keep(ticket: TaskRef) {
    TRAY.try_with(|place| {
        if let Ok(mut tray) = place.try_borrow_mut()
            && let Some(tray) = tray.as_deref_mut()
            && tray.dropped.len() < DROPPED
        {
            tray.dropped.push(ticket);
        }
    })
    .ok();
}
