//! A connection that is made anew as often as it takes.

use std::{
    future::Future,
    io,
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{Client, Statement};

use super::{error::Trouble, server::Server};

/// The pause before another connection is tried, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Settings of each connection. A transaction doesn't wait for its client, so one that does is that of a
/// process which has stopped in the middle, and its locks must not stay. Where indexes are insisted on, plans look
/// so costly that the server would compile them, which takes a second.
const SETTINGS: &str =
    "SET idle_in_transaction_session_timeout = '2s'; SET jit = off; SET enable_seqscan = off";

/// Runs futures on the thread that calls.
pub(super) struct Session {
    server: Server,
    /// The longest time to wait for an answer, before the connection is given up and what came of the statement
    /// is read on another one.
    answer: Duration,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
    connected: Option<Connected>,
}

/// A connection.
pub(super) struct Connected {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    /// The statement that makes commits.
    pub(super) change: Option<Statement>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connected = None;
        // It may be dropped on an arbiter, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    pub(super) fn new(server: Server, answer: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Session {
            server,
            answer,
            runtime: Some(runtime),
            connected: None,
        })
    }

    /// Sets the longest time to wait for an answer.
    pub(super) fn answers_within(&mut self, answer: Duration) {
        self.answer = answer;
    }

    /// Runs a future on the connection, which is made first if there is none. After a loss there is none.
    pub(super) fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connected) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        // A sleep this long is never over.
        self.run_beside(work, || Duration::from_secs(86_400))
    }

    /// The same, and calls `look` meanwhile, which says after which time it wants to be called again.
    pub(super) fn run_beside<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connected) -> Result<T, Trouble>,
        look: impl Fn() -> Duration,
    ) -> Result<T, Trouble> {
        let Some(runtime) = &self.runtime else {
            return Err(Trouble::Refused("the journal is closed".to_owned()));
        };
        let (server, connected, answer) = (&self.server, &mut self.connected, self.answer);
        let whole = in_time(answer, async {
            if connected
                .as_ref()
                .is_none_or(|connected| connected.client.is_closed())
            {
                *connected = Some(connect(server, answer).await?);
            }
            match connected {
                Some(connected) => work(connected).await,
                None => Err(Trouble::Lost("there is no connection".to_owned())),
            }
        });
        let result = runtime.block_on(async {
            let mut whole = pin!(whole);
            loop {
                if let Ok(done) = timeout(look(), &mut whole).await {
                    return done;
                }
            }
        });
        if matches!(result, Err(Trouble::Lost(_) | Trouble::Later(_))) {
            self.connected = None;
        }
        result
    }

    /// As [`run`](Self::run), again and again for this long as long as there is hope. It must not matter if the
    /// work is done twice.
    pub(super) fn run_patiently<T>(
        &mut self,
        patience: Duration,
        mut work: impl AsyncFnMut(&mut Connected) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut pauses = Pauses::new(patience);
        loop {
            match self.run(&mut work) {
                Err(trouble @ (Trouble::Lost(_) | Trouble::Later(_))) => pauses.after(trouble)?,
                done => return done,
            }
        }
    }
}

/// The pauses between attempts, until patience ends.
pub(super) struct Pauses {
    until: Instant,
    next: Duration,
    patience: Duration,
}

impl Pauses {
    pub(super) fn new(patience: Duration) -> Self {
        Pauses {
            until: Instant::now() + patience,
            next: FIRST_PAUSE,
            patience,
        }
    }

    /// Waits for the next attempt, or fails with the trouble of the last one.
    pub(super) fn after(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if Instant::now() + self.next > self.until {
            let patience = self.patience;
            return Err(match trouble {
                Trouble::Lost(why) | Trouble::Later(why) if !patience.is_zero() => {
                    Trouble::Lost(format!("{why} (tried again for {patience:?})"))
                }
                other => other,
            });
        }
        thread::sleep(self.next);
        self.next = (2 * self.next).min(LONGEST_PAUSE);
        Ok(())
    }
}

async fn in_time<T>(
    answer: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    timeout(answer, work).await.unwrap_or_else(|_| {
        let why = format!("the server has not answered within {answer:?}");
        Err(Trouble::Lost(why))
    })
}

async fn connect(server: &Server, within: Duration) -> Result<Connected, Trouble> {
    let (client, connection) = server.connect(within).await?;
    let driver = tokio::spawn(connection);
    let connected = Connected {
        client,
        driver,
        change: None,
    };
    connected.client.batch_execute(SETTINGS).await?;
    Ok(connected)
}
