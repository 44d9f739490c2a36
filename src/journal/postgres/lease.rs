//! A node, and the thread that renews its lease.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio_postgres::types::Type;

use super::{
    changes::Param,
    error::Trouble,
    server::{Schema, Server},
    session::{Connected, Session},
};
use crate::{
    journal::{
        lease::{Lease, now},
        store::StoreError,
        time::wall_clock,
    },
    ledger::LedgerError,
    logging,
};

/// The lease is renewed so often before it runs out.
const RENEWALS: u32 = 5;

/// The answer to [`enter`].
pub(super) enum Entered {
    /// This one; the first of those that live now, or not.
    Node(EnteredNode),
    /// Nodes with other stages live; their leases run for this long.
    Held(Duration),
}

/// A node that lives from now on.
pub(super) struct EnteredNode {
    pub(super) id: i32,
    pub(super) first: bool,
    /// The time before its lease began, of [`now`].
    pub(super) sent: u64,
    /// The time of the server's clock, and those of this machine's before and after it was asked.
    clock: (i64, u64, u64),
}

impl EnteredNode {
    pub(super) fn lease(&self, length: Duration) -> Lease {
        let lease = Lease::new(length, self.sent);
        let (shared, before, after) = self.clock;
        lease.set_clock(shared, before, after);
        lease
    }
}

/// Makes a node of this process, unless some with other stages live.
pub(super) async fn enter(
    connected: &mut Connected,
    schema: &Schema,
    lease: Duration,
    stages: &str,
) -> Result<Entered, Trouble> {
    let (sent, before) = (now(), wall_clock());
    let enter = "SELECT entered, first, wait, clock FROM @.enter($1 * interval '1 second', $2)";
    let client = &connected.client;
    let types = [Type::FLOAT8, Type::TEXT];
    let enter = client.prepare_typed(&schema.in_it(enter), &types).await?;
    let params: [Param<'_>; 2] = [&lease.as_secs_f64(), &stages];
    let row = client.query_one(&enter, &params).await?;
    if let Some(id) = row.try_get(0)? {
        return Ok(Entered::Node(EnteredNode {
            id,
            first: row.try_get(1)?,
            sent,
            clock: (row.try_get(3)?, before, wall_clock()),
        }));
    }
    let wait: Option<f64> = row.try_get(2)?;
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
        length: Duration,
        lease: Arc<Lease>,
    ) -> io::Result<Self> {
        let every = length / RENEWALS;
        // So that the end of the lease isn't missed while an answer is waited for.
        let mut session = Session::new(server.clone(), every / 2)?;
        let renew = schema.in_it(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM @.renew($1)",
        );
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("batrun-lease".to_owned())
            .spawn(move || {
                let mut due = Instant::now() + every;
                let mut failing = false;
                loop {
                    let until_look = lease.look(now());
                    if lease.is_over() {
                        return;
                    }
                    let until_due = due.saturating_duration_since(Instant::now());
                    match stopped.recv_timeout(until_look.min(until_due)) {
                        Err(RecvTimeoutError::Timeout) => {}
                        _ => return,
                    }
                    if Instant::now() < due {
                        continue;
                    }
                    due = Instant::now() + every;
                    let (sent, before) = (now(), wall_clock());
                    let renewed = session.run(async |connected: &mut Connected| {
                        let row = connected.client.query_one(&renew, &[&node]).await?;
                        Ok(row.try_get(0)?)
                    });
                    match renewed {
                        Ok(shared) => {
                            lease.set_clock(shared, before, wall_clock());
                            lease.renew(sent);
                            failing = false;
                        }
                        Err(Trouble::Fenced) => {
                            let why = StoreError::from(Trouble::Fenced);
                            return lease.end(&LedgerError::new(why));
                        }
                        Err(trouble) if !failing => {
                            let why = StoreError::from(trouble);
                            logging::warning!(
                                "the lease on the journal could not be renewed, it is tried again: {why}"
                            );
                            failing = true;
                        }
                        Err(_) => {}
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
