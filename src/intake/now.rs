//! Submitting a task without a wait.

use std::sync::Arc;

use tokio::sync::TryAcquireError;

use super::{
    slip::{Admitted, Slip},
    terms::Terms,
    tray,
};
use crate::{error::TrySubmitError, ledger::Recorded, ticket::Ticket};

pub(super) fn try_submit<C: Send + 'static, O>(
    slip: &Arc<Slip<C>>,
    context: C,
    terms: &Terms,
) -> Result<Ticket<O>, TrySubmitError<C>> {
    let mut context = Some(context);
    let quick = tray::admit(slip, &mut context, terms, false);
    let Some(context) = context else {
        return match quick {
            Some(Ok(ticket)) => Ok(Ticket::new(ticket)),
            // Only an accepted task leaves its context there.
            _ => unreachable!("accepted without a ticket"),
        };
    };
    if let Some(Err(why)) = quick {
        return Err(slip.refused(context, Some(why)).into());
    }
    match slip.take_permits() {
        Ok(()) => {}
        Err(TryAcquireError::NoPermits) => return Err(TrySubmitError::Full(context)),
        Err(TryAcquireError::Closed) => {
            return Err(slip.refused(context, slip.core.table.refused()).into());
        }
    }
    let (task, recorded) = match slip.admit(&context, terms, None) {
        Ok(admitted) => admitted,
        Err(why) => {
            slip.give_back_permits(1);
            return Err(slip.refused(context, Some(why)).into());
        }
    };
    settle_now(slip, context, task, recorded, None)
}

/// Accepts a task whose acceptance is recorded by now.
pub(super) fn settle_now<C: Send + 'static, O>(
    slip: &Slip<C>,
    context: C,
    task: Admitted,
    recorded: Recorded,
    key: Option<Box<str>>,
) -> Result<Ticket<O>, TrySubmitError<C>> {
    match recorded.ready() {
        Ok(Ok(())) => Ok(slip.accept(task, context)),
        Ok(Err(error)) => Ok(slip.unaccept(task.task, &error, key, context)?),
        // This call can't wait: take it back as a dropped `submit` does.
        Err(_later) => {
            slip.abandon(&task.task);
            Err(TrySubmitError::Full(context))
        }
    }
}
