//! `/metrics`: read from the counters that the pipelines have anyway, at the scrape. Labels are names of pipelines
//! and stages, and words of ours: never a number, a key or an error, which have no end.

mod journal;
mod scrape;

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

use crate::{
    answer::{Refused, Reply},
    call::Call,
    shared::Inner,
};
use scrape::Scrape;

pub(crate) fn metrics(call: &Call) -> Result<Reply, Refused> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MonitorCollector(std::sync::Arc::downgrade(
        &call.inner,
    ))));
    let mut body = String::new();
    let (kind, result) = match call.accept.contains("application/openmetrics-text") {
        true => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text::encode(&mut body, &registry),
        ),
        false => (
            "text/plain; version=0.0.4; charset=utf-8",
            prometheus_text::encode(&mut body, &registry),
        ),
    };
    result.map_err(|_| Refused::unavailable("the metrics can't be written"))?;
    Ok(Reply::of(kind, body.into_bytes()))
}

/// The metrics of a monitor for a registry of yours; made by [`Monitor::collector`](crate::Monitor::collector).
pub struct MonitorCollector(pub(crate) Weak<Inner>);

impl fmt::Debug for MonitorCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MonitorCollector")
    }
}

impl Collector for MonitorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.upgrade() {
            Some(inner) => Scrape::new(&inner).write(&inner, &mut encoder),
            None => Ok(()),
        }
    }
}
