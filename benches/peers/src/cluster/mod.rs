//! The workload `cluster`: tasks of which every transition is committed to one PostgreSQL server.
//!
//! Each run of a system has a database of its own, made before and dropped after it. A run's time begins when
//! the system has its tables and its connections, and so do the processor times of this process and of the
//! server.

mod gather;
mod server;
mod size;
mod usage;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::runtime::Builder;
use tokio_postgres::{NoTls, SimpleQueryMessage};

pub use self::{gather::Gather, server::Server, size::Sizes};
use crate::{
    child::cpu_time,
    durable::Passed,
    work::{Measure, Params},
};

/// The database of one run of a system. It is dropped with this.
pub struct Place {
    server: String,
    name: String,
    /// The server's first process, if it is on this machine.
    postmaster: Option<u32>,
}

impl Place {
    /// Makes the database, on a server with nothing left to write.
    ///
    /// # Errors
    /// The server doesn't answer, or doesn't let this user make a database.
    pub fn new(server: &str, system: &str) -> anyhow::Result<Self> {
        let name = format!("peers_{}", system.replace('-', "_"));
        execute(
            server,
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        )?;
        execute(server, &format!("CREATE DATABASE {name}"))?;
        execute(server, "CHECKPOINT")?;
        Ok(Place {
            postmaster: usage::postmaster(server),
            server: server.to_owned(),
            name,
        })
    }

    pub fn address(&self) -> String {
        database(&self.server, &self.name)
    }

    /// Looks at the size of the database's tables from now on.
    pub fn watch_size(&self) -> Sizes {
        Sizes::watch(self.address())
    }

    /// Starts the run's clocks.
    pub fn begin(&self) -> Clock {
        Clock {
            postmaster: self.postmaster,
            server: self.postmaster.and_then(usage::cpu),
            cpu: cpu_time(),
            began: Instant::now(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The next round drops it otherwise.
        execute(
            &self.server,
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        )
        .ok();
    }
}

/// The clocks of a run.
pub struct Clock {
    postmaster: Option<u32>,
    server: Option<Duration>,
    cpu: Duration,
    began: Instant,
}

/// The costs of a run.
#[derive(Clone, Copy, Default)]
pub struct Took {
    pub seconds: f64,
    pub cpu: Duration,
    /// `None` if the server is on another machine.
    pub server_cpu: Option<Duration>,
}

impl Clock {
    pub fn end(self) -> Took {
        let seconds = self.began.elapsed().as_secs_f64();
        let server = self.postmaster.and_then(usage::cpu);
        Took {
            seconds,
            cpu: cpu_time().saturating_sub(self.cpu),
            server_cpu: server
                .zip(self.server)
                .map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

/// Ends a run. `done` is the number of tasks that are known to be done.
pub fn finish(passed: &Passed, done: u64, took: Took) -> Measure {
    Measure {
        cpu: Some(took.cpu),
        server_cpu: took.server_cpu,
        ..passed.finish(done, took.seconds)
    }
}

/// The costs of a run that ends elsewhere.
pub type Told = Arc<Mutex<Option<Took>>>;

/// # Errors
/// It hasn't ended.
pub fn told(took: &Told) -> anyhow::Result<Took> {
    let took = took.lock().map_err(|_| anyhow!("a panic"))?;
    took.context("it ended early")
}

/// Maximum number of connections for libraries with a connection for each commit under way.
pub fn connections(params: &Params) -> u32 {
    crate::durable::in_flight(params).min(32) as u32
}

/// The address of another database of a server.
fn database(server: &str, name: &str) -> String {
    let (rest, query) = server
        .split_once('?')
        .map_or((server, ""), |(rest, query)| (rest, query));
    let from = rest.find("://").map_or(0, |at| at + 3);
    let end = rest[from..].find('/').map_or(rest.len(), |at| from + at);
    match query {
        "" => format!("{}/{name}", &rest[..end]),
        query => format!("{}/{name}?{query}", &rest[..end]),
    }
}

/// Runs one statement, and returns the first column of its rows.
///
/// # Errors
/// Those of the server.
fn execute(address: &str, statement: &str) -> anyhow::Result<Vec<String>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(address, NoTls)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        let connection = tokio::spawn(connection);
        let messages = client
            .simple_query(statement)
            .await
            .context(statement.to_owned())?;
        drop(client);
        connection.await?.ok();
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    })
}

/// Returns once a statement has a row.
///
/// # Errors
/// Those of the server.
pub async fn until(place: &Place, statement: &str) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(&place.address(), NoTls).await?;
    tokio::spawn(connection);
    while client.query_opt(statement, &[]).await?.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
