//! Decisions of a person about tasks, left in the database for the nodes that have them.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher, RandomState},
    thread,
    time::{Duration, Instant},
};

use tokio_postgres::{Client, Row};

use super::{
    error::Trouble, node_row::LIVES, server::Schema, session::Connected, snapshot::Snapshot,
};
use crate::journal::store::StoreError;

/// The pause between two looks for answers.
const PAUSE: Duration = Duration::from_millis(50);

/// A task as a decision about it finds it.
pub(in crate::journal) struct Standing {
    pub(in crate::journal) task: u64,
    pub(in crate::journal) stuck: bool,
    pub(in crate::journal) state: String,
    /// A node that lives has it, or has its stages and may take it over.
    pub(in crate::journal) has_node: bool,
}

/// A decision that was made.
pub(in crate::journal) struct Told {
    pub(in crate::journal) task: u64,
    pub(in crate::journal) has_node: bool,
    /// The number under which it waits for a node; `None` if it is carried out already.
    pub(in crate::journal) command: Option<i64>,
    pub(in crate::journal) answer: Option<String>,
}

/// The outcome of a transaction: it was refused before anything was written, or it is done.
pub(in crate::journal) type Decided<E> = Result<Vec<Told>, E>;

impl Snapshot {
    /// Writes a decision about each of these tasks, if all of them are there and `check` agrees. What it says
    /// otherwise is returned, and nothing is changed.
    ///
    /// Tasks that are stuck and that no node which lives can have are resolved here: nobody else ever would.
    pub(in crate::journal) fn decide<E: Send>(
        &mut self,
        tasks: &[u64],
        what: &'static str,
        check: impl Fn(&[Standing]) -> Result<(), E> + Send + Sync,
    ) -> Result<Decided<E>, StoreError> {
        self.end()?;
        let ids: Vec<i64> = tasks.iter().map(|task| *task as i64).collect();
        let schema = self.schema.clone();
        let decided = self.run(async |connected: &mut Connected| {
            let client = &connected.client;
            client.batch_execute("BEGIN").await?;
            let made = in_transaction(client, &schema, &ids, what, &check).await;
            let end = match &made {
                Ok(Ok(_)) => "COMMIT",
                _ => "ROLLBACK",
            };
            match client.batch_execute(end).await {
                Err(error) if made.is_ok() => Err(error.into()),
                _ => made,
            }
        });
        let decided = decided.map_err(|trouble| self.explained(trouble));
        let begun = self.begin();
        let decided = decided?;
        begun?;
        Ok(decided)
    }

    /// Waits for the answers of nodes for this long at most. Decisions for which there is no node aren't waited
    /// for.
    pub(in crate::journal) fn wait_for_answers(
        &mut self,
        told: &mut [Told],
        wait: Duration,
    ) -> Result<(), StoreError> {
        let until = Instant::now() + wait;
        self.end()?;
        let open = |told: &[Told]| -> Vec<i64> {
            let open = told
                .iter()
                .filter(|told| told.answer.is_none() && told.has_node);
            open.filter_map(|told| told.command).collect()
        };
        let statement =
            "SELECT id, answer FROM @.command WHERE id = ANY ($1) AND answer IS NOT NULL";
        let statement = self.schema.in_it(statement);
        loop {
            let commands = open(told);
            if commands.is_empty() {
                break;
            }
            let (statement, commands) = (&statement, &commands);
            let answers: Vec<Row> = self.run(async |connected: &mut Connected| {
                Ok(connected.client.query(statement, &[commands]).await?)
            })?;
            for row in answers {
                let (id, answer): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                for told in told.iter_mut().filter(|told| told.command == Some(id)) {
                    told.answer = Some(answer.clone());
                }
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(PAUSE);
        }
        self.begin()
    }

    /// The error of a user without the rights for it says so.
    fn explained(&self, trouble: Trouble) -> StoreError {
        match trouble {
            Trouble::Refused(why) if why.contains("(42501)") => StoreError::Failed(format!(
                "nothing was changed: {why}: this user may look, and not decide. Take the user that the \
                 pipeline's processes have, or give this one their rights: batrun cluster init --schema {:?} \
                 --for-user ROLE",
                self.schema.name()
            )),
            other => other.into(),
        }
    }
}

async fn in_transaction<E>(
    client: &Client,
    schema: &Schema,
    ids: &[i64],
    what: &str,
    check: impl Fn(&[Standing]) -> Result<(), E>,
) -> Result<Decided<E>, Trouble> {
    // From here on no process can enter, so that it stays true who can go on with a task.
    client
        .execute(&schema.in_it("SELECT @.bury(0)"), &[])
        .await?;
    let lock = "SELECT pg_advisory_xact_lock(tableoid::bigint) FROM @.node WHERE id = 0";
    client.execute(&schema.in_it(lock), &[]).await?;
    let standings = standings(client, schema, ids).await?;
    if let Err(refused) = check(&standings) {
        return Ok(Err(refused));
    }
    // The last decision counts, as long as no node has begun with one before.
    let withdraw = "UPDATE @.command SET answer = 'refused: another decision came after it', \
                    answered = clock_timestamp() WHERE task = ANY ($1) AND answer IS NULL AND node IS NULL";
    client.execute(&schema.in_it(withdraw), &[&ids]).await?;
    let gone = match what {
        "resolve" => resolve(client, schema, ids).await?,
        _ => HashSet::new(),
    };
    let mut told = Vec::with_capacity(standings.len());
    for standing in standings {
        let (task, has_node) = (standing.task, standing.has_node);
        let is_gone = gone.contains(&(task as i64));
        let command = match is_gone {
            true => None,
            false => Some(tell(client, schema, task as i64, what).await?),
        };
        told.push(Told {
            task,
            has_node,
            command,
            answer: is_gone.then(|| "resolved".to_owned()),
        });
    }
    Ok(Ok(told))
}

async fn standings(
    client: &Client,
    schema: &Schema,
    ids: &[i64],
) -> Result<Vec<Standing>, Trouble> {
    let statement = schema.in_it(&format!(
        "SELECT t.id, t.stuck, t.state, ({LIVES}) IS TRUE OR {FITS} FROM @.task t \
         LEFT JOIN @.node n ON n.id = t.owner WHERE t.id = ANY ($1) ORDER BY t.id"
    ));
    let mut standings = Vec::new();
    for row in client.query(&statement, &[&ids]).await? {
        standings.push(Standing {
            task: row.try_get::<_, i64>(0)? as u64,
            stuck: row.try_get(1)?,
            state: row.try_get(2)?,
            has_node: row.try_get(3)?,
        });
    }
    Ok(standings)
}

/// True of a task `t` whose stages some node has that lives.
const FITS: &str = "EXISTS (SELECT FROM @.node m WHERE m.state = 'live' AND m.revision > 0 \
                    AND t.revision IN (SELECT @.fitting(m.revision)))";

/// Deletes those tasks that are stuck, have no node, and that no node can have. A node that has one just taken
/// over keeps it.
async fn resolve(client: &Client, schema: &Schema, ids: &[i64]) -> Result<HashSet<i64>, Trouble> {
    let lock = "SELECT FROM @.node WHERE state <> 'live' \
                AND id IN (SELECT owner FROM @.task WHERE id = ANY ($1)) ORDER BY id FOR UPDATE";
    client.query(&schema.in_it(lock), &[&ids]).await?;
    let delete = schema.in_it(&format!(
        "DELETE FROM @.task t USING @.node n WHERE t.id = ANY ($1) AND t.stuck AND n.id = t.owner \
         AND n.state <> 'live' AND NOT {FITS} RETURNING t.id"
    ));
    let rows = client.query(&delete, &[&ids]).await?;
    let gone: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let gone = gone?;
    let undos = schema.in_it("DELETE FROM @.undo WHERE task = ANY ($1)");
    client.execute(&undos, &[&gone]).await?;
    Ok(gone.into_iter().collect())
}

async fn tell(client: &Client, schema: &Schema, task: i64, what: &str) -> Result<i64, Trouble> {
    let number = RandomState::new().build_hasher().finish() as i64;
    let tell = schema.in_it("SELECT @.tell($1, $2, $3)");
    let row = client.query_one(&tell, &[&number, &task, &what]).await?;
    match row.try_get(0)? {
        true => Ok(number),
        false => Err(Trouble::Refused(format!(
            "nothing was changed: task {} has just left the journal",
            task as u64
        ))),
    }
}
