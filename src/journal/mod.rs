//! A pipeline that outlives its process: everything it needs to go on is in a file, or in a
//! PostgreSQL database.
//!
//! [`Pipeline::journal`](crate::Pipeline::journal) takes a [`Journal`]. What each [`Durability`]
//! survives is said there. [`JournalFile`] reads such a file while no pipeline runs, or beside one, and
//! `JournalDatabase` a database; the program `batrun` (feature `cli`) does that for people.

// # The way of a change
//
// A pipeline records each `Change` to its ledger, here a
// `JournalLedger`. That encodes the change as an `entry` and hands it to the `writer`, a
// thread that commits everything that has gathered while the commit before ran. The writer knows
// all `live_tasks`: an entry changes the `task_state` by the `transitions`, and the states
// that have changed become `rows`. A `store` commits the rows: a `sqlite` file, a
// `postgres` database, or `memory` in tests. Only then do the callers learn that their changes are recorded.
//
// At the next start, `recovery` reads the rows and plans how each task goes on. In a database it also takes over
// tasks of processes that have gone, while the pipeline runs, and the `lease` says how long this one may act on its
// own. Between two runs
// `inspect` shows the file to people, and writes their decisions about stuck tasks.
//
// # Invariants
//
// - A pipeline waits for a change to be written before anything follows from it. The exceptions
//   are in one place, `JournalLedger`'s `urgency`.
// - A commit is all or nothing. After a failed one nothing is written any more.
// - One process writes a file, which the lock beside it sees to. In a database one process writes a task, its
//   owner, which the lease and the fence see to. In each process one thread writes at a time.
// - Every row carries a checksum, which is verified whenever the row is read.
// - Values of the user's are encoded, decoded, shown and dropped on the user's threads or under a
//   panic guard, never on the writer's thread.
// - The journal knows no stage, actor or pipeline. It takes from the crate `task`, `ledger`,
//   `policy`, `clock`, `panic_guard`, `failure`, and the codecs of stages as function pointers.
//
// # Floors
//
// No two files import each other, not even in a circle of several. From the bottom, each line
// imports only from those before it:
//
// 1. `time`, `codec`, `checksum`, `corrupt`, `digest`, `durability`, `stats`, `task_id_hash`,
//    `users_text`, `stage_codecs`, `key_rules`, `command`
// 2. `entry`, `undo_state`, `key_index`, `lease`
// 3. `task_state`
// 4. `transitions`, `rows`
// 5. `store`, `retention`
// 6. `error`, `live_tasks`
// 7. `sqlite`, `postgres`, `writer`
// 8. `options`, `ledger`, then `by_key`, then `elsewhere`, `enqueue`
// 9. `memory`, `recovery`, `inspect`

// A pipeline opens a journal.
mod options;

mod durability;
mod error;
mod key_rules;
mod retention;

// It records a change, encoded.
mod ledger;

// The numbers of that, for those who look on.
mod stats;

// It asks and decides by the key of a task.
mod by_key;

// It asks and decides about tasks of other processes.
mod elsewhere;

// A process without stages only has tasks recorded, for others.
#[cfg(feature = "postgres")]
mod enqueue;

mod command;
mod digest;
mod entry;
mod stage_codecs;
mod users_text;

// The writer takes the entry in,
mod writer;

// changes the task's state,
mod live_tasks;

mod key_index;
mod task_id_hash;
mod task_state;
mod transitions;
mod undo_state;

// and makes rows of it,
mod rows;

mod checksum;
mod codec;
mod corrupt;
mod time;

// which a store commits.
mod store;

// A process shares a store with others as long as its lease holds.
mod lease;

#[cfg(feature = "testing")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

// The next start goes on from there.
mod recovery;

// People look at the file.
mod inspect;

#[cfg(test)]
mod tests;

pub use crate::ledger::cluster::JournalStage;
#[cfg(feature = "postgres")]
pub use crate::ledger::cluster::{JournalNode, JournalNodeState, JournalStranded, JournalTakeover};
pub use durability::Durability;
#[cfg(feature = "postgres")]
pub use error::NotInFlight;
pub use error::{JournalError, NotStuck, WrongKey};
#[cfg(feature = "postgres")]
pub use inspect::{
    database::JournalDatabase,
    database_setup::JournalRights,
    database_view::{
        JournalAnswer, JournalCount, JournalDatabaseTask, JournalDecision, JournalHorizon,
        JournalSchema, JournalStandby, JournalTable, JournalUpkeep,
    },
};
pub use inspect::{
    file::JournalFile,
    view::{JournalOutcome, JournalTask, JournalUndo, JournalUndoStatus, JournalValue},
};
pub use key_rules::Ended;
#[cfg(feature = "testing")]
pub use memory::{disk::Disk, state::DiskFault};
pub use options::{Journal, JournalOptions};

pub(crate) use by_key::Found;
pub(crate) use codec::{decode, encode};
pub(crate) use command::{Answer, Decision};
#[cfg(feature = "postgres")]
pub(crate) use enqueue::{Enqueuer, NewTask};
pub(crate) use ledger::JournalLedger;
pub(crate) use recovery::{
    chunked_vec::ChunkedVec,
    plan::{PipelineSpec, Recovered, RecoveredTask, Suspicion, Todo},
    takeover::{Adopt, Takeover},
};
#[cfg(feature = "internals")]
pub(crate) use rows::fuzz::read_rows;
pub(crate) use stats::JournalStats;
pub(crate) use store::Load;
