//! A stream of outcomes as they come.

use std::sync::Mutex;

use futures::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{panic_guard, task::Outcome};

/// The number of outcomes that a listener may lag behind.
const LAG: usize = 1024;

/// A listener was too slow and missed this many outcomes. It goes on with those after them.
///
/// It may be 1,024 outcomes behind. The [`Report`](super::Report)'s counts miss none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the listener was more than 1,024 outcomes behind and missed {0}; read faster")]
pub struct Lagged(pub u64);

/// The reporter sends each outcome here, for the streams that read them.
pub(crate) struct OutcomeFeed(Mutex<Channel>);

enum Channel {
    /// Nobody has listened yet.
    Silent,
    Open(broadcast::Sender<Outcome>),
    Closed,
}

impl OutcomeFeed {
    pub(crate) fn new() -> Self {
        OutcomeFeed(Mutex::new(Channel::Silent))
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        matches!(&*panic_guard::lock(&self.0), Channel::Open(sender) if sender.receiver_count() > 0)
    }

    pub(crate) fn send(&self, outcome: &Outcome) {
        if let Channel::Open(sender) = &*panic_guard::lock(&self.0) {
            sender.send(outcome.clone()).ok();
        }
    }

    /// The pipeline has ended: streams end once they are read to their end.
    pub(crate) fn close(&self) {
        *panic_guard::lock(&self.0) = Channel::Closed;
    }

    pub(crate) fn listen(&self) -> impl Stream<Item = Result<Outcome, Lagged>> + Send + use<> {
        let mut channel = panic_guard::lock(&self.0);
        if let Channel::Silent = &*channel {
            *channel = Channel::Open(broadcast::channel(LAG).0);
        }
        let receiver = match &*channel {
            Channel::Open(sender) => Some(sender.subscribe()),
            Channel::Silent | Channel::Closed => None,
        };
        stream::unfold(receiver, async |receiver| {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(outcome) => Some((Ok(outcome), Some(receiver))),
                Err(RecvError::Lagged(missed)) => Some((Err(Lagged(missed)), Some(receiver))),
                Err(RecvError::Closed) => None,
            }
        })
    }
}
