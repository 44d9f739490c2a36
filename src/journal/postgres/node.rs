//! A process in a journal, and its choices.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use super::{lease::Renewal, server::Schema};
use crate::journal::{lease::Lease, store::Owners};

/// The choices for a journal in a database.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Choices {
    /// Default: `batrun_` and the pipeline's name.
    pub(in crate::journal) schema: Option<String>,
    pub(in crate::journal) lease: Duration,
    /// The longest time for which a commit is tried while the database is away.
    pub(in crate::journal) patience: Duration,
    /// The longest time to wait for an answer.
    pub(in crate::journal) answer: Duration,
}

/// A node that lives, as far as it knows.
pub(super) struct Node {
    pub(super) schema: Schema,
    pub(super) id: i32,
    /// The number of its stages in their versions.
    pub(super) revision: i32,
    /// The key of a task that has failed is free.
    pub(super) reuses: bool,
    /// The nodes before of the tasks that there were at the start.
    pub(super) owners: HashMap<u64, Owners>,
    /// The number of its commits that have happened.
    pub(super) commits: i64,
    /// The same, for the thread that renews the lease.
    pub(super) confirmed: Arc<AtomicI64>,
    pub(super) lease: Arc<Lease>,
    pub(super) renewal: Renewal,
}
