//! A task's words: its id, its state machine, its record and the table of those in flight.

mod id;
mod outcome;
mod record;
mod standing;
mod state;
mod table;
mod undo;
mod wheel;

use std::sync::atomic;

pub use id::{Key, TaskId};
pub use outcome::{End, Outcome, Rollback, StageName, StopCause, Stuck, StuckUndo};
#[cfg(feature = "journal")]
pub(crate) use record::Restored;
pub(crate) use record::{Answer, Ended, Halted, Life, Stop, Task, TaskRef};
pub(crate) use standing::{Standing, fence};
pub use state::{Event, Illegal, StageIx, State, next};
pub use table::Counts;
pub(crate) use table::{Admission, Blank, Lease, Refused, Table, end_of};
pub(crate) use undo::{AnyUndo, Undo, UndoStatus, Undos};
pub(crate) use wheel::Wheel;
