//! A stream of outcomes as they come.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex},
    task::Context,
};

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
    Open(Sender),
    Closed,
}

/// An outcome on its way. Its failure's drop is code of the user's, which may listen, or stop listening,
/// itself; and the channel drops what it holds under locks of its own. So what is in the channel is
/// never the last hold: [`Recent`] has another one.
type Held = Arc<Outcome>;

#[derive(Clone)]
struct Sender {
    channel: broadcast::Sender<Held>,
    recent: Arc<Recent>,
}

/// A hold of every outcome that may be in the channel, in the order in which they were sent. Dropped
/// after the channel's last end.
#[derive(Default)]
struct Recent(Mutex<VecDeque<Held>>);

impl Recent {
    /// Adds one; returns what has left the channel, to be dropped under no lock.
    fn add(&self, outcome: Held) -> Option<Held> {
        let mut recent = panic_guard::lock(&self.0);
        let oldest = if recent.len() > LAG {
            recent.pop_front()
        } else {
            None
        };
        recent.push_back(outcome);
        oldest
    }

    fn clear(&self) {
        let all = mem::take(&mut *panic_guard::lock(&self.0));
        panic_guard::drop_quietly(all);
    }
}

impl OutcomeFeed {
    pub(crate) fn new() -> Self {
        OutcomeFeed(Mutex::new(Channel::Silent))
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        matches!(&*panic_guard::lock(&self.0), Channel::Open(sender) if sender.channel.receiver_count() > 0)
    }

    pub(crate) fn send(&self, outcome: &Outcome) {
        // Out of the lock: to send wakes listeners, and how that is done is theirs.
        let sender = match &*panic_guard::lock(&self.0) {
            Channel::Open(sender) => sender.clone(),
            Channel::Silent | Channel::Closed => return,
        };
        if sender.channel.receiver_count() == 0 {
            return sender.recent.clear();
        }
        let outcome = Arc::new(outcome.clone());
        let oldest = sender.recent.add(outcome.clone());
        sender.channel.send(outcome).ok();
        panic_guard::drop_quietly(oldest);
    }

    /// The pipeline has ended: streams end once they are read to their end.
    pub(crate) fn close(&self) {
        let before = mem::replace(&mut *panic_guard::lock(&self.0), Channel::Closed);
        drop(before);
    }

    pub(crate) fn listen(&self) -> impl Stream<Item = Result<Outcome, Lagged>> + Send + use<> {
        let mut channel = panic_guard::lock(&self.0);
        if let Channel::Silent = &*channel {
            *channel = Channel::Open(Sender {
                channel: broadcast::channel(LAG).0,
                recent: Arc::default(),
            });
        }
        let listener = match &*channel {
            // In this order: the first is dropped first.
            Channel::Open(sender) => Some((sender.channel.subscribe(), sender.recent.clone())),
            Channel::Silent | Channel::Closed => None,
        };
        drop(channel);
        let mut outcomes = Box::pin(stream::unfold(listener, async |listener| {
            let (mut receiver, recent) = listener?;
            match receiver.recv().await {
                Ok(outcome) => Some((Ok(Outcome::clone(&outcome)), Some((receiver, recent)))),
                Err(RecvError::Lagged(missed)) => {
                    Some((Err(Lagged(missed)), Some((receiver, recent))))
                }
                Err(RecvError::Closed) => None,
            }
        }));
        // Sending an outcome wakes the listener, whose waker may be the user's own.
        stream::poll_fn(move |cx| {
            let waker = panic_guard::quiet_waker(cx.waker());
            outcomes
                .as_mut()
                .poll_next(&mut Context::from_waker(&waker))
        })
    }
}
