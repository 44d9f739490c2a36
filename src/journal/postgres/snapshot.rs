//! Everything in a journal as it was at one moment, for people who look into it.

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_postgres::Row;

use super::{
    changes::Param,
    columns::{OUTCOMES, keyed_outcome_row, outcome_block_row, stage_row},
    error::Trouble,
    node_row::{LIVES, NODES, NodeRow},
    schema::{self, FORMAT, Found},
    server::{Schema, Server},
    session::{Connected, Session},
    text::{escaped, unescaped},
};
use crate::journal::{
    corrupt::Corrupt,
    rows::{
        keyed_outcome::KeyedOutcomeRow, meta::meta_checksum, outcome_block::OutcomeBlockRow,
        stage::StageRow,
    },
    store::StoreError,
};

/// The rows that were read, and the damage that was found beside it.
pub(in crate::journal) type WithDamage<T> = (T, Vec<Corrupt>);

/// The rows that are read at once. They carry their values, which may be large.
pub(super) const PAGE: i64 = 200;

/// The longest time for an answer: the tables may be large.
const ANSWER: Duration = Duration::from_secs(60);

/// The snapshot keeps rows from being cleaned away, so it isn't held while nobody reads.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                     SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// The number of tasks that are alike.
pub(in crate::journal) struct CountRow {
    pub(in crate::journal) revision: i32,
    pub(in crate::journal) stage: Option<u16>,
    pub(in crate::journal) state: String,
    pub(in crate::journal) stuck: bool,
    pub(in crate::journal) tasks: u64,
}

/// The tasks of a revision that no node which lives can go on with.
pub(in crate::journal) struct StrandedRow {
    pub(in crate::journal) revision: i32,
    pub(in crate::journal) tasks: u64,
    pub(in crate::journal) stuck: u64,
}

/// A connection in a transaction that only reads.
pub(in crate::journal) struct Snapshot {
    pub(super) session: Session,
    pub(super) schema: Schema,
    is_open: bool,
}

impl Snapshot {
    /// Connects, and begins. Waits so long for each answer, or a minute.
    pub(in crate::journal) fn new(
        server: Server,
        schema: Schema,
        answer: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let session = Session::new(server, answer.unwrap_or(ANSWER));
        let mut snapshot = Snapshot {
            session: session.map_err(|error| StoreError::Failed(error.to_string()))?,
            schema,
            is_open: false,
        };
        snapshot.begin()?;
        let found = snapshot
            .read(async |connected, schema| schema::look(&connected.client, schema).await)?;
        match found {
            Some(Found::Journal) => Ok(snapshot),
            Some(Found::NotAJournal) => Err(StoreError::NotAJournal),
            Some(Found::Format(found)) => Err(StoreError::Format {
                found,
                known: FORMAT,
            }),
            None => Err(snapshot.missing()?),
        }
    }

    /// The error of a schema without a journal, which says where there are some.
    fn missing(&mut self) -> Result<StoreError, StoreError> {
        let others = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE c.relname = 'batrun' AND c.relkind = 'r' ORDER BY 1";
        let mut names = Vec::new();
        for row in self.rows(others, &[])? {
            names.push(format!("{:?}", row.try_get::<_, String>(0)?));
        }
        let name = self.schema.name();
        let hint = match names.is_empty() {
            true => "there is none in this database".to_owned(),
            false => format!("the schemas with journals are {}", names.join(", ")),
        };
        Ok(StoreError::Failed(format!(
            "there is no journal in the schema {name:?}; {hint}"
        )))
    }

    /// Shows everything as it is from now on.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        self.run(async |connected: &mut Connected| {
            connected.client.batch_execute("ROLLBACK").await?;
            Ok(connected.client.batch_execute(BEGIN).await?)
        })?;
        self.is_open = true;
        Ok(())
    }

    /// Lets rows be cleaned away again.
    pub(super) fn end(&mut self) -> Result<(), StoreError> {
        self.is_open = false;
        self.run(async |connected: &mut Connected| {
            Ok(connected.client.batch_execute("ROLLBACK").await?)
        })?;
        Ok(())
    }

    /// Runs on the connection, on another thread if this one is an arbiter, which runs futures itself.
    pub(super) fn run<T: Send>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connected) -> Result<T, Trouble> + Send,
    ) -> Result<T, Trouble> {
        if Handle::try_current().is_err() {
            return self.session.run(work);
        }
        let session = &mut self.session;
        let ran = thread::scope(|scope| scope.spawn(move || session.run(work)).join());
        ran.unwrap_or_else(|_| {
            Err(Trouble::Refused(
                "the thread that reads has ended".to_owned(),
            ))
        })
    }

    /// Reads in the snapshot. Without the connection there is none, and another one would show other things.
    pub(super) fn read<T: Send>(
        &mut self,
        work: impl AsyncFnOnce(&Connected, &Schema) -> Result<T, Trouble> + Send,
    ) -> Result<T, StoreError> {
        if !self.is_open {
            let why = "the connection was lost, and what it showed with it; look again".to_owned();
            return Err(StoreError::Failed(why));
        }
        let schema = self.schema.clone();
        let read = self.run(async |connected: &mut Connected| work(connected, &schema).await);
        // Any failed statement ends the transaction.
        self.is_open = read.is_ok();
        Ok(read?)
    }

    pub(super) fn rows(
        &mut self,
        statement: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.read(async |connected, schema| {
            let statement = schema.in_it(statement);
            Ok(connected.client.query(&statement, params).await?)
        })
    }

    /// The facts about the journal itself, see `rows::meta`, and the damage to them.
    pub(in crate::journal) fn words(
        &mut self,
    ) -> Result<WithDamage<Vec<(String, String)>>, StoreError> {
        let (mut words, mut corrupt) = (Vec::new(), Vec::new());
        for row in self.rows("SELECT name, value, sum FROM @.word ORDER BY name", &[])? {
            let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let value = unescaped(&value);
            if meta_checksum(&name, &value) == row.try_get::<_, i32>(2)? as u32 {
                words.push((name, value));
            } else {
                let what = format!("the row {name:?} of the table word");
                corrupt.push(Corrupt::new(what, "checksum mismatch"));
            }
        }
        Ok((words, corrupt))
    }

    /// The stages of each revision, and the damage to them.
    pub(in crate::journal) fn revisions(
        &mut self,
    ) -> Result<WithDamage<HashMap<i32, Vec<StageRow>>>, StoreError> {
        let (mut revisions, mut corrupt) = (HashMap::from([(0, Vec::new())]), Vec::new());
        let stages =
            "SELECT number, name, version, sum, revision FROM @.stage ORDER BY revision, number";
        for row in self.rows(stages, &[])? {
            let revision: i32 = row.try_get(4)?;
            let stages: &mut Vec<StageRow> = revisions.entry(revision).or_default();
            let damage = match stage_row(&row) {
                Ok(stage) => match stage.verify() {
                    Ok(()) => {
                        stages.push(stage);
                        continue;
                    }
                    Err(damage) => damage,
                },
                Err(StoreError::Corrupt(damage)) => damage,
                Err(failed) => return Err(failed),
            };
            let what = format_args!("{} of revision {revision}", damage.what);
            corrupt.push(Corrupt::new(what, damage.why));
        }
        Ok((revisions, corrupt))
    }

    /// The nodes but node 0, which is nobody. The tasks of each are counted as far as `most`.
    pub(in crate::journal) fn nodes(&mut self, most: i64) -> Result<Vec<NodeRow>, StoreError> {
        let rows = self.rows(NODES, &[&most])?;
        rows.iter().map(NodeRow::of).collect()
    }

    /// The time by the database's clock, in milliseconds since 1970.
    pub(in crate::journal) fn clock(&mut self) -> Result<u64, StoreError> {
        let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let rows = self.rows(clock, &[])?;
        let clock = rows
            .first()
            .map(|row| row.try_get::<_, i64>(0))
            .transpose()?;
        Ok(clock.unwrap_or_default() as u64)
    }

    pub(in crate::journal) fn count_outcomes(&mut self) -> Result<u64, StoreError> {
        let count = "SELECT coalesce(sum(count), 0)::bigint FROM @.outcomes";
        let rows = self.rows(count, &[])?;
        let count = rows
            .first()
            .map(|row| row.try_get::<_, i64>(0))
            .transpose()?;
        Ok(count.unwrap_or_default().max(0) as u64)
    }

    /// The numbers of tasks by state and stage, as the columns have them.
    pub(in crate::journal) fn counts(&mut self) -> Result<Vec<CountRow>, StoreError> {
        let counts =
            "SELECT revision, stage, state, stuck, count(*) FROM @.task GROUP BY 1, 2, 3, 4";
        let mut all = Vec::new();
        for row in self.rows(counts, &[])? {
            let stage: Option<i32> = row.try_get(1)?;
            all.push(CountRow {
                revision: row.try_get(0)?,
                stage: stage.map(|stage| stage as u16),
                state: row.try_get(2)?,
                stuck: row.try_get(3)?,
                tasks: row.try_get::<_, i64>(4)? as u64,
            });
        }
        Ok(all)
    }

    /// The revisions whose tasks some node that lives can go on with.
    pub(in crate::journal) fn fitting(&mut self) -> Result<HashSet<i32>, StoreError> {
        let fitting = format!(
            "SELECT DISTINCT @.fitting(n.revision) FROM @.node n WHERE n.revision > 0 AND {LIVES}"
        );
        let rows = self.rows(&fitting, &[])?;
        let all: Result<_, tokio_postgres::Error> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(all?)
    }

    /// The tasks that wait for a process with other stages than those of all nodes that live. Those of a node that has
    /// gone are counted as far as `most` for each of its revisions.
    pub(in crate::journal) fn stranded(
        &mut self,
        most: i64,
    ) -> Result<Vec<StrandedRow>, StoreError> {
        let stranded = format!(
            "SELECT r.id, sum(of_it.tasks)::bigint, sum(of_it.stuck)::bigint \
             FROM @.node n CROSS JOIN @.revision r CROSS JOIN LATERAL ( \
                 SELECT count(*) AS tasks, count(*) FILTER (WHERE counted.stuck) AS stuck FROM ( \
                     SELECT t.stuck FROM @.task t WHERE t.owner = n.id AND t.revision = r.id LIMIT $1 \
                 ) counted \
             ) of_it \
             WHERE ({LIVES}) IS NOT TRUE AND r.id NOT IN ( \
                 SELECT @.fitting(n.revision) FROM @.node n WHERE n.revision > 0 AND {LIVES} \
             ) AND of_it.tasks > 0 GROUP BY 1 ORDER BY 1"
        );
        let mut all = Vec::new();
        for row in self.rows(&stranded, &[&most])? {
            all.push(StrandedRow {
                revision: row.try_get(0)?,
                tasks: row.try_get::<_, i64>(1)? as u64,
                stuck: row.try_get::<_, i64>(2)? as u64,
            });
        }
        Ok(all)
    }

    /// At most `limit` blocks of outcomes that follow the block `after`, or the damage in their place.
    pub(in crate::journal) fn outcome_blocks(
        &mut self,
        after: Option<u64>,
        limit: i64,
    ) -> Result<Vec<OutcomeBlockRow>, StoreError> {
        let after = after.map_or(i64::MIN, |after| after as i64);
        let rows = self.rows(OUTCOMES, &[&after, &limit])?;
        rows.iter().map(outcome_block_row).collect()
    }

    /// The outcomes that have these keys by now, or the damage in their place.
    pub(in crate::journal) fn keyed_outcomes(
        &mut self,
        keys: &[&str],
    ) -> Result<Vec<Result<KeyedOutcomeRow, Corrupt>>, StoreError> {
        let statement = "SELECT key, task, at, \"end\", digest, undos, outcome, output, sum FROM @.key \
                         WHERE key = ANY ($1) AND outcome IS NOT NULL";
        let keys: Vec<_> = keys.iter().map(|key| escaped(key)).collect();
        let rows = self.rows(statement, &[&keys])?;
        rows.iter()
            .map(|row| sorted(keyed_outcome_row(row)))
            .collect()
    }
}

/// Damage is for whoever reads, and everything else ends the reading.
pub(super) fn sorted<T>(read: Result<T, StoreError>) -> Result<Result<T, Corrupt>, StoreError> {
    match read {
        Ok(row) => Ok(Ok(row)),
        Err(StoreError::Corrupt(corrupt)) => Ok(Err(corrupt)),
        Err(failed) => Err(failed),
    }
}
