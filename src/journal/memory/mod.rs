//! The store in memory, for tests: a disk that fails on demand and forgets, at a power cut,
//! everything that was not synced.

// The disk that a test holds on to.
pub(super) mod disk;

// The store that a journal on it writes to.
mod store;

// The state that both share.
pub(super) mod state;
mod tables;
