//! Room for tasks that have not asked for any: it is taken from a semaphore as it comes back.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use tokio::sync::Semaphore;

use crate::shared::messages::Detached;

/// Takes the room that so many tasks fill, or, where there is less, all that comes back until they have
/// it: whoever asks later waits behind this. `None` if there was enough.
pub(crate) fn collect(room: &Arc<Semaphore>, filled: usize) -> Option<Detached> {
    let room = room.clone();
    let filled = u32::try_from(filled).unwrap_or(u32::MAX);
    let mut collector: Detached = Box::pin(async move {
        if let Ok(permits) = room.acquire_many_owned(filled).await {
            permits.forget();
        }
    });
    // This is what puts it into the semaphore's queue.
    let mut nobody = Context::from_waker(Waker::noop());
    collector
        .as_mut()
        .poll(&mut nobody)
        .is_pending()
        .then_some(collector)
}
