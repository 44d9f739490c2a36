//! Every behaviour of batrun, a file each. A test that proves a promise of GUARANTEES.md begins
//! with its number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod kit;

mod model;
// How tasks end: one outcome each, nothing started too late, nothing late unnoticed.
mod deadlines;
mod ends;
mod starts;
mod submitting;
// How what they did is taken back.
mod cancels;
mod retries;
mod rollback;
mod stopping;
mod undos;
// What the pipeline withstands.
mod bounded;
mod downs;
mod edges;
mod hangs;
mod nothing_left;
mod panics;
mod races;
mod shutdowns;
// What users test theirs with.
mod testing;
// What its users turn and put in, and what they are told.
mod actors;
#[cfg(feature = "journal")]
mod attacks;
#[cfg(feature = "journal")]
mod disks;
mod embedding;
#[cfg(feature = "journal")]
mod journals;
#[cfg(feature = "journal")]
mod keys;
mod ledgers;
mod logging;
mod misuse;
#[cfg(feature = "journal")]
mod outsiders;
#[cfg(feature = "journal")]
mod restarts;
mod switches;
// The tests themselves.
mod guarantees;
