//! One file for each behaviour of batrun, in the order in which a task meets them. A test that proves a
//! promise of GUARANTEES.md begins with the promise's number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod support;

// Putting a pipeline together: mistakes are errors, of the build or of the compiler.
mod misuse;

// Submitting: how much fits, and how producers and stages push back.
mod bounded;
mod producer_submits;

// A task at work: its start, its retries, its deadline, its one outcome.
mod deadlines;
mod names;
mod failures;
mod no_late_start;
mod outcomes;
mod progress;
mod retries;

// Rollback: undos as they are registered, as they run, and as they fail.
mod rollback;
mod stopping;
mod stuck_retries;
mod undo_failures;
mod undo_registration;

// Failures of stages: panics, values that can't be built, calls that hang.
mod blocking_hangs;
mod panics;
mod stage_down;
mod hostile_values;
mod user_values;
mod worker_death;
mod lost_jobs;

// Events that coincide: two ends at once, and tasks between two steps.
mod boundary_cases;
mod races;

// A pipeline as a whole: its switches, its log, its end, the application around it.
mod actors;
mod control;
mod timelines;
mod embedding;
mod logging;
mod nothing_left;
mod pause_resize_rate;
mod waiting;
mod shutdowns;

// Records of each change: a ledger of the user's own.
mod ledgers;

// The journal: keys, restarts after a kill, disks that fail, and attempts to break it.
#[cfg(feature = "journal")]
mod adversarial;
#[cfg(feature = "journal")]
mod disk_failures;
#[cfg(feature = "journal")]
mod foreign_writers;
#[cfg(feature = "journal")]
mod undecodable;
#[cfg(feature = "journal")]
mod by_key;
#[cfg(feature = "journal")]
mod journal_reader;
#[cfg(feature = "journal")]
mod keys;
#[cfg(feature = "journal")]
mod recovery;
#[cfg(feature = "journal")]
mod recovery_hard_cases;
#[cfg(feature = "journal")]
mod suspects;
#[cfg(feature = "journal")]
mod lock_waits;
#[cfg(feature = "journal")]
mod journal_ids;
#[cfg(feature = "journal")]
mod submit_now;

// Random pipelines against a model that says what must happen.
mod model;

// The test kit that users get with the feature `testing`.
mod testing;

// The promises: each has a test. The map: it is true of the code.
mod architecture;
mod guarantees;
