//! A web service with a pipeline behind it. `POST /accounts` reserves a name, writes a welcome file
//! and activates the account. If a step fails or is late, the undos run before the client is told.
//!
//! ```sh
//! cargo run -p batrun-examples-full --example web -- --drive 400       # sends itself requests, then SIGTERM
//! cargo run -p batrun-examples-full --example web -- --demo            # requests of its own, to watch in a browser
//! cargo run -p batrun-examples-full --example web                      # and from another terminal:
//! curl -i localhost:8080/accounts -H 'content-type: application/json' -d '{"name":"ada","pages":3}'
//! curl -i localhost:8080/accounts/ada
//! curl localhost:8080/pipeline
//! curl -i localhost:8080/ready
//! ```
//!
//! Its pipeline is to be watched and steered at <http://localhost:8080/batrun/>.
//!
//! Names that begin with `refused-` fail (422), those with `slow-` run into their deadline (504).
//! When it stops, on SIGINT or SIGTERM, it compares the accounts and the folder with the report; the
//! exit code is 0 only if they agree.

use std::{
    collections::BTreeMap, net::SocketAddr, pin::pin, process::ExitCode, sync::Arc, time::Duration,
};

use actix_web::rt::{
    self,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use awc::{Client, Connector};
use clap::Parser;
use futures::future::{join_all, select};
use nix::sys::signal::{Signal, raise};
use serde_json::json;

use service::{AnyError, Service};
use world::World;

mod demo;
mod service;
#[cfg(test)]
mod tests;
mod world;

/// Maximum time for an account.
const LIMIT: Duration = Duration::from_secs(1);
/// Time for accounts that are under way at the end.
const GRACE: Duration = Duration::from_secs(5);

/// A web service that takes back the effects of failed requests.
///
/// It ends on SIGINT (Ctrl-C) or SIGTERM: requests under way are finished, and the exit code is 0 if
/// accounts, files and report agree.
#[derive(Parser)]
struct Options {
    /// The port on 127.0.0.1; 0 for a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Start on a free port, send it N requests (good, failing, slow and broken ones), and SIGTERM
    /// before the last quarter of them.
    #[arg(long, value_name = "N")]
    drive: Option<usize>,
    /// Send it requests all the time: good, failing and slow ones, more than it can take now and then, and some
    /// whose undo gets stuck.
    #[arg(long, conflicts_with = "drive")]
    demo: bool,
}

#[actix_web::main]
async fn main() -> Result<ExitCode, AnyError> {
    env_logger::init();
    let options = Options::parse();
    let port = if options.drive.is_some() {
        0
    } else {
        options.port
    };
    // The signals are caught before the service starts, so that none kills it half-started.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let folder = tempfile::tempdir()?;
    let world = Arc::new(World::new(folder.path()));
    let service = Service::start(port, LIMIT, &world).await?;
    println!("listening on http://{}", service.address);
    println!(
        "the pipeline is shown on http://{}/batrun/",
        service.address
    );
    let driver = options.drive.map(|n| rt::spawn(drive(n, service.address)));
    let demo = options
        .demo
        .then(|| rt::spawn(demo::run(service.address, world.clone())));

    // A pipeline that ends by itself has nothing left to serve for.
    select(
        select(pin!(interrupt.recv()), pin!(terminate.recv())),
        pin!(service.accounts.ended()),
    )
    .await;
    let under_way = service.accounts.snapshot().in_flight;
    println!("stopping, with {under_way} accounts under way");
    let report = service.stop(GRACE).await?;
    let mut created = Vec::new();
    if let Some(driver) = driver {
        let answers = driver.await?;
        answers.show();
        created = answers.created;
    }
    println!("\n{report}");
    if let Some(demo) = demo {
        demo.abort();
        println!("world: not looked at, since the demo spoils some accounts");
        return Ok(ExitCode::SUCCESS);
    }
    match world.check(&report, &created) {
        Ok(accounts) => {
            println!("world: {accounts} accounts, each with its file, and nothing left of others");
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => {
            println!("world: WRONG, {wrong}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The answers that the driver got.
#[derive(Default)]
struct Answers {
    /// Number of requests by status; `None` for those without an answer.
    by_status: BTreeMap<Option<u16>, usize>,
    /// The names that were answered with 201.
    created: Vec<String>,
}

impl Answers {
    fn show(&self) {
        for (status, count) in &self.by_status {
            match status {
                Some(status) => println!("  {status}: {count}"),
                None => println!("  no answer: {count}"),
            }
        }
    }
}

/// A client that waits, for answers and to connect, for as long as the service takes.
fn client() -> Client {
    let connector = Connector::new()
        .limit(1_000)
        .timeout(Duration::from_secs(60));
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .finish()
}

/// Sends requests faster than the service can handle, then a SIGTERM, then the rest of the
/// requests.
async fn drive(n: usize, to: SocketAddr) -> Answers {
    let client = client();
    let before_the_signal = n * 3 / 4;
    let mut requests = Vec::new();
    for i in 0..n {
        if i == before_the_signal {
            raise(Signal::SIGTERM).ok();
        }
        requests.push(rt::spawn(request(client.clone(), to, i)));
        if i < before_the_signal {
            sleep(Duration::from_millis(4)).await;
        }
    }
    if n == 0 {
        raise(Signal::SIGTERM).ok();
    }
    let mut answers = Answers::default();
    for (name, status) in join_all(requests).await.into_iter().flatten() {
        *answers.by_status.entry(status).or_default() += 1;
        if status == Some(201) {
            answers.created.push(name);
        }
    }
    answers
}

/// Sends one request. Returns its name and the status of the answer.
async fn request(client: Client, to: SocketAddr, i: usize) -> (String, Option<u16>) {
    let kind = match i % 20 {
        3 | 14 => "slow",
        7 | 12 => "refused",
        _ => "good",
    };
    let name = format!("{kind}-{i}");
    let body = match i % 20 {
        17 => format!(r#"{{"name": "{name}", "pages": "#),
        _ => json!({ "name": name, "pages": i }).to_string(),
    };
    let answer = client
        .post(format!("http://{to}/accounts"))
        // On a connection of its own, as from as many clients.
        .force_close()
        .content_type("application/json")
        .send_body(body)
        .await;
    (name, answer.ok().map(|answer| answer.status().as_u16()))
}
