//! The tables of a journal: made where there are none, and refused where they are not batrun's.

use tokio_postgres::{Client, Error, error::SqlState};

use super::{error::Trouble, server::Schema};

/// The version of the tables.
pub(in crate::journal) const FORMAT: i32 = 1;

const TABLES: &str = concat!(
    include_str!("tables.sql"),
    include_str!("nodes.sql"),
    include_str!("commits.sql")
);

/// The contents of a schema.
pub(super) enum Found {
    Journal,
    /// A journal of another version.
    Format(i32),
    /// Tables of somebody else's.
    NotAJournal,
}

/// Looks into the schema, and makes the tables if it is empty or not there. Of several that do so at once, one
/// makes them.
pub(super) async fn open(client: &Client, schema: &Schema) -> Result<Found, Trouble> {
    if let Some(found) = look(client, schema).await? {
        return Ok(found);
    }
    client.batch_execute("BEGIN").await?;
    let made: Result<Option<Found>, Trouble> = async {
        // A second one waits here, and finds them.
        lock(client, schema).await?;
        let found = look(client, schema).await?;
        if found.is_none() {
            let exists = "SELECT FROM pg_namespace WHERE nspname = $1";
            if client.query_opt(exists, &[&schema.name()]).await?.is_none() {
                let create = schema.in_it("CREATE SCHEMA @;");
                let made = client.batch_execute(&create).await;
                made.map_err(|error| may_not(error, schema))?;
            }
            let format = format!("INSERT INTO @.batrun VALUES ({FORMAT})");
            let all = schema.in_it(&format!("{TABLES};{format}"));
            let made = client.batch_execute(&all).await;
            made.map_err(|error| may_not(error, schema))?;
        }
        Ok(found)
    }
    .await;
    match made {
        Ok(found) => {
            client.batch_execute("COMMIT").await?;
            Ok(found.unwrap_or(Found::Journal))
        }
        Err(trouble) => {
            client.batch_execute("ROLLBACK").await.ok();
            Err(trouble)
        }
    }
}

/// Keeps everybody else from making or changing the tables until the end of the transaction.
pub(super) async fn lock(client: &Client, schema: &Schema) -> Result<(), Trouble> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('batrun ' || $1, 0))";
    client.query(lock, &[&schema.name()]).await?;
    Ok(())
}

/// The error of a user without the rights to make the schema, or to use it, says what to do.
fn may_not(error: Error, schema: &Schema) -> Trouble {
    let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    match Trouble::from(error) {
        Trouble::Refused(why) if denied => {
            let name = schema.name();
            Trouble::Refused(format!(
                "{why}: this user can't make the journal in the schema {name:?}, or has no rights there; let its \
                 owner say `batrun cluster init --schema {name:?} --for-user ROLE` with this user's name, or GRANT \
                 this user CREATE on the database"
            ))
        }
        trouble => trouble,
    }
}

/// `None` if there is nothing in the schema.
pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Option<Found>, Trouble> {
    let tables = "SELECT c.relname = 'batrun' FROM pg_class c \
                  JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
    let tables = client.query(tables, &[&schema.name()]).await?;
    if tables.is_empty() {
        return Ok(None);
    }
    let mut ours = false;
    for table in &tables {
        ours |= table.try_get::<_, bool>(0)?;
    }
    if !ours {
        return Ok(Some(Found::NotAJournal));
    }
    let format = schema.in_it("SELECT format FROM @.batrun");
    let format = match client.query_opt(&format, &[]).await {
        Ok(Some(format)) => format,
        Ok(None) => return Ok(Some(Found::NotAJournal)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            return Ok(Some(Found::NotAJournal));
        }
        Err(error) => return Err(may_not(error, schema)),
    };
    Ok(Some(match format.try_get::<_, i32>(0)? {
        FORMAT => Found::Journal,
        other => Found::Format(other),
    }))
}
