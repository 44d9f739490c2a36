//! The state that all mounts and threads of a monitor share.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::Instant,
};

use tokio::sync::watch;

use crate::{
    doors::ActionLimit, live::Watched, readers::Readers, sample::Sampled, signal::Signal,
    streams::Streams, texts::Texts,
};

/// The state that all mounts and threads of a monitor share.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) watched: RwLock<Vec<Arc<Watched>>>,
    pub(crate) texts: RwLock<Texts>,
    pub(crate) buckets: RwLock<Option<Vec<f64>>>,
    pub(crate) newest: watch::Sender<Arc<Sampled>>,
    /// The last sample, and when it was taken.
    pub(crate) fresh: Mutex<Option<(Instant, Arc<Sampled>)>>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) streams: Streams,
    pub(crate) actions: ActionLimit,
    pub(crate) readers: Readers,
    /// Held while somebody exports finished tasks.
    pub(crate) exporting: Mutex<()>,
    /// The cost of sampling so far, in nanoseconds.
    pub(crate) cost: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("pipelines", &self.pipelines().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.signal.end();
    }
}

impl Inner {
    pub(crate) fn pipelines(&self) -> Vec<Arc<Watched>> {
        self.watched
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        let closed = Sampled {
            closed: true,
            ..Sampled::default()
        };
        self.newest.send_replace(Arc::new(closed));
    }

    pub(crate) fn texts(&self) -> Texts {
        self.texts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
