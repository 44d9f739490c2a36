//! A small collector: keeps the spans that are sent to it over OTLP.

use std::{
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, rt, web};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::any_value::Value,
    trace::v1::Span,
};
use prost::Message;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

pub(crate) struct Collector {
    address: SocketAddr,
    kept: Kept,
    server: ServerHandle,
}

impl Collector {
    /// Starts on a free port.
    pub(crate) fn start() -> io::Result<Self> {
        let kept = Kept::default();
        let data = kept.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(data.clone()))
                .route("/v1/traces", web::post().to(take))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        rt::spawn(server);
        Ok(Collector {
            address,
            kept,
            server: handle,
        })
    }

    /// As the option of the exporter.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of a trace, in the order in which they began.
    pub(crate) fn spans_of(&self, trace: &str) -> Vec<Span> {
        let kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |span: &&Span| hex(&span.trace_id) == trace;
        let mut spans: Vec<_> = kept.iter().filter(own).cloned().collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }
}

async fn take(kept: web::Data<Kept>, body: web::Bytes) -> HttpResponse {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return HttpResponse::BadRequest().finish();
    };
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend(spans);
    HttpResponse::Ok()
        .content_type("application/x-protobuf")
        .body(ExportTraceServiceResponse::default().encode_to_vec())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute of a span, as text.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// The name of a span, and the stage that it is about.
pub(crate) fn title(span: &Span) -> String {
    match attribute(span, "batrun.stage") {
        Some(stage) => format!("{} {stage}", span.name),
        None => span.name.clone(),
    }
}

/// The spans below this one, each a line.
pub(crate) fn tree(spans: &[Span], parent: &str) -> String {
    fn below(spans: &[Span], parent: &str, depth: usize, lines: &mut String) {
        for span in spans.iter().filter(|s| hex(&s.parent_span_id) == parent) {
            let why = attribute(span, "error.type");
            let why = why.map_or(String::new(), |why| format!("  ({why})"));
            let _ = writeln!(lines, "{:depth$}{}{why}", "", title(span));
            // A span that says that it is its own parent has nothing below it.
            if span.span_id != span.parent_span_id {
                below(spans, &hex(&span.span_id), depth + 2, lines);
            }
        }
    }
    let mut lines = String::new();
    below(spans, parent, 2, &mut lines);
    lines
}
