//! Transactions on SQLite.

mod database;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use batrun::{CancelContext, Failure, Stage, TaskContext, stage::StopSignal};
// With rusqlite 0.32 a `Batch` has `next` of its own.
#[allow(unused_imports)]
use fallible_iterator::FallibleIterator;
use rusqlite::{
    Batch, Connection, Error, ErrorCode, ToSql,
    ffi::SQLITE_READONLY_DBMOVED,
    params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{Broken, Plan, Sql, SqlUndo, Statement, Value, give_up, make, register, stopped};
use database::Database;

/// Time for which SQLite waits for a lock, before the stage looks whether its task is being
/// stopped.
const BREATH: Duration = Duration::from_millis(25);

/// Number of steps of SQLite's virtual machine between two such looks, while a statement runs.
const STEPS: i32 = 10_000;

/// Default of [`Sqlite::busy`].
const BUSY: Duration = Duration::from_secs(5);

impl Sql {
    /// A stage that runs, in one transaction on the SQLite database at `path`, the statements that
    /// `statements` makes from a context. The database is created if it doesn't exist. See
    /// [`Sqlite`].
    ///
    /// ```
    /// use batrun::prelude::*;
    /// use batrun_actors::{Sql, Statement};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("people.db");
    /// let database = rusqlite::Connection::open(&path)?;
    /// database.execute_batch("CREATE TABLE people (name TEXT PRIMARY KEY)")?;
    ///
    /// let add = Sql::sqlite(path, |name: &String| {
    ///     Statement::new("INSERT INTO people (name) VALUES (?1)").bind(name)
    /// })
    /// .cancel_with(|name: &String| {
    ///     Statement::new("DELETE FROM people WHERE name = ?1").bind(name)
    /// });
    /// let check = stage_fn("check", async |name: String, _: &TaskContext<()>| match &*name {
    ///     "Eve" => Err(Failure::permanent("not on the list")),
    ///     _ => Ok(name),
    /// });
    /// let report = actix_rt::System::new().block_on(
    ///     Pipeline::new("people")
    ///         .producer(from_iter(["Ada", "Eve"].map(String::from)))
    ///         .stage(add)
    ///         .stage(check)
    ///         .run(),
    /// )?;
    /// assert_eq!((report.counts.done, report.counts.failed), (1, 1));
    /// let names: String =
    ///     database.query_row("SELECT group_concat(name) FROM people", (), |row| row.get(0))?;
    /// assert_eq!(names, "Ada");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sqlite<I, S>(
        path: impl Into<PathBuf>,
        statements: impl Fn(&I) -> S + Send + Sync + 'static,
    ) -> Sqlite<I>
    where
        S: Into<Vec<Statement>>,
    {
        Sqlite {
            path: path.into(),
            busy: BUSY,
            plan: Plan {
                run: make(statements),
                undo: None,
            },
            database: None,
            opened: false,
        }
    }
}

/// A stage that runs SQL on SQLite; [`Sql`] describes its transactions and their undo.
///
/// It blocks, so each of its workers has a thread of its own, and a connection that is opened when
/// it is first needed. A transaction takes SQLite's only write lock at its beginning, so several
/// workers take turns. Make one with [`Sql::sqlite`].
///
/// # Errors
/// - May be tried again: a lock that did not become free within [`busy`](Self::busy), errors of the
///   disk, a full disk, a database that can't be opened, and one whose file was replaced or removed
///   during the transaction (its undo stays if it may have been committed).
/// - Permanent: everything else (a constraint, a mistake in a statement, another number of rows
///   than [expected](Statement::expect_rows)).
///
/// # Cancel safety
/// A task that is late or cancelled stops at once if it waits for a lock, and soon if a statement
/// takes long; nothing of its transaction is left. A `COMMIT` that has begun is waited for.
///
/// # A file that is replaced
/// On Unix, the stage looks before each transaction whether the path still leads to the file that it
/// has open, and to that one's write-ahead log; if not, it opens the database anew. It looks again
/// after the `COMMIT`. A database that was there and is gone is not created again: tasks fail, and may
/// be tried again, until it is back.
///
/// # Values
/// NaN is refused, because SQLite would make it NULL.
///
/// # Limits
/// - A file that is replaced and put back within one transaction isn't noticed.
/// - An undo waits for the lock as long as a run does: make [`busy`](Self::busy) longer than the
///   longest transaction.
/// - With `:memory:`, each worker has a database of its own.
pub struct Sqlite<I> {
    path: PathBuf,
    busy: Duration,
    plan: Plan<I>,
    database: Option<Database>,
    /// `true` once the database was there. It is not created again then.
    opened: bool,
}

impl<I> Sqlite<I> {
    /// Sets the statements that take a run back. The closure is called, and the undo registered,
    /// before the run. Default: no undo.
    pub fn cancel_with<S>(mut self, statements: impl Fn(&I) -> S + Send + Sync + 'static) -> Self
    where
        S: Into<Vec<Statement>>,
    {
        self.plan.undo = Some(make(statements));
        self
    }

    /// Maximum time that a transaction waits for its lock, and again at its `COMMIT` if readers
    /// hold one, before the attempt fails. Default: 5 s.
    pub fn busy(mut self, wait: Duration) -> Self {
        self.busy = wait;
        self
    }

    fn transact(
        &mut self,
        statements: &[Statement],
        stop: Option<StopSignal>,
    ) -> Result<(), Broken> {
        let broken = |failure, unsure| Broken { failure, unsure };
        let mut database = match self.database.take() {
            Some(database) if database.is_current() => database,
            _ => self.open().map_err(|failure| broken(failure, false))?,
        };
        let done = transact(&mut database, statements, self.busy, stop);
        let current = database.is_current();
        // A connection with a transaction still open is dropped, which rolls that back.
        if current && database.connection.is_autocommit() {
            self.database = Some(database);
        }
        match done {
            // With a write-ahead log, SQLite says that it has committed in any case.
            Ok(()) if !current => Err(broken(self.replaced(), true)),
            done => done,
        }
    }

    fn open(&mut self) -> Result<Database, Failure> {
        let database = Database::open(&self.path, !self.opened).and_then(|database| {
            database.connection.busy_timeout(BREATH)?;
            Ok(database)
        });
        let database = database.map_err(|error| match self.opened {
            true => Failure::new(format!(
                "the database {} was there before and can't be opened any more: {error}",
                self.path.display()
            )),
            false => failure(error),
        })?;
        self.opened = true;
        Ok(database)
    }

    fn replaced(&self) -> Failure {
        Failure::new(format!(
            "the file of the database {} was replaced or removed during the transaction, which may \
             have gone with it",
            self.path.display()
        ))
    }
}

impl<I> Clone for Sqlite<I> {
    fn clone(&self) -> Self {
        Sqlite {
            path: self.path.clone(),
            busy: self.busy,
            plan: self.plan.clone(),
            database: None,
            opened: false,
        }
    }
}

impl<I: Send + 'static> Stage for Sqlite<I> {
    type Input = I;
    type Output = I;
    type Undo = SqlUndo;

    const BLOCKING: bool = true;

    async fn run(&mut self, input: I, task: &TaskContext<'_, SqlUndo>) -> Result<I, Failure> {
        let statements = (self.plan.run)(&input);
        let undo = self.plan.undo(&input);
        // Otherwise it would be found only when the undo runs.
        if let Some(SqlUndo(undo)) = &undo {
            check(undo)?;
        }
        let undo = register(undo, task).await?;
        match self.transact(&statements, Some(task.signal())) {
            Ok(()) => Ok(input),
            Err(broken) => Err(give_up(broken, undo).await),
        }
    }

    async fn cancel(&mut self, undo: SqlUndo, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.transact(&undo.0, None)
            .map_err(|broken| broken.failure)
    }
}

fn transact(
    database: &mut Database,
    statements: &[Statement],
    busy: Duration,
    stop: Option<StopSignal>,
) -> Result<(), Broken> {
    let asked = stop.clone();
    let stopping = || asked.as_ref().is_some_and(StopSignal::is_stopping);
    let begun = patiently(&database.connection, "BEGIN IMMEDIATE", busy, stopping);
    if begun.is_ok() {
        database.find_log();
    }
    let connection = &mut database.connection;
    let worked = begun.and_then(|()| {
        let handler = stop.map(|stop| move || stop.is_stopping());
        connection.progress_handler(STEPS, handler).outcome()?;
        let worked = work(connection, statements);
        // Without the handler from here on: it must not interrupt a COMMIT or a ROLLBACK.
        connection
            .progress_handler(0, None::<fn() -> bool>)
            .outcome()?;
        worked
    });
    let (failure, committing) = match worked {
        Err(failure) => (failure, false),
        Ok(()) if stopping() => (stopped(), false),
        Ok(()) => match patiently(connection, "COMMIT", busy, stopping) {
            Ok(()) => return Ok(()),
            Err(failure) => (failure, true),
        },
    };
    // SQLite may have rolled back by itself, after an interrupt for example.
    let open = !connection.is_autocommit();
    let rolled_back = open && connection.execute_batch("ROLLBACK").is_ok();
    Err(Broken {
        failure,
        unsure: committing && !rolled_back,
    })
}

/// The setting of a handler, which gives nothing up to rusqlite 0.37, and a result since.
trait Outcome {
    fn outcome(self) -> Result<(), Failure>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Outcome for Result<(), Error> {
    fn outcome(self) -> Result<(), Failure> {
        self.map_err(failure)
    }
}

/// Runs a statement that may have to wait for a lock, for as long as `busy`.
fn patiently(
    connection: &Connection,
    statement: &str,
    busy: Duration,
    stopping: impl Fn() -> bool,
) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match connection.execute_batch(statement) {
            Err(error) if is_busy(&error) && !stopping() && began.elapsed() < busy => {
                // SQLite returns at once for some locks in spite of its timeout.
                thread::sleep(Duration::from_millis(1));
            }
            other => return other.map_err(failure),
        }
    }
}

fn work(connection: &Connection, statements: &[Statement]) -> Result<(), Failure> {
    for statement in statements {
        let rows = execute(connection, statement).map_err(failure)?;
        statement.check(rows)?;
    }
    Ok(())
}

/// Number of rows that a statement changed, or returned if it can't change any.
fn execute(connection: &Connection, statement: &Statement) -> Result<u64, Error> {
    let before = connection.total_changes();
    let mut texts = Batch::new(connection, &statement.text);
    let Some(mut prepared) = texts.next()? else {
        return Ok(0);
    };
    if texts.next()?.is_some() {
        return Err(Error::MultipleStatement);
    }
    let mut returned = 0;
    let mut rows = prepared.query(params_from_iter(&statement.values))?;
    while rows.next()?.is_some() {
        returned += 1;
    }
    drop(rows);
    Ok(if prepared.readonly() {
        returned
    } else if connection.total_changes() == before {
        // It changed none, and `changes()` is still that of the statement before.
        0
    } else {
        connection.changes()
    })
}

/// # Errors
/// A permanent failure if a value can't be stored.
fn check(statements: &[Statement]) -> Result<(), Failure> {
    let mut values = statements.iter().flat_map(|statement| &statement.values);
    values.try_for_each(|value| value.to_sql().map(|_| ()).map_err(failure))
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if matches!(self, Value::Real(real) if real.is_nan()) {
            let text = "SQLite would store NaN as NULL: bind None, or another number";
            return Err(Error::ToSqlConversionFailure(text.into()));
        }
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(int) => ValueRef::Integer(*int),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
            Value::Bool(yes) => ValueRef::Integer((*yes).into()),
        }))
    }
}

fn is_busy(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn failure(error: Error) -> Failure {
    if matches!(&error, Error::SqliteFailure(error, _) if error.extended_code == SQLITE_READONLY_DBMOVED)
    {
        // The next attempt opens the new file.
        return Failure::new(error);
    }
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory,
        ) => Failure::new(error),
        _ => Failure::permanent(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
