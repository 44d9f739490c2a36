//! A node: a process with the whole pipeline. All of them run this.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use actix_rt::signal::unix::{SignalKind, signal};
use batrun::{journal::Journal, prelude::*};

use crate::{
    AnyError,
    steps::{Effect, Order, step},
};

/// The pipeline's name. The submitter says the same.
pub(crate) const PIPELINE: &str = "orders";
/// The line that a node prints once it has started.
pub(crate) const UP: &str = "up";
/// The time that each stage takes for an order.
const PACE: Duration = Duration::from_millis(50);

/// The place of the journal, which all nodes and the submitter share.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) lease: Duration,
}

impl Place {
    pub(crate) async fn journal(&self) -> Result<Journal, AnyError> {
        let options = Journal::options().lease(self.lease).schema(&self.schema);
        Ok(options.postgres(&self.database).await?)
    }
}

/// Runs until SIGTERM, and then leaves its orders to the others; or until its lease is lost. `false` if
/// it was: the process has to end, and another one to start.
pub(crate) async fn run(place: &Place, world: SocketAddr, number: u32) -> Result<bool, AnyError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let step = |effect| step(effect, world, number, PACE);
    let orders: PipelineHandle<Order, Order> = Pipeline::new(PIPELINE)
        .journal(place.journal().await?)
        .max_in_flight(256)
        .stage(step(Effect::Reserve))
        .stage(step(Effect::Charge))
        .stage(step(Effect::Ship))
        .start()
        .await?;
    println!("{UP}");
    io::stdout().flush()?;
    let asked = tokio::select! {
        _ = terminate.recv() => true,
        _ = orders.ended() => false,
    };
    let report = match asked {
        true => orders.shutdown(Shutdown::Suspend).await?,
        false => orders.ended().await?,
    };
    eprintln!("{report}");
    Ok(asked)
}
