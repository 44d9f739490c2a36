//! A node, and the thread that renews its lease.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
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
    text::escaped,
};
use crate::{
    journal::{
        lease::{Lease, now},
        rows::stage::StageRow,
        store::StoreError,
        time::wall_clock,
    },
    ledger::LedgerError,
    logging,
};

/// The lease is renewed so often before it runs out.
const RENEWALS: u32 = 5;

/// A node that lives from now on.
pub(super) struct EnteredNode {
    pub(super) id: i32,
    /// It is the first of those that live now and have stages.
    pub(super) first: bool,
    /// The number of its stages in their versions.
    pub(super) revision: i32,
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

/// Makes a node of this process. `None` while the first one that lives has not begun.
pub(super) async fn enter(
    connected: &mut Connected,
    schema: &Schema,
    lease: Duration,
    stages: &[StageRow],
) -> Result<Option<EnteredNode>, Trouble> {
    let (sent, before) = (now(), wall_clock());
    let enter = "SELECT entered, first, its_revision, clock \
                 FROM @.enter($1 * interval '1 second', $2, $3, $4, $5, $6)";
    let client = &connected.client;
    let types = [Type::FLOAT8, Type::TEXT, Type::TEXT];
    let enter = client.prepare_typed(&schema.in_it(enter), &types).await?;
    let names: Vec<_> = stages.iter().map(|stage| escaped(&stage.name)).collect();
    let versions: Vec<_> = stages
        .iter()
        .map(|stage| i64::from(stage.version))
        .collect();
    let sums: Vec<_> = stages.iter().map(|stage| stage.checksum as i32).collect();
    let (name, seconds, text) = (own_name(), lease.as_secs_f64(), stages_text(stages));
    let params: [Param<'_>; 6] = [&seconds, &name, &text, &names, &versions, &sums];
    let row = client.query_one(&enter, &params).await?;
    let Some(id) = row.try_get(0)? else {
        return Ok(None);
    };
    Ok(Some(EnteredNode {
        id,
        first: row.try_get(1)?,
        revision: row.try_get(2)?,
        sent,
        clock: (row.try_get(3)?, before, wall_clock()),
    }))
}

/// The stages with their versions: the same text for the same ones.
fn stages_text(stages: &[StageRow]) -> String {
    let stages = stages
        .iter()
        .map(|stage| format!("{:?} v{}", stage.name, stage.version));
    escaped(&stages.collect::<Vec<_>>().join(", ")).into_owned()
}

/// The process, for people: the machine's name and the process's number.
fn own_name() -> String {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    format!("{} {}", escaped(&machine), std::process::id())
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
        confirmed: Arc<AtomicI64>,
    ) -> io::Result<Self> {
        let every = length / RENEWALS;
        let mut session = Session::new(server.clone(), every)?;
        let renew = schema.in_it(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM @.renew($1, $2)",
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
                    let known = confirmed.load(Ordering::SeqCst);
                    // The end of the lease isn't missed while an answer is waited for.
                    let renewed = session.run_beside(
                        async |connected: &mut Connected| {
                            let row = connected.client.query_one(&renew, &[&node, &known]).await?;
                            Ok(row.try_get(0)?)
                        },
                        || lease.look(now()),
                    );
                    match renewed {
                        Ok(shared) => {
                            lease.set_clock(shared, before, wall_clock());
                            lease.renew(sent);
                            failing = false;
                        }
                        Err(trouble @ (Trouble::Fenced | Trouble::Missing(_))) => {
                            let why = StoreError::from(trouble);
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
