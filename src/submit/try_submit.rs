//! Submitting a task without a wait.

use std::sync::Arc;

use tokio::sync::TryAcquireError;

use super::{
    error::{SubmitError, TrySubmitError},
    local_batch::{self, Permits},
    outbox::{NewTask, Outbox, Recording},
    waiting::{Offer, Slow},
};
use crate::{
    ledger::Recorded,
    task::{Names, TaskRef},
};

/// The ticket's hold, or why there is none.
type Answer<C> = Result<TaskRef, TrySubmitError<C>>;

/// Accepts a task if there is room now. `slow` is how far it has come if it was polled before: a
/// wait for room may hold the very room that is free, and a task that is being recorded is accepted
/// with that record or not at all.
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
        Some(Slow::Recording(Recording {
            task,
            recorded,
            key,
        })) => return settle(offer.outbox, context, task, recorded, key),
        // With the wait for room, which may hold the very room that is free.
        Some(Slow::New(names) | Slow::Full { names, .. }) => names,
        Some(Slow::Over) | None => Names::default(),
    };
    // A key is looked up in the journal, for which this call can't wait.
    if names.key.is_some() {
        return Err(TrySubmitError::Full(context));
    }
    take_up(&offer, context, names)
}

fn take_up<C: Send + 'static>(offer: &Offer<'_, C>, context: C, names: Names) -> Answer<C> {
    let Offer { outbox, limits, .. } = offer;
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
        return Err(SubmitError::of(Some(why), context).into());
    }
    match outbox.take_permits() {
        Ok(()) => {}
        Err(TryAcquireError::NoPermits) => return Err(TrySubmitError::Full(context)),
        Err(TryAcquireError::Closed) => {
            return Err(SubmitError::of(outbox.shared.table.refused(), context).into());
        }
    }
    match outbox.admit(&context, limits, names) {
        Ok((task, recorded)) => settle(outbox, context, task, recorded, None),
        Err(why) => {
            outbox.give_back_permits(1);
            Err(SubmitError::of(Some(why), context).into())
        }
    }
}

/// Accepts a task whose acceptance is recorded by now.
fn settle<C: Send + 'static>(
    outbox: &Outbox<C>,
    context: C,
    task: NewTask,
    recorded: Recorded,
    key: Option<Arc<str>>,
) -> Answer<C> {
    match recorded.ready() {
        Ok(Ok(())) => Ok(outbox.accept(task, context)),
        Ok(Err(error)) => Ok(outbox.unaccept(task.task, &error, key, context)?),
        // This call can't wait: take it back as a dropped `submit` does.
        Err(_later) => {
            outbox.abandon(&task.task);
            Err(TrySubmitError::Full(context))
        }
    }
}
