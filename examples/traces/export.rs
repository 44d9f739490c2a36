//! The way of spans out of the program: from `tracing` through OpenTelemetry to a collector.

use actix_web::web;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{filter::LevelFilter, prelude::*};

use crate::AnyError;

/// Spans are sent, until this is ended.
pub(crate) struct Exporting(SdkTracerProvider);

/// Sends all spans of this process to the collector at this address, many in a request, from a thread of its own.
pub(crate) fn start(endpoint: &str) -> Result<Exporting, AnyError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("orders").build())
        .with_batch_exporter(exporter)
        .build();
    // Says how the trace of a client is found in its request: by the header `traceparent`.
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("orders"))
        .with_threads(false)
        .with_location(false)
        .with_tracked_inactivity(false)
        // The exporter's own HTTP client has spans, too, below this level.
        .with_filter(LevelFilter::INFO);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    Ok(Exporting(provider))
}

impl Exporting {
    /// Sends all that is left, and says if that has arrived. Spans are not waited for: end what they are about
    /// before.
    pub(crate) async fn end(self) -> Result<(), AnyError> {
        // It waits for the answer of the collector.
        web::block(move || {
            let sent = self.0.force_flush();
            sent.and(self.0.shutdown())
        })
        .await?
        .map_err(|error| format!("the spans have not arrived: {error}").into())
    }
}
