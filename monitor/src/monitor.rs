//! The monitor: the pipelines that it watches, and the ways in which it is served.

use std::{
    net::ToSocketAddrs,
    sync::{Arc, PoisonError},
};

use actix_web::HttpRequest;
use batrun::{Control, PipelineHandle};

#[cfg(unix)]
use crate::serve_unix;
use crate::{
    access::Access,
    doors::Doors,
    live::Watched,
    metrics::MonitorCollector,
    mount::Mount,
    serve::{self, Serving},
    shared::Inner,
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
///
/// As it stands, a SIGTERM ends the pipeline undrained: the guide's page `docs/guide/actors.md` shows the shutdown, under
/// "In a web service".
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    inner: Arc<Inner>,
    doors: Doors,
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
        self.inner.signal.wake();
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
        let served = self.clone();
        let mount = move || served.mount("");
        serve::start(
            self.inner.clone(),
            mount,
            address,
            self.doors.hook.is_some(),
        )
    }

    /// The same on a socket in the file system, which only this process's user and root may open: its file has the
    /// mode 0600. Give the file other rights to let others in, or its folder. A socket that was left behind is
    /// replaced. Without an [`access`](Self::access) everybody who can open it may do everything; a request that came
    /// through a proxy is refused, since that one may be open to the world.
    ///
    /// `curl --unix-socket /run/shop/monitor http://localhost/api/v1/pipelines` asks it, and
    /// `ssh -L 8080:/run/shop/monitor host` brings its page to your browser, at `http://localhost:8080/`.
    ///
    /// # Errors
    /// The path can't be used: somebody listens on it, or there is a file that is no socket.
    #[cfg(unix)]
    pub fn serve_unix(
        &self,
        path: impl AsRef<std::path::Path>,
    ) -> std::io::Result<crate::ServingUnix> {
        let mut served = self.clone();
        served.doors.on_socket = true;
        let mount = move || served.mount("");
        serve_unix::start(self.inner.clone(), mount, path.as_ref())
    }

    /// The metrics as a `Collector`, for a registry of prometheus-client that your program has anyway:
    /// `registry.register_collector(Box::new(monitor.collector()))`.
    pub fn collector(&self) -> MonitorCollector {
        MonitorCollector(Arc::downgrade(&self.inner))
    }

    /// Ends all streams, so that a server that stops need not wait for them. Call it before
    /// `ServerHandle::stop` if a pipeline still runs then: streams end by themselves, with their next sample, once all
    /// pipelines have ended.
    pub fn close(&self) {
        self.inner.close();
    }
}
