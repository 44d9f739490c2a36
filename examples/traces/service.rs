//! The service: a pipeline of three stages behind a request, and the span of that request.

use std::{io, net::SocketAddr, time::Duration};

use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::MessageBody,
    dev::{ServerHandle, ServiceRequest, ServiceResponse},
    http::header::HeaderMap,
    middleware::{Next, from_fn},
    post, rt, web,
};
use batrun::prelude::*;
use opentelemetry::propagation::Extractor;
use tracing::{Instrument, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::AnyError;

/// Orders are places where something is to be sent.
type Orders = PipelineHandle<String, String>;

// --- the stages ---

async fn start_pipeline() -> Result<Orders, batrun::Error> {
    let reserve = stage_fn("reserve", async |to: String, task: &TaskContext<String>| {
        task.on_cancel(to.clone()).await?;
        Ok(to)
    })
    .cancel_with(async |_: String, _: &CancelContext| Ok(()));

    let charge = stage_fn("charge", async |to: String, task: &TaskContext<String>| {
        task.on_cancel(to.clone()).await?;
        // Spans of a stage are in the one of its call.
        async { tracing::debug!("paid") }
            .instrument(info_span!("bank", otel.kind = "client"))
            .await;
        Ok(to)
    })
    .cancel_with(async |_: String, _: &CancelContext| Ok(()));

    let ship = stage_fn("ship", async |to: String, _: &TaskContext<()>| {
        if to == "moon" {
            return Err(Failure::permanent("no parcel goes there"));
        }
        Ok(to)
    });

    Pipeline::new("orders")
        // The money goes back before others may have what was reserved.
        .order(Order::Lifo)
        .stage(reserve)
        .stage(charge)
        .stage(ship)
        .start()
        .await
}

// --- the requests ---

#[post("/orders")]
async fn create(orders: web::Data<Orders>, place: String) -> HttpResponse {
    // In the span of the request: the submit's is within that one.
    let outcome = match orders.submit(place).await {
        Ok(ticket) => ticket.outcome().await,
        Err(refused) => {
            return HttpResponse::ServiceUnavailable().body(format!("{refused}"));
        }
    };
    match outcome {
        Ok(outcome) if outcome.is_done() => HttpResponse::Created().finish(),
        Ok(outcome) => HttpResponse::UnprocessableEntity().body(outcome.to_string()),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// Headers, for OpenTelemetry to look for a trace in.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// Gives each request a span, in the trace of its client if that has one.
async fn in_a_span(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let route = request.match_pattern().unwrap_or_default();
    let span = info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %request.method(),
        http.route = route,
        http.response.status_code = Empty,
    );
    let caller = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // A request without a trace begins one.
    span.set_parent(caller).ok();
    let response = next.call(request).instrument(span.clone()).await?;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    Ok(response)
}

// --- from start to stop ---

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    orders: Orders,
    server: ServerHandle,
    serving: rt::task::JoinHandle<io::Result<()>>,
}

impl Service {
    /// Starts on a free port.
    pub(crate) async fn start() -> Result<Self, AnyError> {
        let orders = start_pipeline().await?;
        let data = web::Data::new(orders.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .wrap(from_fn(in_a_span))
                .service(create)
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or("no address")?;
        let server = server.run();
        Ok(Service {
            address,
            orders,
            server: server.handle(),
            serving: rt::spawn(server),
        })
    }

    /// Stops once all orders have their outcome. Then their spans are closed.
    pub(crate) async fn stop(self) -> Result<(), AnyError> {
        let drain = Shutdown::Drain(Duration::from_secs(10));
        self.orders.shutdown(drain).await?;
        self.server.stop(true).await;
        Ok(self.serving.await??)
    }
}
