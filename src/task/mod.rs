//! A task's words: its id, its state machine, its record and the table of those in flight.

mod counts;
mod id;
mod lease;
mod outcome;
mod record;
mod standing;
mod state;
mod table;
mod undo;
mod wheel;

use std::sync::atomic;

pub use counts::Counts;
pub use id::{Key, TaskId};
pub(crate) use lease::{Blank, Lease};
pub use outcome::{End, Outcome, Rollback, StageName, StopCause, Stuck, StuckUndo};
#[cfg(feature = "journal")]
pub(crate) use record::Restored;
pub(crate) use record::{Admission, Answer, Ended, Halted, Life, Stop, Task, TaskRef};
pub(crate) use standing::{Standing, fence};
pub use state::{Event, Illegal, StageIx, State, next};
pub(crate) use table::{Refused, Table, end_of};
pub(crate) use undo::{AnyUndo, Undo, UndoStatus, Undos};
pub(crate) use wheel::Wheel;
