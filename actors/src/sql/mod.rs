//! Stages that run SQL statements in a transaction; their undo runs others.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod undo;

use std::sync::Arc;

use batrun::{
    Failure, TaskContext,
    stage::{Registered, UndoError},
};

#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
pub use statement::{Statement, Value};
pub use undo::SqlUndo;

/// Stages that run SQL: `Sql::sqlite` and `Sql::postgres`, each with the feature of its name.
///
/// Each run is one transaction with the statements that a closure makes from the context: one, an
/// array or a `Vec` of them. The context goes on unchanged. `cancel_with` sets the statements that
/// take them back, also in one transaction; a stage without it has no undo.
///
/// # Undo
/// A transaction that surely had no effect (a statement failed, the task was stopped before its
/// `COMMIT`, or the database refused the `COMMIT`) is rolled back, and its undo is withdrawn: a row
/// that existed before and that the insert collided with is not deleted. Once a `COMMIT` was sent
/// and no answer came, the undo stays, and runs if the task fails.
///
/// So the undo's statements have to cope with rows that were never written or are already gone, and
/// should touch only what this task did: `DELETE .. WHERE id = ..` with an id of the task's own, not
/// `SET balance = 10`. An undo is made from the context before the run: to restore a row's earlier
/// values, let an earlier stage read them into the context, or keep them in a table of your own.
/// With a journal, an undo is kept in it with its values: see [`SqlUndo`].
///
/// # Limits
/// - A statement must not begin or end a transaction itself.
/// - The stage's own `.timeout(..)` doesn't stop a statement; a task's deadline does.
/// - Placeholders are the database's own: `?1` on SQLite, `$1` on PostgreSQL.
/// - Rows that a statement returns are counted and dropped.
/// - A report shows the text of a stuck undo's statements without the values bound to them; an
///   error's text comes from the database and may quote a value.
pub enum Sql {}

/// Makes statements from a context.
type Make<I> = Arc<dyn Fn(&I) -> Vec<Statement> + Send + Sync>;

fn make<I, S: Into<Vec<Statement>>>(of: impl Fn(&I) -> S + Send + Sync + 'static) -> Make<I> {
    Arc::new(move |input| of(input).into())
}

/// The statements of a stage, and those of its undo.
struct Plan<I> {
    run: Make<I>,
    undo: Option<Make<I>>,
}

impl<I> Clone for Plan<I> {
    fn clone(&self) -> Self {
        Plan {
            run: self.run.clone(),
            undo: self.undo.clone(),
        }
    }
}

impl<I> Plan<I> {
    fn undo(&self, input: &I) -> Option<SqlUndo> {
        let undo = self.undo.as_ref()?;
        Some(SqlUndo(undo(input).into()))
    }
}

async fn register<'t>(
    undo: Option<SqlUndo>,
    task: &'t TaskContext<'_, SqlUndo>,
) -> Result<Option<Registered<'t>>, UndoError> {
    match undo {
        Some(undo) => task.on_cancel(undo).await.map(Some),
        None => Ok(None),
    }
}

/// A transaction that failed, and was perhaps committed all the same.
struct Broken {
    failure: Failure,
    /// `true` if it may have taken effect, so that its undo has to stay.
    unsure: bool,
}

/// Returns the failure of a transaction, and withdraws its undo if it surely had no effect.
async fn give_up(broken: Broken, undo: Option<Registered<'_>>) -> Failure {
    if let Some(undo) = undo.filter(|_| !broken.unsure)
        && let Err(error) = undo.withdraw().await
    {
        return error.into();
    }
    broken.failure
}

fn stopped() -> Failure {
    Failure::new("the transaction was rolled back because its task is being stopped")
}
