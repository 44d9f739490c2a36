//! Traces: one request to a web service, seen from the request to the last undo.
//!
//! ```sh
//! cargo run -p batrun-example-traces --example traces                   # with a small collector of its own
//! cargo run -p batrun-example-traces --example traces -- --endpoint http://localhost:4318
//! ```
//!
//! `POST /orders` goes through three stages: a reservation, a payment, and a parcel, which fails for those who live
//! on the moon. Then the payment and the reservation are undone. All of that is one trace, whose spans go to a
//! collector over OTLP. With a collector of its own the program prints what arrived there; the exit code is 0 only if
//! it is what happened.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use awc::Client;
use clap::Parser;

use collector::Collector;
use service::Service;

mod collector;
mod export;
mod service;
#[cfg(test)]
mod tests;

type AnyError = Box<dyn std::error::Error>;

/// The names of the spans of a request that fails in the end, in the order in which they began.
const EXPECTED: [&str; 8] = [
    "POST /orders",
    "submit",
    "process reserve",
    "process charge",
    "bank",
    "process ship",
    "cancel charge",
    "cancel reserve",
];

/// Sends a request to a service whose pipeline fails and rolls back, and its trace to a collector.
#[derive(Parser)]
struct Options {
    /// Address of a collector that takes OTLP over HTTP, such as http://localhost:4318. Default: one that this
    /// program starts, to print what arrives.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    endpoint: Option<String>,
}

#[actix_web::main]
async fn main() -> Result<ExitCode, AnyError> {
    let options = Options::parse();
    let collector = match options.endpoint {
        Some(_) => None,
        None => Some(Collector::start()?),
    };
    let own = collector.as_ref().map(Collector::address);
    let endpoint = options.endpoint.or(own).ok_or("no collector")?;
    let exporting = export::start(&endpoint)?;

    let (trace, parent) = (new_trace(), "00f067aa0ba902b7");
    let service = Service::start().await?;
    let status = order(&service, "moon", &trace, parent).await?;
    service.stop().await?;
    exporting.end().await?;

    println!("the answer was {status}, and its trace is {trace}");
    let Some(collector) = collector else {
        println!("it was sent to {endpoint}");
        return Ok(ExitCode::SUCCESS);
    };
    let spans = collector.spans_of(&trace);
    print!("{}", collector::tree(&spans, parent));
    collector.stop().await;
    let titles: Vec<_> = spans.iter().map(collector::title).collect();
    if titles != EXPECTED {
        println!("collector: WRONG, it should be {EXPECTED:?}");
        return Ok(ExitCode::FAILURE);
    }
    println!("collector: one trace of {} spans", spans.len());
    Ok(ExitCode::SUCCESS)
}

/// A trace of this run's own.
fn new_trace() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{:032x}", since.map_or(1, |since| since.as_nanos()))
}

/// Orders something, as a client that has begun a trace. Returns the status of the answer.
async fn order(
    service: &Service,
    place: &str,
    trace: &str,
    parent: &str,
) -> Result<u16, awc::error::SendRequestError> {
    let request = Client::default()
        .post(format!("http://{}/orders", service.address))
        .insert_header(("traceparent", format!("00-{trace}-{parent}-01")));
    let answer = request.send_body(place.to_owned()).await?;
    Ok(answer.status().as_u16())
}
