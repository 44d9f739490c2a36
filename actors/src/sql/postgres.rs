//! Transactions on PostgreSQL.

use std::{
    error::Error as StdError,
    future::{Future, pending},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use batrun::{CancelContext, Failure, Stage, TaskContext};
use futures::future::{Either, select};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{
    Client, Error, NoTls,
    error::{Severity, SqlState},
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{Broken, Plan, Sql, SqlUndo, Statement, Value, give_up, make, stopped};

/// Time for an answer that takes the server no work. After it, the connection is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before a server is asked again to stop a statement. One request isn't enough, because one
/// that arrives before its statement does nothing.
const AGAIN: Duration = Duration::from_millis(500);

impl Sql {
    /// A stage that runs, in one transaction on PostgreSQL, the statements that `statements` makes
    /// from a context. `config` is a connection string (`host=.. user=.. dbname=..`, or a URL); a
    /// mistake in it fails each task for good. See [`Postgres`].
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
/// Each worker has a connection of its own, made when it is first needed and again once it is
/// closed. Make one with [`Sql::postgres`].
///
/// # Errors
/// - May be tried again: a lost connection, too many connections, a server that is starting or
///   going down, a serialization failure, a deadlock, a timeout of the server's.
/// - Permanent: everything else (a constraint, a mistake in a statement or in the connection
///   string, another number of rows than [expected](Statement::expect_rows)), and a `COMMIT`
///   without an answer, because another attempt might take effect twice.
///
/// # Cancel safety
/// If a task is late or cancelled, the server is asked to stop the statement it is at, the
/// transaction is rolled back, and only then the task's rollback begins. A `COMMIT` that has begun
/// is waited for. If the server doesn't answer for 10 s, the connection is dropped; the server ends
/// the transaction once it finds that connection closed.
///
/// An undo that is dropped at its [`cancel_timeout`](batrun::IntoWork::cancel_timeout) leaves a
/// statement that waits to the server; its transaction is never committed.
///
/// To limit each statement, let the server do it: `options='-c statement_timeout=5s'` in the
/// connection string.
///
/// # Values
/// The server infers each placeholder's type, which has to be one of `boolean`, `smallint`,
/// `integer`, `bigint`, `real`, `double precision`, the text types and `bytea`. For others, cast:
/// `$1::text::uuid`. An integer that doesn't fit is an error.
///
/// # Limits
/// - No TLS: use a server in the same machine or network.
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
                Ok(opened) => opened.map_err(failure),
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
        let undo = self.plan.register(&input, task).await?;
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

/// A connection. Dropping it closes it.
struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

type Task<'a, 'b> = Option<&'a TaskContext<'b, SqlUndo>>;

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
    async fn open(config: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(config, NoTls).await?;
        let connection = actix_rt::spawn(async move {
            // Its error needs no handling here: the statement under way fails with the same one.
            connection.await.ok();
        });
        Ok(Session { client, connection })
    }

    /// Runs a transaction. Returns the connection if it can be used for another one.
    async fn transact(
        self,
        statements: &[Statement],
        task: Task<'_, '_>,
    ) -> Result<Option<Self>, (Broken, Option<Self>)> {
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
        let usable = usable && matches!(rolled_back, Ok(Ok(())));
        let unsure = false;
        Err((Broken { failure, unsure }, usable.then_some(self)))
    }

    async fn work(&self, statements: &[Statement], task: Task<'_, '_>) -> Result<(), Halt> {
        self.stoppable(self.client.batch_execute("BEGIN"), task)
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
            self.client.cancel_token().cancel_query(NoTls).await.ok();
            sleep(AGAIN).await;
        }
    }

    async fn commit(self, task: Task<'_, '_>) -> Result<Option<Self>, (Broken, Option<Self>)> {
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
        match done {
            Some(Ok(())) => Ok((!asked).then_some(self)),
            Some(Err(error)) if is_refusal(&error) => {
                // The server rolled the transaction back, and the connection is ready for the next.
                let (failure, unsure) = (failure(error), false);
                Err((Broken { failure, unsure }, (!asked).then_some(self)))
            }
            Some(Err(error)) => Err((unknown(error.to_string()), None)),
            None => Err((unknown(format!("no answer within {PATIENCE:?}")), None)),
        }
    }
}

/// A COMMIT that may or may not have taken effect. The failure is permanent, because another
/// attempt might take effect twice.
fn unknown(why: String) -> Broken {
    let failure = Failure::permanent(format!(
        "the COMMIT may or may not have taken effect, so look into the database: {why}"
    ));
    let unsure = true;
    Broken { failure, unsure }
}

async fn stopping(task: Task<'_, '_>) {
    match task {
        Some(task) => task.stopping().await,
        None => pending().await,
    }
}

/// `true` if a COMMIT with this error surely had no effect.
fn is_refusal(error: &Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        error.parsed_severity() == Some(Severity::Error)
            && *error.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    })
}

fn failure(error: Error) -> Failure {
    let again = match error.code() {
        Some(code) => {
            let class = code.code().get(..2).unwrap_or_default();
            let known = [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
                SqlState::LOCK_NOT_AVAILABLE,
            ];
            // The classes: connection exceptions, insufficient resources, operator intervention.
            matches!(class, "08" | "53" | "57") || known.contains(code)
        }
        None => {
            error.is_closed()
                || error
                    .source()
                    .is_some_and(|source| source.is::<io::Error>())
        }
    };
    if again {
        Failure::new(error)
    } else {
        Failure::permanent(error)
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Bool(yes) if *wanted == Type::BOOL => yes.to_sql(wanted, out),
            Value::Int(int) => match *wanted {
                Type::INT2 => i16::try_from(*int)?.to_sql(wanted, out),
                Type::INT4 => i32::try_from(*int)?.to_sql(wanted, out),
                Type::INT8 => int.to_sql(wanted, out),
                _ => Err(mismatch("an integer", wanted)),
            },
            Value::Real(real) => match *wanted {
                Type::FLOAT4 => (*real as f32).to_sql(wanted, out),
                Type::FLOAT8 => real.to_sql(wanted, out),
                _ => Err(mismatch("a floating-point number", wanted)),
            },
            Value::Text(text) if <&str as ToSql>::accepts(wanted) => {
                text.as_str().to_sql(wanted, out)
            }
            Value::Blob(bytes) if *wanted == Type::BYTEA => bytes.as_slice().to_sql(wanted, out),
            Value::Bool(_) => Err(mismatch("a truth value", wanted)),
            Value::Text(_) => Err(mismatch("a text", wanted)),
            Value::Blob(_) => Err(mismatch("bytes", wanted)),
        }
    }

    fn accepts(_: &Type) -> bool {
        // `to_sql` decides, because it depends on the value: a NULL fits every type.
        true
    }

    to_sql_checked!();
}

fn mismatch(given: &str, wanted: &Type) -> Box<dyn StdError + Sync + Send> {
    format!("{given} is bound to a parameter of type {wanted}: bind another value, or cast it")
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
