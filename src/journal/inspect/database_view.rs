//! The contents of a journal in a database that a file doesn't have, as people and their tools read them.

use std::time::{Duration, SystemTime};

use super::view::JournalTask;
use crate::task::{StageName, TaskId};

/// The schema of a journal in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalSchema {
    /// That of the pipeline with this name: `batrun_` and the name.
    OfPipeline(String),
    /// The one with this name, as [`JournalOptions::schema`](crate::journal::JournalOptions::schema) says it.
    Named(String),
}

/// A task in a journal in a database.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalDatabaseTask {
    /// The task.
    pub task: JournalTask,
    /// The node that has it; `None` if it waits for one.
    pub node: Option<i32>,
    /// A node that lives has it, or has its stages and takes it over once it has room. Otherwise it waits for a process
    /// with its stages.
    pub has_node: bool,
    /// The number of nodes that have taken it over.
    pub taken_over: u32,
}

/// The number of tasks in a state, at a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalCount {
    /// The state: `queued`, `running`, `cleaning up` or `rolling back`.
    pub state: String,
    /// The stage; `None` once the rollback has begun.
    pub stage: Option<StageName>,
    /// They are stuck.
    pub stuck: bool,
    /// Their number.
    pub tasks: u64,
}

/// The state of a journal's tables, and of what keeps them from being cleaned. A user sees of others' connections only
/// what the server lets them see: the role `pg_read_all_stats` sees all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct JournalUpkeep {
    /// The tables, the largest one first.
    pub tables: Vec<JournalTable>,
    /// The oldest holder of rows that could be cleaned away otherwise; `None` if there is none.
    pub oldest: Option<JournalHorizon>,
    /// The standbys of the server.
    pub standbys: Vec<JournalStandby>,
}

/// A table's size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalTable {
    /// Its name.
    pub name: String,
    /// Its size in bytes, with its indexes.
    pub bytes: u64,
    /// The number of its rows, as the server's statistics have it.
    pub rows: u64,
    /// The number of dead rows that aren't cleaned away yet.
    pub dead_rows: u64,
    /// The last time at which it was vacuumed.
    pub vacuumed: Option<SystemTime>,
}

/// A transaction, a replication slot or a prepared transaction that keeps dead rows from being cleaned away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalHorizon {
    /// The holder, in words.
    pub holder: String,
    /// The number of transactions that have begun since.
    pub transactions: u64,
    /// The time since it began; `None` for a replication slot.
    pub since: Option<Duration>,
}

/// A standby of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStandby {
    /// Its name.
    pub name: String,
    /// `sync`, `quorum`, `potential` or `async`; `None` if the user may not see it.
    pub sync: Option<String>,
    /// The bytes of log that it has not replayed yet.
    pub bytes_behind: Option<u64>,
    /// The time by which it is behind.
    pub behind: Option<Duration>,
}

/// The fate of a decision about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalAnswer {
    /// It is cancelled, and rolled back.
    Cancelled,
    /// It is tried again.
    Retried,
    /// It has left the journal, and its outcome stays.
    Resolved,
    /// It had ended by itself, or was about to for another reason.
    Ended,
    /// Its node refused, for this reason.
    Refused(String),
    /// It is written down, and its node has not answered yet: it does so once it can.
    NoAnswerYet,
    /// It is written down, and no node that lives has the task's stages: the next process that has them carries it out.
    NoNode,
}

/// A decision about a task, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalDecision {
    /// The task.
    pub task: TaskId,
    /// The result.
    pub answer: JournalAnswer,
}
