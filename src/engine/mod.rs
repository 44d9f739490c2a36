//! The actors that tasks run through, a folder each, in the order in which a task meets them.
//!
//! 1. A producer's [`producer`] actor polls it; whatever it submits goes to the first pool, many tasks
//!    in one message.
//! 2. A [`pool`] puts them into its queue and hands them to a worker, as many as are done in 100 µs:
//!    local workers first, those of other threads when that is worth waking them.
//! 3. A [`worker`] runs the batch: it calls the stage for one task after the other. Results that are
//!    ready at once go into the next message to the next pool; when a call has to wait, the worker
//!    sends on what it has finished and hands the rest of its batch back. A worker that has waited takes
//!    the next task out of the pool's [`backlog`] by itself.
//! 4. The last pool's messages go to the [`reporter`], which frees the places and answers tickets.
//!
//! A task that fails, or that is ended from outside, by the [`deadline_driver`] or by a cancel, goes
//! to the reporter as soon as nothing works on it any more. The reporter runs its undos one after the
//! other, by sending a `Cancel` for each; a pool runs undos before anything else.
//!
//! [`threads`] are what all of it runs on; between a pool and its workers are a [`channel`] and the [`backlog`];
//! [`restore`] puts the tasks of the previous process back.
//! `pub(super)` in an actor's folder means "my actor".

pub(crate) mod threads;
pub(crate) mod channel;
pub(crate) mod backlog;
pub(crate) mod producer;
pub(crate) mod worker;
pub(crate) mod pool;
pub(crate) mod deadline_driver;
pub(crate) mod room;
pub(crate) mod reporter;
#[cfg(feature = "journal")]
pub(crate) mod restore;
