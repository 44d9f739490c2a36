//! Shows and steers batrun pipelines, inside your application.

// Bottom first: a module imports only from those above it.
mod access;
mod answer;
mod doors;
mod texts;
mod warnings;
mod history;
mod live;
mod sample;
mod streams;
mod monitor;
mod sampler;
mod call;
mod groups;
mod look;
mod act;
mod metrics;
mod openapi;
mod routes;
mod assets;
mod mount;
mod serve;
mod report_page;

pub use access::{Access, Action};
pub use metrics::MonitorCollector;
pub use monitor::Monitor;
pub use mount::Mount;
pub use report_page::ReportPage;
pub use serve::Serving;
