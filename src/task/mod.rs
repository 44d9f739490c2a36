//! A task: its id, its state machine, its record, and the table of those in flight.
//!
//! Knows nothing of stages, actors or the pipeline it is in. Bottom first:
//! [`id`], [`trace`], [`names`], [`counts`], [`outcome`], [`status`] and [`state`] are words that everybody uses; [`undo`],
//! [`limits`], [`details`] and [`atomic_state`] are what a [`record`] is made of; [`ending`] is how
//! one ends, [`stuck_task`] what is left of one that could not, [`progress`] how far one has come;
//! [`lent`] are its undos while somebody looks at them;
//! [`prealloc`], [`timer_wheel`] and [`table`] hold all of them.

pub(crate) mod id;
pub(crate) mod trace;
pub(crate) mod names;
pub(crate) mod counts;
pub(crate) mod outcome;
pub(crate) mod status;
pub(crate) mod state;
pub(crate) mod undo;
pub(crate) mod limits;
pub(crate) mod details;
pub(crate) mod atomic_state;
pub(crate) mod record;
pub(crate) mod ending;
pub(crate) mod stuck_task;
pub(crate) mod progress;
pub(crate) mod prealloc;
pub(crate) mod timer_wheel;
pub(crate) mod lent;
pub(crate) mod table;

// Whose atomics `atomic_state` uses: here std's, in `tests/loom` loom's.
use std::sync::atomic;

pub use counts::Counts;
pub use id::{Key, TaskId};
pub use outcome::{End, Outcome, Rollback, StageName, StopCause, Stuck, StuckUndo};
pub use state::{Event, Illegal, StageIx, State, next};
pub use status::{EndKind, StageProgress, TaskStatus};

pub(crate) use atomic_state::fence;
pub(crate) use details::{EndReason, Progress, TicketAnswer};
pub(crate) use ending::{StopReason, StoppedAt};
pub(crate) use limits::Limits;
pub(crate) use names::{Named, Names};
pub(crate) use prealloc::{BlankRecord, RecordLease};
pub(crate) use record::{Owner, Task, TaskOwner, TaskRef};
#[cfg(feature = "journal")]
pub(crate) use stuck_task::RestOfRollback;
pub(crate) use stuck_task::StuckTask;
#[cfg(feature = "journal")]
pub(crate) use table::past::Restored;
pub(crate) use table::{
    Refusal, Table,
    stuck::{NotReopened, Reopened},
};
#[cfg(feature = "tracing")]
pub(crate) use trace::{Trace, is_wanted as spans_are_wanted};
pub(crate) use undo::{AnyUndo, Undo, UndoStatus};
