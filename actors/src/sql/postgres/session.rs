//! A connection, and a transaction on it.

use std::{
    future::{Future, pending},
    pin::pin,
    time::Duration,
};

use batrun::{Failure, TaskContext};
use batrun_connect::postgres::{Address, MakeRustlsConnect, connector};
use futures::future::{Either, select};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, Error, SimpleQueryMessage, types::ToSql};

use super::{
    PATIENCE,
    failures::{failure, is_refusal, unknown},
};
use crate::sql::{Broken, SqlUndo, Statement, stopped};

/// Pause before a server is asked again to stop a statement. One request isn't enough, because one
/// that arrives before its statement does nothing.
const AGAIN: Duration = Duration::from_millis(500);

/// Has the server look once a second, amid a statement, whether its client is still there (since
/// PostgreSQL 14), and tells the statement timeout in milliseconds. Without effect where the
/// program has set it, in `options`.
const SETTINGS: &str = "SELECT setting, (\
        SELECT set_config(name, '1s', false) FROM pg_settings \
        WHERE name = 'client_connection_check_interval' AND setting = '0'\
    ) FROM pg_settings WHERE name = 'statement_timeout'";

/// A connection. Dropping it closes it, and asks the server to stop a statement that is under way.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) connection: JoinHandle<()>,
    tls: MakeRustlsConnect,
    /// The server's own limit of a statement, in milliseconds; 0 is none. `None` if it isn't known.
    limit: Option<u64>,
    /// `true` amid a transaction.
    busy: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
        // Otherwise the server finds out only when it looks, or when the statement is over.
        if self.busy
            && let Ok(runtime) = Handle::try_current()
        {
            let (token, tls) = (self.client.cancel_token(), self.tls.clone());
            runtime.spawn(async move {
                timeout(PATIENCE, token.cancel_query(tls)).await.ok();
            });
        }
    }
}

pub(super) type Task<'a, 'b> = Option<&'a TaskContext<'b, SqlUndo>>;

/// The reason for which a transaction stopped before its COMMIT.
enum Halt {
    Failed(Failure),
    /// The task is being stopped. The connection must not be used again: a request to stop a
    /// statement may still be on its way, and would stop one of the next transaction's.
    Stopped,
    /// The task is being stopped, and the server doesn't answer.
    Silent,
}

impl Session {
    /// # Cancel safety
    /// If the future is dropped, a connection that was opened is closed.
    pub(super) async fn open(address: &str) -> Result<Self, Failure> {
        let address = Address::parse(address).map_err(|mistake| {
            Failure::permanent(format!("the connection string of Sql::postgres: {mistake}"))
        })?;
        let tls = connector(&address).map_err(Failure::permanent)?;
        let connecting = address.config().connect(tls.clone());
        let (client, connection) = connecting.await.map_err(failure)?;
        let connection = actix_rt::spawn(async move {
            // Its error needs no handling here: the statement under way fails with the same one.
            connection.await.ok();
        });
        let mut session = Session {
            client,
            connection,
            tls,
            limit: None,
            busy: false,
        };
        session.limit = session.set_up().await?;
        Ok(session)
    }

    /// Returns the server's limit of a statement.
    async fn set_up(&self) -> Result<Option<u64>, Failure> {
        let found = match self.client.simple_query(SETTINGS).await {
            Ok(found) => found,
            // A server that can't look for its client, or has no such settings.
            Err(error) if is_refusal(&error) => return Ok(None),
            Err(error) => return Err(failure(error)),
        };
        let setting = found.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(setting.and_then(|setting| setting.parse().ok()))
    }

    /// Begins a transaction. The server limits its statements to the time that the task has left,
    /// for the case that nobody is there any more to ask it to stop: with some patience, so that
    /// a task that is late is stopped from here first.
    fn begin(&self, task: Task<'_, '_>) -> String {
        let left = task.and_then(TaskContext::time_left);
        let (Some(limit), Some(left)) = (self.limit, left) else {
            return "BEGIN".to_owned();
        };
        let most = u64::from(i32::MAX.unsigned_abs());
        let left = u64::try_from((left + PATIENCE).as_millis()).unwrap_or(most);
        let limit = if limit == 0 { left } else { left.min(limit) };
        // Not a query: a SET TRANSACTION may follow.
        format!("BEGIN; SET LOCAL statement_timeout = {}", limit.min(most))
    }

    /// Runs a transaction. Returns the connection if it can be used for another one.
    pub(super) async fn transact(
        mut self,
        statements: &[Statement],
        task: Task<'_, '_>,
    ) -> Result<Option<Self>, (Broken, Option<Self>)> {
        self.busy = true;
        let (failure, usable) = match self.work(statements, task).await {
            Ok(()) => return self.commit(task).await,
            Err(Halt::Failed(failure)) => (failure, true),
            Err(Halt::Stopped) => (stopped(), false),
            Err(Halt::Silent) => {
                let unsure = false;
                let failure = stopped();
                return Err((Broken { failure, unsure }, None));
            }
        };
        // Wait for the ROLLBACK: its locks have to be free before the task's undos run, which may
        // need the same rows.
        let rolled_back = timeout(PATIENCE, self.client.batch_execute("ROLLBACK")).await;
        let rolled_back = matches!(rolled_back, Ok(Ok(())));
        self.busy = !rolled_back;
        let usable = usable && rolled_back;
        let unsure = false;
        Err((Broken { failure, unsure }, usable.then_some(self)))
    }

    async fn work(&self, statements: &[Statement], task: Task<'_, '_>) -> Result<(), Halt> {
        let begin = self.begin(task);
        self.stoppable(self.client.batch_execute(&begin), task)
            .await?;
        for statement in statements {
            let values = statement
                .values
                .iter()
                .map(|value| value as &(dyn ToSql + Sync));
            let values: Vec<_> = values.collect();
            let (text, values) = (statement.text.as_str(), values.as_slice());
            // `execute` prepares as well, and preparing may wait for locks: it has to be stoppable.
            let rows = self
                .stoppable(self.client.execute(text, values), task)
                .await?;
            statement.check(rows).map_err(Halt::Failed)?;
        }
        match task {
            Some(task) if task.is_stopping() => Err(Halt::Stopped),
            _ => Ok(()),
        }
    }

    /// Waits for a statement. If the task is being stopped, the server is asked to stop it.
    async fn stoppable<T>(
        &self,
        statement: impl Future<Output = Result<T, Error>>,
        task: Task<'_, '_>,
    ) -> Result<T, Halt> {
        let mut statement = pin!(statement);
        let stop = pin!(stopping(task));
        if let Either::Left((done, _)) = select(statement.as_mut(), stop).await {
            return done.map_err(|error| Halt::Failed(failure(error)));
        }
        match timeout(PATIENCE, select(statement, pin!(self.ask()))).await {
            Ok(_) => Err(Halt::Stopped),
            Err(_) => Err(Halt::Silent),
        }
    }

    /// Asks the server to stop its work for this connection, and doesn't end by itself: it asks
    /// again and again, because a request that comes between two statements stops none.
    async fn ask(&self) {
        loop {
            let token = self.client.cancel_token();
            token.cancel_query(self.tls.clone()).await.ok();
            sleep(AGAIN).await;
        }
    }

    async fn commit(mut self, task: Task<'_, '_>) -> Result<Option<Self>, (Broken, Option<Self>)> {
        // A COMMIT may wait, too, for a deferred constraint or a lock, and a server that works on it
        // doesn't see that its client is gone: it must be asked to stop, or it commits later.
        let (done, asked) = {
            let mut commit = pin!(self.client.batch_execute("COMMIT"));
            match select(commit.as_mut(), pin!(stopping(task))).await {
                Either::Left((done, _)) => (Some(done), false),
                Either::Right(_) => {
                    let asking = pin!(self.ask());
                    match timeout(PATIENCE, select(commit, asking)).await {
                        Ok(Either::Left((done, _))) => (Some(done), true),
                        Ok(Either::Right(_)) | Err(_) => (None, true),
                    }
                }
            }
        };
        self.busy = done.is_none();
        match done {
            Some(Ok(())) => Ok((!asked).then_some(self)),
            Some(Err(error)) if is_refusal(&error) => {
                let (failure, unsure) = (failure(error), false);
                // The server says so and only then rolls back, as after any error: its locks have
                // to be free before the task's undos run.
                let idle = timeout(PATIENCE, self.client.batch_execute("")).await;
                let usable = matches!(idle, Ok(Ok(()))) && !asked;
                Err((Broken { failure, unsure }, usable.then_some(self)))
            }
            Some(Err(error)) => Err((unknown(error.to_string()), None)),
            None => Err((unknown(format!("no answer within {PATIENCE:?}")), None)),
        }
    }
}

async fn stopping(task: Task<'_, '_>) {
    match task {
        Some(task) => task.stopping().await,
        None => pending().await,
    }
}
