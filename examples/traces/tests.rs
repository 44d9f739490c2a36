//! The trace of a request that fails in the end, as it arrives at a collector.

#![allow(clippy::unwrap_used)]

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};

use crate::{
    EXPECTED,
    collector::{Collector, attribute, hex, title},
    export, order,
    service::Service,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

#[actix_web::test]
async fn one_trace_leads_from_the_request_to_the_last_undo() {
    let collector = Collector::start().unwrap();
    let exporting = export::start(&collector.address()).unwrap();
    let service = Service::start().await.unwrap();
    assert_eq!(order(&service, "moon", TRACE, CLIENT).await.unwrap(), 422);
    // A request of another trace doesn't get into this one.
    let other = "4bf92f3577b34da6a3ce929d0e0e4737";
    assert_eq!(order(&service, "earth", other, CLIENT).await.unwrap(), 201);
    service.stop().await.unwrap();
    exporting.end().await.unwrap();
    let (spans, others) = (collector.spans_of(TRACE), collector.spans_of(other));
    collector.stop().await;

    let titles: Vec<_> = spans.iter().map(title).collect();
    assert_eq!(titles, EXPECTED);
    let [
        request,
        submit,
        reserve,
        charge,
        bank,
        ship,
        refund,
        release,
    ] = &spans[..]
    else {
        unreachable!()
    };

    let parent = |span: &Span| hex(&span.parent_span_id);
    assert_eq!(parent(request), CLIENT);
    assert_eq!(parent(submit), hex(&request.span_id));
    for span in [reserve, charge, ship, refund, release] {
        assert_eq!(parent(span), hex(&submit.span_id), "{}", title(span));
    }
    assert_eq!(parent(bank), hex(&charge.span_id));
    // The request waits for the last undo, and the submit's span is open until the task has its outcome.
    for span in &spans[1..] {
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= submit.end_time_unix_nano);
    }

    let kinds: Vec<_> = spans.iter().map(Span::kind).collect();
    let (producer, consumer) = (SpanKind::Producer, SpanKind::Consumer);
    assert_eq!(
        kinds[..5],
        [
            SpanKind::Server,
            producer,
            consumer,
            consumer,
            SpanKind::Client
        ]
    );
    assert_eq!(kinds[5..], [consumer; 3]);

    let says = |span: &Span, name: &str| attribute(span, name).unwrap_or_default();
    assert_eq!(says(request, "http.route"), "/orders");
    assert_eq!(says(request, "http.response.status_code"), "422");
    for span in [submit, reserve, charge, ship, refund, release] {
        assert_eq!(says(span, "messaging.system"), "batrun");
        assert_eq!(says(span, "messaging.operation.name"), span.name);
        assert_eq!(says(span, "messaging.destination.name"), "orders");
        assert_eq!(says(span, "messaging.message.id"), "1");
        let kind = if span == submit { "send" } else { "process" };
        assert_eq!(says(span, "messaging.operation.type"), kind);
    }
    for span in [reserve, charge, ship, refund, release] {
        assert_eq!(says(span, "batrun.attempt"), "1");
    }
    // Undos by their numbers in the task: the payment's is the second.
    assert_eq!(says(refund, "batrun.undo"), "1");
    assert_eq!(says(release, "batrun.undo"), "0");

    // An error is one on its own span only.
    for span in &spans {
        let failed = span
            .status
            .as_ref()
            .is_some_and(|status| status.code() == StatusCode::Error);
        assert_eq!(failed, span == ship, "{}", title(span));
        let why = attribute(span, "error.type");
        assert_eq!(why.as_deref(), (span == ship).then_some("failed"));
    }
    // No value of the user's is in any of them.
    assert!(!format!("{spans:?}").contains("moon"));

    let titles: Vec<_> = others.iter().map(title).collect();
    assert_eq!(titles, EXPECTED[..6]);
}
