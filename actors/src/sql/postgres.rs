//! Transactions on PostgreSQL.

mod failures;
mod session;
mod values;

use std::{sync::Arc, time::Duration};

use batrun::{CancelContext, Failure, Stage, TaskContext};
use tokio::time::timeout;

use super::{Plan, Sql, SqlUndo, Statement, give_up, make, register};
use session::Session;

/// Time for an answer that takes the server no work. After it, the connection is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

impl Sql {
    /// A stage that runs, in one transaction on PostgreSQL, the statements that `statements` makes
    /// from a context. `config` is a connection string (`host=.. user=.. dbname=..`, or a URL); a
    /// mistake in it fails each task for good, with an error that shows none of its values. See
    /// [`Postgres`].
    ///
    /// ```
    /// use batrun_actors::{Sql, Statement};
    ///
    /// let move_stock = Sql::postgres("host=127.0.0.1 user=shop", |&(order, item): &(i64, i64)| {
    ///     [
    ///         Statement::new("UPDATE items SET stock = stock - 1 WHERE id = $1 AND stock > 0")
    ///             .bind(item)
    ///             .expect_rows(1),
    ///         Statement::new("INSERT INTO reserved (order_id, item_id) VALUES ($1, $2)")
    ///             .bind(order)
    ///             .bind(item),
    ///     ]
    /// })
    /// .cancel_with(|&(order, item)| {
    ///     Statement::new(
    ///         "WITH gone AS (DELETE FROM reserved WHERE order_id = $1 AND item_id = $2 RETURNING item_id)
    ///          UPDATE items SET stock = stock + 1 FROM gone WHERE id = gone.item_id",
    ///     )
    ///     .bind(order)
    ///     .bind(item)
    /// });
    /// # let _ = move_stock;
    /// ```
    pub fn postgres<I, S>(
        config: impl Into<String>,
        statements: impl Fn(&I) -> S + Send + Sync + 'static,
    ) -> Postgres<I>
    where
        S: Into<Vec<Statement>>,
    {
        Postgres {
            config: config.into().into(),
            plan: Plan {
                run: make(statements),
                undo: None,
            },
            session: None,
        }
    }
}

/// A stage that runs SQL on PostgreSQL; [`Sql`] describes its transactions and their undo.
///
/// Each worker has a connection of its own, because it runs one transaction at a time: there is none
/// to wait for, and as many as workers. It is made when it is first needed, and again once it is
/// closed: after a restart of the server, a task that was amid its transaction fails in a way that
/// may be tried again, and the next attempt connects. Make one with [`Sql::postgres`].
///
/// # TLS
/// `sslmode` in the connection string means what it means to libpq, and so do `sslrootcert`,
/// `sslcert`, `sslkey` and `sslnegotiation`:
///
/// | `sslmode` | encrypted | the server has to have |
/// |---|---|---|
/// | `disable` | no | |
/// | `prefer` (default) | if the server offers it | any certificate; with `sslrootcert`, as for `verify-ca` |
/// | `require` | yes | any certificate; with `sslrootcert`, as for `verify-ca` |
/// | `verify-ca` | yes | one of an authority in the file `sslrootcert` |
/// | `verify-full` | yes | the same, for the host's name |
///
/// `sslrootcert=system` trusts whom the system trusts, and is `verify-full`. A server's own
/// certificate may be in the file, too; its expiry isn't looked at then. The files are PEM, the key
/// without a password, and read anew for each connection. A password is bound to the connection's
/// certificate if the server offers that (SCRAM; `channel_binding=require` insists on it).
///
/// Other than with libpq, a connection that `prefer` could not encrypt for a mistake in certificates
/// fails and is not made without TLS; a certificate's name is looked for in its alternative names
/// only; `allow`, `sslcrl` and other options are refused; and neither `~/.postgresql` nor the
/// environment is looked into.
///
/// # Errors
/// - May be tried again: a lost connection, too many connections, a server that is starting or
///   going down, a serialization failure, a deadlock, a timeout of the server's.
/// - Permanent: everything else (a constraint, a mistake in a statement or in the connection
///   string, a server that isn't trusted, another number of rows than
///   [expected](Statement::expect_rows)), and a `COMMIT` without an answer, because another attempt
///   might take effect twice.
///
/// # Cancel safety
/// If a task is late or cancelled, the server is asked to stop the statement it is at, the
/// transaction is rolled back, and only then the task's rollback begins. A `COMMIT` that has begun
/// is waited for. If the server doesn't answer for 10 s, the connection is dropped.
///
/// A transaction whose future is dropped (an undo at its
/// [`cancel_timeout`](batrun::IntoWork::cancel_timeout), say) is never committed unless its `COMMIT`
/// was sent. Its connection is closed, and the server is asked to stop the statement.
///
/// If the process or the machine is gone, nobody asks. So a server from PostgreSQL 14 on is told to
/// look once a second, amid a statement, whether its client is there
/// (`client_connection_check_interval`), and for a task with a deadline, each statement's
/// `statement_timeout` is the time that the task had left when its transaction began, and 10 s. A
/// shorter one of yours stays: `options='-c statement_timeout=5s'` in the connection string.
///
/// # Values
/// The server infers each placeholder's type, which has to be one of `boolean`, `smallint`,
/// `integer`, `bigint`, `real`, `double precision`, the text types and `bytea`. For others, cast:
/// `$1::text::uuid`. A number that doesn't fit is an error.
///
/// # Limits
/// - Each statement is prepared anew, which is one exchange more with the server.
/// - To choose an isolation level, let the first statement be `SET TRANSACTION ..`.
pub struct Postgres<I> {
    config: Arc<str>,
    plan: Plan<I>,
    session: Option<Session>,
}

impl<I> Postgres<I> {
    /// Sets the statements that take a run back. The closure is called, and the undo registered,
    /// before the run. Default: no undo.
    pub fn cancel_with<S>(mut self, statements: impl Fn(&I) -> S + Send + Sync + 'static) -> Self
    where
        S: Into<Vec<Statement>>,
    {
        self.plan.undo = Some(make(statements));
        self
    }

    /// The connection, taken out of `self`: if a future is dropped amid a transaction, the
    /// connection is closed with it, and no later task finds that transaction still open.
    async fn session(&mut self) -> Result<Session, Failure> {
        match self.session.take() {
            Some(session) if !session.client.is_closed() => Ok(session),
            _ => match timeout(PATIENCE, Session::open(&self.config)).await {
                Ok(opened) => opened,
                Err(_) => Err(Failure::new(format!(
                    "no connection to the PostgreSQL server within {PATIENCE:?}"
                ))),
            },
        }
    }
}

impl<I> Clone for Postgres<I> {
    fn clone(&self) -> Self {
        Postgres {
            config: self.config.clone(),
            plan: self.plan.clone(),
            session: None,
        }
    }
}

impl<I: Send + 'static> Stage for Postgres<I> {
    type Input = I;
    type Output = I;
    type Undo = SqlUndo;

    async fn run(&mut self, input: I, task: &TaskContext<'_, SqlUndo>) -> Result<I, Failure> {
        let statements = (self.plan.run)(&input);
        let session = self.session().await?;
        let undo = register(self.plan.undo(&input), task).await?;
        // Shielded: a statement that was sent takes effect even if its future is dropped.
        task.shield(async {
            match session.transact(&statements, Some(task)).await {
                Ok(session) => {
                    self.session = session;
                    Ok(input)
                }
                Err((broken, session)) => {
                    self.session = session;
                    Err(give_up(broken, undo).await)
                }
            }
        })
        .await
    }

    async fn cancel(&mut self, undo: SqlUndo, _: &CancelContext<'_>) -> Result<(), Failure> {
        let session = self.session().await?;
        match session.transact(&undo.0, None).await {
            Ok(session) => {
                self.session = session;
                Ok(())
            }
            Err((broken, session)) => {
                self.session = session;
                Err(broken.failure)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
