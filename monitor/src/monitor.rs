//! The monitor: the pipelines that it watches, and what all its mounts share.

use std::{
    fmt,
    net::ToSocketAddrs,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use actix_web::HttpRequest;
use batrun::{Control, PipelineHandle};
use tokio::sync::watch;

use crate::{
    access::Access,
    doors::{ActionLimit, Doors},
    live::Watched,
    metrics::MonitorCollector,
    mount::Mount,
    sample::Sampled,
    sampler::Signal,
    serve::{self, Serving},
    streams::Streams,
    texts::Texts,
};

/// Shows pipelines, and steers them. Cheap to clone; all clones are one monitor.
///
/// It is weak: a pipeline ends as if nobody watched it, and is shown as it was at its end.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use batrun::prelude::*;
/// use batrun_monitor::Monitor;
///
/// #[actix_web::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let double = stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n));
///     let numbers = Pipeline::new("numbers").stage(double).start().await?;
///
///     let monitor = Monitor::new().watch(&numbers);
///     let server = HttpServer::new(move || App::new().service(monitor.mount("/batrun")));
///     server.bind("127.0.0.1:8080")?.run().await?; // http://127.0.0.1:8080/batrun/
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    pub(crate) inner: Arc<Inner>,
    doors: Doors,
}

/// What all mounts and threads of a monitor share.
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
    /// What sampling has cost, in nanoseconds.
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

    pub(crate) fn texts(&self) -> Texts {
        self.texts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Monitor {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches this pipeline, too. Pipelines are shown in the order of these calls; one that has ended stays.
    pub fn watch<I: Send + 'static, O: Send + 'static>(
        self,
        pipeline: &PipelineHandle<I, O>,
    ) -> Self {
        self.watch_control(pipeline.control())
    }

    /// The same for one whose [`Control`] you have.
    pub fn watch_control(self, control: Control) -> Self {
        let watched = Arc::new(Watched::new(control));
        let mut all = self
            .inner
            .watched
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(watched);
        drop(all);
        *self
            .inner
            .fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self
    }

    /// Changes every text of yours before it is shown: the errors of stages, the undos, the progress. Default: as it
    /// is.
    pub fn redact(self, redact: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        *self
            .inner
            .texts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Texts(Some(Arc::new(redact)));
        self
    }

    /// The upper bounds of the buckets of histograms in `/metrics`, in seconds, ascending. Default: 17 from 10 µs to
    /// 300 s.
    pub fn buckets(self, seconds: impl IntoIterator<Item = f64>) -> Self {
        let mut bounds: Vec<f64> = seconds
            .into_iter()
            .filter(|bound| bound.is_finite() && *bound > 0.0)
            .collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        *self
            .inner
            .buckets
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(bounds);
        self
    }

    /// Says what the sender of a request may see and do, for all mounts that don't say it themselves: see
    /// [`Mount::access`].
    pub fn access(mut self, hook: impl Fn(&HttpRequest) -> Access + Send + Sync + 'static) -> Self {
        self.doors.hook = Some(Arc::new(hook));
        self
    }

    /// The monitor as a service of an actix-web application, below this path. Without
    /// [`access`](Mount::access) it answers only requests from its own machine.
    pub fn mount(&self, path: &str) -> Mount {
        self.inner.start_sampling();
        Mount::new(path, self.inner.clone(), self.doors.clone())
    }

    /// Serves it alone, for programs that have no web server: on a thread of its own, until the returned value is
    /// dropped. Port 0 stands for a free one.
    ///
    /// # Errors
    /// The address can't be used; or it can be reached from elsewhere, and no [`access`](Self::access) says who may
    /// do what.
    pub fn serve(&self, address: impl ToSocketAddrs) -> std::io::Result<Serving> {
        serve::start(self, address, self.doors.hook.is_some())
    }

    /// The metrics as a `Collector`, for a registry of prometheus-client that your program has anyway:
    /// `registry.register_collector(Box::new(monitor.collector()))`.
    pub fn collector(&self) -> MonitorCollector {
        MonitorCollector(Arc::downgrade(&self.inner))
    }

    /// Ends all streams, so that a server that stops need not wait for them. Call it before
    /// `ServerHandle::stop`. They end as well once all pipelines have ended.
    pub fn close(&self) {
        let closed = Sampled {
            closed: true,
            ..Sampled::default()
        };
        self.inner.newest.send_replace(Arc::new(closed));
    }
}

/// A sample that is no older than this is new enough.
pub(crate) const FRESH: Duration = Duration::from_millis(250);
