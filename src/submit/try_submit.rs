//! Submitting a task without a wait.

use std::sync::Arc;

use tokio::sync::TryAcquireError;

use super::{
    error::{NO_JOURNAL, SubmitError, TrySubmitError},
    local_batch::{self, Permits},
    outbox::{Outbox, Recording},
    waiting::{Offer, Slow},
};
use crate::task::{Names, TaskRef};

/// The ticket's hold, or why there is none.
type Answer<C> = Result<TaskRef, TrySubmitError<C>>;

/// Accepts a task if there is room now. `slow` is how far it has come if it was polled before: a
/// wait for room may hold the very room that is free, and a task that is being recorded goes on with that
/// record.
///
/// # Panics
/// If it was polled to its end before.
pub(super) fn try_submit<C: Send + 'static>(
    mut offer: Offer<'_, C>,
    slow: Option<Box<Slow>>,
) -> Answer<C> {
    let Some(context) = offer.context.take() else {
        panic!("this task was submitted already");
    };
    let names = match slow.map(|slow| *slow) {
        Some(Slow::Recording(recording)) => return settle(offer.outbox, context, recording),
        // With the wait for room, which may hold the very room that is free.
        Some(Slow::New(names) | Slow::Full { names, .. }) => names,
        Some(Slow::Over) | None => Names::default(),
    };
    take_up(&offer, context, names)
}

fn take_up<C: Send + 'static>(offer: &Offer<'_, C>, context: C, names: Names) -> Answer<C> {
    let Offer { outbox, limits, .. } = offer;
    if names.key.is_some() && outbox.shared.ledger.is_none() {
        return Err(SubmitError::Unrecorded(context, NO_JOURNAL.into()).into());
    }
    let mut context = Some(context);
    let quick = local_batch::admit(outbox, &mut context, limits, Permits::Needed);
    let Some(context) = context else {
        return match quick {
            Some(Ok(ticket)) => {
                ticket.set_names(names);
                Ok(ticket)
            }
            // Only an accepted task leaves its context there.
            _ => unreachable!("accepted without a ticket"),
        };
    };
    if let Some(Err(why)) = quick {
        return Err(outbox.refuse(Some(why), context).into());
    }
    match outbox.take_permits() {
        Ok(()) => {}
        Err(TryAcquireError::NoPermits) => return Err(outbox.refuse_full(context)),
        Err(TryAcquireError::Closed) => {
            return Err(outbox.refuse(outbox.shared.table.refused(), context).into());
        }
    }
    let key = names.key.clone();
    match outbox.admit(&context, limits, names) {
        Ok((task, recorded)) => {
            let recording = Recording {
                task,
                recorded,
                key,
            };
            settle(outbox, context, recording)
        }
        Err(why) => {
            outbox.give_back_permits(1);
            Err(outbox.refuse(Some(why), context).into())
        }
    }
}

/// Accepts a task whose acceptance is recorded by now, or is going to be.
fn settle<C: Send + 'static>(
    outbox: &Arc<Outbox<C>>,
    context: C,
    recording: Recording,
) -> Answer<C> {
    let Recording {
        task,
        recorded,
        key,
    } = recording;
    match recorded.ready() {
        Ok(Ok(())) => Ok(outbox.accept(task, context, key)),
        Ok(Err(error)) => Ok(outbox.unaccept(task.task, &error, key, context)?),
        Err(recorded) => {
            let recording = Recording {
                task,
                recorded,
                key,
            };
            Ok(outbox.record_later(recording, context))
        }
    }
}
