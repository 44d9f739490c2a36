//! The processes that share a journal, as people and their tools see them.

use std::time::{Duration, SystemTime};

use crate::task::{StageIx, StageName};

/// The processes on a journal in a database at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct JournalCluster {
    /// The number of the node that this process is.
    pub this: i32,
    /// The time until this process's lease runs out, as it sees it: zero once it is over or the process has ended.
    pub lease_left: Duration,
    /// The nodes: those that live, and those that have gone and still have tasks.
    pub nodes: Vec<JournalNode>,
    /// The newest hundred takeovers, the last one first.
    pub takeovers: Vec<JournalTakeover>,
    /// The number of tasks that no node has: the next one with room takes them.
    pub waiting: u64,
    /// The tasks that no node which lives can go on with, by the stages that they wait for.
    pub stranded: Vec<JournalStranded>,
    /// Tasks are counted as far as this: where a number of tasks here is as high or higher, there may be more.
    pub counted_to: u64,
}

/// Tasks that a node has got from another one that has gone. A journal remembers this after they have ended, and after
/// both nodes are forgotten: for 30 days, and as far as the last 1,000 pairs of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalTakeover {
    /// The node that took them over.
    pub node: i32,
    /// Its machine and its process's number there.
    pub name: String,
    /// The node that had them.
    pub from: i32,
    /// The name of that one.
    pub from_name: String,
    /// The node that had them was killed, or its lease ran out; otherwise it has left them to others.
    pub killed: bool,
    /// The number of these tasks.
    pub tasks: u64,
    /// The last time at which it got some, by the database's clock.
    pub at: SystemTime,
}

/// A stage that a journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStage {
    /// The number that tasks refer to, from 0. The pipeline's own stages come first. Others follow
    /// that are gone, or of another version by now; they may still have tasks.
    pub number: StageIx,
    /// Its name.
    pub name: StageName,
    /// Its [version](crate::IntoWork::version).
    pub version: u32,
}

/// A process that runs, or has run, a pipeline on a journal in a database. One that has gone is forgotten once it has
/// no tasks any more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalNode {
    /// Its number. Each start of a process has another one.
    pub id: i32,
    /// Its machine and its process's number there.
    pub name: String,
    /// Its state.
    pub state: JournalNodeState,
    /// Its stages in their versions, in their order. A process that only submits has none.
    pub stages: Vec<JournalStage>,
    /// The time at which it began, by the database's clock.
    pub began: SystemTime,
    /// The length of its lease.
    pub lease: Duration,
    /// The time until its lease runs out, unless it is renewed; `None` if it has run out.
    pub lease_left: Option<Duration>,
    /// The number of its commits.
    pub commits: u64,
    /// The number of its tasks, including those that are stuck.
    pub tasks: u64,
    /// The number of tasks that it had room for when it last looked for some.
    pub room: u64,
    /// The number of its tasks that waited for a worker then.
    pub queued: u64,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalNodeState {
    /// It lives: its lease holds.
    Live,
    /// Its lease has run out, and no other node has noticed yet.
    Overdue,
    /// It has ended by itself. Others take over the tasks that it has left.
    Left,
    /// Its lease has run out, and others take its tasks over.
    Dead,
}

/// Tasks that wait for a process with these stages, since no node that lives has them all in these versions and this
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStranded {
    /// The stages. None if any process will do.
    pub stages: Vec<JournalStage>,
    /// The number of these tasks, including those that are stuck.
    pub tasks: u64,
    /// The number of those that are stuck. These can be resolved without such a process.
    pub stuck: u64,
}
