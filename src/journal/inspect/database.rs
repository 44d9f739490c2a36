//! A journal in a database: looking into it.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    database_view::{JournalCount, JournalDatabaseTask, JournalSchema},
    shown,
};
use crate::{
    journal::{
        corrupt::Corrupt,
        error::JournalError,
        postgres::{
            node_row::NodeRow,
            schema::FORMAT,
            server::{Schema, Server},
            snapshot::{Snapshot, StrandedRow},
            snapshot_tasks::{FoundTask, Only},
        },
        rows::{meta::PIPELINE, stage::StageRow},
        store::StoreError,
    },
    ledger::cluster::{JournalNode, JournalNodeState, JournalStage, JournalStranded},
    task::{StageIx, StageName, TaskId},
};

/// A journal in a PostgreSQL database, to look into it and to decide about its tasks while nodes run on it.
///
/// ```no_run
/// use batrun::journal::{JournalDatabase, JournalSchema};
///
/// # fn main() -> Result<(), batrun::journal::JournalError> {
/// let orders = JournalSchema::OfPipeline("orders".to_owned());
/// let mut journal = JournalDatabase::look("postgres://shop@db.example/shop", &orders)?;
/// journal.stuck(|task| match task {
///     Ok(found) => println!("task {} waits for somebody", found.task.id),
///     Err(corrupt) => eprintln!("{corrupt}"),
/// })
/// # }
/// ```
///
/// Everything is shown as it was at one moment, that of [`look`](Self::look) or of the last decision. Don't keep it for
/// long: as long as it is there, the database can't clean away rows that have died since, and a large journal takes a
/// while to read. If nothing is read for a minute, the server ends it.
///
/// All calls block, so make them on a thread of their own; on an arbiter they hold it up. The program `batrun`
/// (features `cli` and `postgres`) is made of them.
pub struct JournalDatabase {
    pub(super) snapshot: Snapshot,
    pub(super) path: PathBuf,
    schema: String,
    pipeline: Option<String>,
    revisions: HashMap<i32, Vec<StageRow>>,
    corrupt: Vec<Corrupt>,
}

/// The limit of a count, or of a list, of everything.
pub(super) const ALL: i64 = i64::MAX;

/// The server and the schema, with the place in errors.
pub(super) fn place(
    address: &str,
    schema: &JournalSchema,
) -> Result<(Server, Schema, PathBuf), JournalError> {
    let invalid = |path: &Path, why| {
        let error = io::Error::new(io::ErrorKind::InvalidInput, why);
        JournalError::io(path, error)
    };
    let server = Server::parse(address);
    let server = server.map_err(|why| invalid(Path::new("the address of a journal"), why))?;
    let path = server.path();
    let schema = match schema {
        JournalSchema::OfPipeline(pipeline) => Schema::of(pipeline),
        JournalSchema::Named(name) => Schema::named(name),
    };
    let schema = schema.map_err(|why| invalid(&path, why))?;
    Ok((server, schema, path))
}

impl JournalDatabase {
    /// Looks into the journal at this address, which is that of
    /// [`Journal::postgres`](crate::journal::Journal::postgres).
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server can't be reached or refuses the user, or if there is no such schema;
    /// [`NotAJournal`](JournalError::NotAJournal) or [`Format`](JournalError::Format) if there is something else in
    /// it. No error has the password.
    pub fn look(address: &str, schema: &JournalSchema) -> Result<Self, JournalError> {
        let (server, schema, _) = place(address, schema)?;
        Self::open(server, schema, None)
    }

    /// Waits so long for each answer, or a minute.
    pub(super) fn open(
        server: Server,
        schema: Schema,
        answer: Option<Duration>,
    ) -> Result<Self, JournalError> {
        let (path, name) = (server.path(), schema.name().to_owned());
        let failed = |error| JournalError::store(&path, error);
        let mut snapshot = Snapshot::new(server, schema, answer).map_err(failed)?;
        let (words, mut corrupt) = snapshot.words().map_err(failed)?;
        let (revisions, corrupt_stages) = snapshot.revisions().map_err(failed)?;
        corrupt.extend(corrupt_stages);
        let pipeline = words.into_iter().find(|(name, _)| name == PIPELINE);
        Ok(JournalDatabase {
            snapshot,
            path,
            schema: name,
            pipeline: pipeline.map(|(_, pipeline)| pipeline),
            revisions,
            corrupt,
        })
    }

    /// The database and its server, without the password.
    pub fn database(&self) -> String {
        self.path.display().to_string()
    }

    /// The schema's name.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name of the pipeline whose journal it is; `None` before that pipeline's first start.
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// The version of the tables.
    pub fn format(&self) -> i32 {
        FORMAT
    }

    /// The damage to stages and to facts about the journal itself. A pipeline would refuse such a journal.
    pub fn corrupt(&self) -> Vec<JournalError> {
        let error = |corrupt: &Corrupt| self.corrupt_error(corrupt.clone());
        self.corrupt.iter().map(error).collect()
    }

    /// The nodes: those that live, and those that have gone and still have tasks.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn nodes(&mut self) -> Result<Vec<JournalNode>, JournalError> {
        self.nodes_counted_to(ALL)
    }

    /// The same. The tasks of each are counted as far as `most`.
    pub(super) fn nodes_counted_to(&mut self, most: i64) -> Result<Vec<JournalNode>, JournalError> {
        let rows = self.snapshot.nodes(most);
        let rows = rows.map_err(|error| self.store_error(error))?;
        let node = |row: NodeRow| JournalNode {
            id: row.id,
            state: match row.state.as_str() {
                "left" => JournalNodeState::Left,
                "dead" => JournalNodeState::Dead,
                _ if row.left > 0 || row.spared => JournalNodeState::Live,
                _ => JournalNodeState::Overdue,
            },
            name: row.name,
            stages: self.stages_of(row.revision),
            began: at(row.began),
            lease: Duration::from_millis(row.lease),
            lease_left: u64::try_from(row.left).ok().map(Duration::from_millis),
            commits: row.commits,
            tasks: row.tasks,
            room: row.room,
            queued: row.queued,
        };
        Ok(rows.into_iter().map(node).collect())
    }

    /// The numbers of tasks by state and stage, as the columns have them: no checksum is verified for it.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn counts(&mut self) -> Result<Vec<JournalCount>, JournalError> {
        let rows = self.snapshot.counts();
        let rows = rows.map_err(|error| self.store_error(error))?;
        let mut counts: Vec<JournalCount> = Vec::new();
        for row in rows {
            let stage = row.stage.map(|stage| self.stage_name(row.revision, stage));
            let (state, stuck) = (row.state, row.stuck);
            // Several revisions have the same stages.
            let known = counts
                .iter_mut()
                .find(|count| count.state == state && count.stage == stage && count.stuck == stuck);
            match known {
                Some(count) => count.tasks += row.tasks,
                None => counts.push(JournalCount {
                    state,
                    stage,
                    stuck,
                    tasks: row.tasks,
                }),
            }
        }
        Ok(counts)
    }

    /// The tasks that no node which lives can go on with, by the stages that they wait for.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn stranded(&mut self) -> Result<Vec<JournalStranded>, JournalError> {
        self.stranded_counted_to(ALL)
    }

    /// The same, counted as far as `most` for each node that has gone.
    pub(super) fn stranded_counted_to(
        &mut self,
        most: i64,
    ) -> Result<Vec<JournalStranded>, JournalError> {
        let rows = self.snapshot.stranded(most);
        let rows = rows.map_err(|error| self.store_error(error))?;
        let stranded = |row: StrandedRow| JournalStranded {
            stages: self.stages_of(row.revision),
            tasks: row.tasks,
            stuck: row.stuck,
        };
        Ok(rows.into_iter().map(stranded).collect())
    }

    /// Calls `each` with every task, in the order of their numbers.
    ///
    /// A damaged task is an error that names it, and the others follow.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn tasks(
        &mut self,
        each: impl FnMut(Result<JournalDatabaseTask, JournalError>),
    ) -> Result<(), JournalError> {
        self.read_tasks(Only::All, each)
    }

    /// Calls `each` with the first tasks that aren't stuck, as many as `most`, as [`tasks`](Self::tasks) does.
    ///
    /// # Errors
    /// The same.
    pub fn first_tasks(
        &mut self,
        most: usize,
        each: impl FnMut(Result<JournalDatabaseTask, JournalError>),
    ) -> Result<(), JournalError> {
        self.read_tasks(Only::UnderWay(most), each)
    }

    /// Calls `each` with every stuck task, as [`tasks`](Self::tasks) does.
    ///
    /// # Errors
    /// The same.
    pub fn stuck(
        &mut self,
        each: impl FnMut(Result<JournalDatabaseTask, JournalError>),
    ) -> Result<(), JournalError> {
        self.read_tasks(Only::Stuck, each)
    }

    /// The task with this number, if it is in the journal. A task that has ended is among the
    /// [outcomes](Self::outcomes).
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if it is damaged, and [`JournalError::Io`] if the server doesn't answer.
    pub fn task(&mut self, id: TaskId) -> Result<Option<JournalDatabaseTask>, JournalError> {
        let mut found = None;
        self.read_tasks(Only::Task(id.0), |task| found = Some(task))?;
        found.transpose()
    }

    /// The task with this key that is in the journal. Of several that had it, that is the one under way, else the last
    /// that is stuck.
    ///
    /// # Errors
    /// As [`task`](Self::task).
    pub fn task_of_key(&mut self, key: &str) -> Result<Option<JournalDatabaseTask>, JournalError> {
        let id = self.snapshot.task_of_key(key);
        match id.map_err(|error| self.store_error(error))? {
            Some(id) => self.task(TaskId(id)),
            None => Ok(None),
        }
    }

    fn read_tasks(
        &mut self,
        only: Only,
        mut each: impl FnMut(Result<JournalDatabaseTask, JournalError>),
    ) -> Result<(), JournalError> {
        let (path, revisions) = (self.path.clone(), &self.revisions);
        let read = (|| {
            let now = self.snapshot.clock()?;
            let fitting = self.snapshot.fitting()?;
            let nodes = self.snapshot.nodes(0)?.into_iter();
            let nodes = nodes.filter(|node| node.state == "live" && (node.left > 0 || node.spared));
            let nodes: HashSet<i32> = nodes.map(|node| node.id).collect();
            self.snapshot.tasks(only, &mut |found| {
                let task = found.and_then(
                    |FoundTask {
                         rows,
                         owner,
                         owners,
                     }| {
                        let name = |stage| stage_name(revisions, owners.revision, stage);
                        Ok(JournalDatabaseTask {
                            task: shown::task(rows, now, &name)?,
                            node: (owner > 0).then_some(owner),
                            has_node: nodes.contains(&owner) || fitting.contains(&owners.revision),
                            taken_over: owners.count,
                        })
                    },
                );
                each(task.map_err(|corrupt| JournalError::store(&path, corrupt.into())));
            })
        })();
        read.map_err(|error| self.store_error(error))
    }

    fn stages_of(&self, revision: i32) -> Vec<JournalStage> {
        let stages = self.revisions.get(&revision);
        stages.map_or_else(Vec::new, |stages| shown::stages(stages))
    }

    fn stage_name(&self, revision: i32, stage: StageIx) -> StageName {
        stage_name(&self.revisions, revision, stage)
    }

    pub(super) fn corrupt_error(&self, corrupt: Corrupt) -> JournalError {
        self.store_error(corrupt.into())
    }

    pub(super) fn store_error(&self, error: StoreError) -> JournalError {
        JournalError::store(&self.path, error)
    }
}

/// The name of a stage of a revision. A process that only submits knows no stage.
fn stage_name(revisions: &HashMap<i32, Vec<StageRow>>, revision: i32, stage: StageIx) -> StageName {
    match revisions.get(&revision) {
        Some(stages) if !stages.is_empty() => shown::stage_name(stages, stage),
        _ if stage == 0 => "the first stage".into(),
        _ => format!("stage {stage}").into(),
    }
}

/// A time in milliseconds since 1970.
pub(super) fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

impl fmt::Debug for JournalDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalDatabase")
            .field("path", &self.path)
            .field("schema", &self.schema)
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}
