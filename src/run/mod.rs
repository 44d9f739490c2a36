//! What tasks run through, in the order in which a task meets it.
//!
//! 1. An [`Intake`](crate::Intake) takes a place and room, gives the task its record in the
//!    table of tasks in flight and puts it with those to be sent on; its producer actor sends them
//!    to the first pool, many in one message.
//! 2. The [`pool`] puts them into its [`queue`] and [dispatches](dispatch) them to a worker, as many as are done in
//!    100 µs: local workers first, those of other threads when that is worth waking them.
//! 3. The [`worker`] takes one after the other from its [`hand`] and calls the stage. What is ready
//!    at once goes into the next message to the next pool; when a call has to wait, the worker
//!    sends on what it has finished and hands the rest of its batch back.
//! 4. The last pool's messages go to the [`reporter`], which frees the places and answers tickets.
//!
//! A task that fails, or that is ended from outside, by the [`deadline`] driver or by a cancel, goes
//! to the reporter as soon as nothing works on it any more. The reporter cancels its undos one
//! after the other, in the order that [`rollback`] says; a pool runs cancels before anything else.
//! [`ending`] is how a pipeline ends, and [`grounds`] what it ran on.

mod call;
mod course;
mod deadline;
mod desk;
mod dispatch;
mod ending;
mod grounds;
mod hand;
mod pool;
mod queue;
mod reporter;
#[cfg(feature = "journal")]
mod restore;
mod rollback;
mod staff;
mod turn;
mod undoing;
mod worker;

pub(crate) use ending::{Ending, Finish};
pub(crate) use grounds::{Grounds, PrivateSystem};
pub(crate) use pool::{Plan, Pool};
#[cfg(feature = "internals")]
pub(crate) use queue::{Decided, Queue};
pub(crate) use reporter::{Reporter, StagePolicy};
#[cfg(feature = "journal")]
pub(crate) use restore::{Feed, PoolFeed, restore};
#[cfg(feature = "internals")]
pub(crate) use rollback::{Next, Rollback};
