//! The writer: a thread that commits everything that has gathered while the commit before ran.
//!
//! Callers put requests into a queue and wait for a number or for a reply. The thread takes the
//! requests in, turns them into row changes, and commits these; a large commit runs on a second
//! thread, so that the next requests are taken in meanwhile. No timer delays a request that
//! somebody waits for.

// The callers' side.
pub(super) mod handle;
pub(super) mod requests;

// The thread's side.
mod ask;
mod by_key;
mod commit_builder;
mod elsewhere;
mod store_slot;
mod thread;

pub(super) mod replies;
