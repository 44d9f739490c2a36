//! Shows and steers batrun pipelines, inside your application: a page, a JSON API, server-sent events and metrics.
//!
//! ```no_run
//! use actix_web::{App, HttpServer};
//! use batrun::prelude::*;
//! use batrun_monitor::Monitor;
//!
//! # async fn serve(accounts: PipelineHandle<String, String>) -> std::io::Result<()> {
//! let monitor = Monitor::new().watch(&accounts); // more .watch(..) for more pipelines
//! HttpServer::new(move || App::new().service(monitor.mount("/batrun")))
//!     .bind("127.0.0.1:8080")?
//!     .run()
//!     .await // http://127.0.0.1:8080/batrun/
//! # }
//! ```
//!
//! As it stands, a SIGTERM ends the pipeline undrained: the guide's page `docs/guide/actors.md` shows the shutdown, under
//! "In a web service".
//!
//! - [`Monitor`] watches pipelines, weakly, and is mounted ([`Mount`]) or served alone ([`Serving`]).
//! - [`Access`] is what the sender of a request may see and do. Default: everything from this machine, nothing from
//!   elsewhere.
//! - [`MonitorCollector`] has the metrics for a registry of yours.
//! - [`ReportPage`] makes a page of a final report.
//!
//! The guide's page `docs/guide/monitor.md`, in `batrun::guide`, says the rest.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

// Bottom first: a module imports only from those above it.
mod access;
mod answer;
mod doors;
mod texts;
mod cluster;
mod warnings;
mod history;
mod readers;
mod journal_watch;
mod live;
mod sample;
mod streams;
mod signal;
mod shared;
mod sampler;
mod call;
mod groups;
mod look;
mod packed;
mod journal;
mod export;
mod search;
mod act;
mod metrics;
mod route;
mod openapi;
mod routes;
mod assets;
mod mount;
mod serve;
#[cfg(unix)]
mod serve_unix;
mod monitor;
mod report_page;

pub use access::{Access, Action};
pub use metrics::MonitorCollector;
pub use monitor::Monitor;
pub use mount::Mount;
pub use report_page::ReportPage;
pub use serve::Serving;
#[cfg(unix)]
pub use serve_unix::ServingUnix;

/// The code of the guide's page runs as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/monitor.md")]
struct Guide;

/// That of this page needs a web server, too.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/actors.md")]
struct Actors;
