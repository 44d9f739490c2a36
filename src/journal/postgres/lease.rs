//! A node, and the thread that renews its lease.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio_postgres::types::Type;

use super::{
    error::Trouble,
    server::{Schema, Server},
    session::{Connected, Session},
};
use crate::logging;

/// The lease is renewed so often before it runs out.
const RENEWALS: u32 = 5;

/// The answer to [`enter`].
pub(super) enum Entered {
    Node(i32),
    /// Another node lives; its lease runs for this long.
    Held(Duration),
}

/// Makes a node of this process, unless another one lives.
pub(super) async fn enter(
    connected: &mut Connected,
    schema: &Schema,
    lease: Duration,
) -> Result<Entered, Trouble> {
    let enter = schema.in_it("SELECT entered, wait FROM @.enter($1 * interval '1 second')");
    let enter = &enter;
    let client = &connected.client;
    let enter = client.prepare_typed(enter, &[Type::FLOAT8]).await?;
    let row = client.query_one(&enter, &[&lease.as_secs_f64()]).await?;
    if let Some(node) = row.try_get(0)? {
        return Ok(Entered::Node(node));
    }
    let wait: Option<f64> = row.try_get(1)?;
    let wait = Duration::try_from_secs_f64(wait.unwrap_or_default());
    Ok(Entered::Held(wait.unwrap_or_default()))
}

/// The thread that renews a node's lease. It ends with this.
pub(super) struct Renewal {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Renewal {
    /// It has a thread and a connection of its own, so that neither an arbiter that is blocked nor a long commit
    /// holds it up.
    pub(super) fn start(
        server: &Server,
        schema: &Schema,
        node: i32,
        (lease, answer): (Duration, Duration),
    ) -> io::Result<Self> {
        let mut session = Session::new(server.clone(), answer)?;
        let renew = schema.in_it(
            "UPDATE @.node SET lease_until = clock_timestamp() + lease WHERE id = $1 AND state = 'live'",
        );
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("batrun-lease".to_owned())
            .spawn(move || {
                let mut failing = false;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(lease / RENEWALS) {
                    let renewed = session.run(async |connected: &mut Connected| {
                        Ok(connected.client.execute(&renew, &[&node]).await?)
                    });
                    match renewed {
                        Ok(0) => {
                            // Its next commit says so, too.
                            logging::error!(
                                "another process has taken the journal over: the lease of this one had \
                                 run out; nothing of it is recorded any more"
                            );
                            return;
                        }
                        Ok(_) => failing = false,
                        Err(trouble) => {
                            let trouble = crate::journal::store::StoreError::from(trouble);
                            if !failing {
                                logging::warning!(
                                    "the lease on the journal could not be renewed, it is tried again: \
                                     {trouble}"
                                );
                            }
                            failing = true;
                        }
                    }
                }
            })?;
        Ok(Renewal {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends it, and waits for that.
    pub(super) fn stop(mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
