//! The journal in a PostgreSQL database, as a [`Store`](super::store::Store).
//!
//! Several processes may use it at once. Each start of a pipeline is a *node*, a row with a lease and a count of
//! commits, and the owner of the tasks that it has accepted. A commit first makes itself the next one of that
//! count, which fails once the node has been buried: whatever a process believes, it records nothing once its
//! lease has run out and others may take its tasks over. The same count says what came of a commit whose
//! answer was lost.

// A connection, with its text for people and its schema,
pub(super) mod server;

mod error;
mod text;

// on which one future runs at a time,
mod session;

// keeps the tables of a journal,
pub(super) mod schema;

// which a node has as long as its lease is renewed;
mod lease;
pub(super) mod node;

// its commits, each sent at once,
mod changes;
mod commit;
mod once;

// make it a store, which a process enters, and whose rows are read again at the next start.
mod entry;
pub(super) mod store;

// A node takes over the tasks of those that have gone.
mod claims;

mod columns;

// People look into it and decide, and make it for others.
pub(super) mod decide;
pub(super) mod looks_on;
pub(super) mod node_row;
pub(super) mod setup;
pub(super) mod snapshot;
pub(super) mod snapshot_tasks;
mod upkeep;

#[cfg(test)]
pub(super) mod support;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod tests;
