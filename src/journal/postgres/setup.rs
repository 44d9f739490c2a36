//! A journal's tables made before the first start, brought to another format, and opened to other users.

use std::{io, time::Duration};

use tokio_postgres::{Client, error::SqlState};

use super::{
    error::Trouble,
    schema::{self, FORMAT, Found},
    server::{Schema, Server},
    session::{Connected, Session},
};
use crate::journal::store::StoreError;

// `@` stands for the schema, and `:role` for the user.
const RUN: &str = include_str!("rights_run.sql");
const LOOK: &str = include_str!("rights_look.sql");

/// The longest time for a step from one format to another: it may rewrite a table.
const STEP: Duration = Duration::from_secs(3_600);

/// The statements that bring a journal from a format to the next one.
pub(in crate::journal) struct Step {
    pub(in crate::journal) from: i32,
    pub(in crate::journal) statements: &'static str,
}

/// All steps there are. Each adds to the tables or replaces functions, so that processes of the format before may go
/// on beside it.
const STEPS: &[Step] = &[];

/// The users that are let into a journal, by their roles.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::journal) struct Roles<'a> {
    /// May run the pipeline.
    pub(in crate::journal) run: Option<&'a str>,
    /// May look into the journal.
    pub(in crate::journal) look: Option<&'a str>,
}

/// Makes the tables if there are none, and grants the roles their rights. Returns true if it has made them.
pub(in crate::journal) fn init(
    server: Server,
    schema: &Schema,
    roles: Roles<'_>,
) -> Result<bool, StoreError> {
    let found = run(server, async |client: &Client| {
        for role in [roles.run, roles.look].into_iter().flatten() {
            is_there(client, role).await?;
        }
        let was_there = schema::look(client, schema).await?.is_some();
        let found = schema::open(client, schema).await?;
        if matches!(found, Found::Journal) {
            in_one(client, async || grant(client, schema, roles).await).await?;
        }
        Ok((found, !was_there))
    });
    let (found, made) = found?;
    match found {
        Found::Journal => Ok(made),
        Found::NotAJournal => Err(StoreError::NotAJournal),
        Found::Format(found) => Err(StoreError::Format {
            found,
            known: FORMAT,
        }),
    }
}

/// Brings the tables to the format of this version. Returns the format before.
pub(in crate::journal) fn migrate(server: Server, schema: &Schema) -> Result<i32, StoreError> {
    migrate_by(server, schema, STEPS, FORMAT)
}

/// The same by these steps.
pub(in crate::journal) fn migrate_by(
    server: Server,
    schema: &Schema,
    steps: &'static [Step],
    to: i32,
) -> Result<i32, StoreError> {
    let found = run(server, async |client: &Client| {
        in_one(client, async || {
            schema::lock(client, schema).await?;
            let found = match schema::look(client, schema).await? {
                None => return Ok(Err(missing(schema))),
                Some(Found::NotAJournal) => return Ok(Err(StoreError::NotAJournal)),
                Some(Found::Journal) => FORMAT,
                Some(Found::Format(found)) => found,
            };
            // All of them, or none.
            let of = |from| steps.iter().find(|step| step.from == from);
            let Some(way) = (found..to).map(of).collect::<Option<Vec<_>>>() else {
                return Ok(Err(StoreError::Format { found, known: to }));
            };
            if found > to {
                return Ok(Err(StoreError::Format { found, known: to }));
            }
            for step in way {
                client.batch_execute(&schema.in_it(step.statements)).await?;
            }
            if found != to {
                let set = schema.in_it("UPDATE @.batrun SET format = $1");
                client.execute(&set, &[&to]).await?;
                grant_again(client, schema).await?;
            }
            Ok(Ok(found))
        })
        .await
    });
    found?
}

fn missing(schema: &Schema) -> StoreError {
    let name = schema.name();
    StoreError::Failed(format!(
        "there is no journal in the schema {name:?}; `batrun cluster init` makes one"
    ))
}

fn run<T>(
    server: Server,
    work: impl AsyncFnOnce(&Client) -> Result<T, Trouble>,
) -> Result<T, StoreError> {
    let failed = |error: io::Error| StoreError::Failed(error.to_string());
    let mut session = Session::new(server, STEP).map_err(failed)?;
    Ok(session.run(async |connected: &mut Connected| work(&connected.client).await)?)
}

/// Runs in a transaction, of which nothing is left after an error, neither its own nor the work's.
async fn in_one<T>(
    client: &Client,
    work: impl AsyncFnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    client.batch_execute("BEGIN").await?;
    match work().await {
        Ok(done) => {
            client.batch_execute("COMMIT").await?;
            Ok(done)
        }
        Err(trouble) => {
            client.batch_execute("ROLLBACK").await.ok();
            Err(trouble)
        }
    }
}

async fn is_there(client: &Client, role: &str) -> Result<(), Trouble> {
    let exists = "SELECT FROM pg_roles WHERE rolname = $1";
    if client.query_opt(exists, &[&role]).await?.is_none() {
        return Err(Trouble::Refused(format!(
            "nothing was changed: there is no role {role:?}; make it first: CREATE ROLE {} LOGIN",
            quoted(role)
        )));
    }
    Ok(())
}

async fn grant(client: &Client, schema: &Schema, roles: Roles<'_>) -> Result<(), Trouble> {
    for (role, rights) in [(roles.run, RUN), (roles.look, LOOK)] {
        let Some(role) = role else { continue };
        // Neither name may be taken for a part of the statements.
        let rights = rights.split(":role").map(|part| schema.in_it(part));
        let rights = rights.collect::<Vec<_>>().join(&quoted(role));
        client.batch_execute(&rights).await.map_err(|error| {
            let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            match (denied, Trouble::from(error)) {
                (true, Trouble::Refused(why)) => Trouble::Refused(format!(
                    "{why}: only the owner of the schema {:?} can grant rights on it; connect as that user",
                    schema.name()
                )),
                (_, trouble) => trouble,
            }
        })?;
    }
    Ok(())
}

/// A step may have made tables and functions: all roles that have rights get those on them, too.
async fn grant_again(client: &Client, schema: &Schema) -> Result<(), Trouble> {
    let roles = "SELECT r.rolname::text, bool_or(a.privilege_type = 'INSERT') FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) a \
                 JOIN pg_roles r ON r.oid = a.grantee \
                 WHERE n.nspname = $1 AND c.relname = 'task' AND a.grantee <> c.relowner GROUP BY 1";
    for row in client.query(roles, &[&schema.name()]).await? {
        let role: String = row.try_get(0)?;
        let roles = match row.try_get(1)? {
            true => Roles {
                run: Some(&role),
                look: None,
            },
            false => Roles {
                run: None,
                look: Some(&role),
            },
        };
        grant(client, schema, roles).await?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
