//! The store in a SQLite file, in a format that any of SQLite's tools reads.
//!
//! The file has its log beside it (`-wal`, with `-shm`) while it is open, and a file `-lock` that
//! its one writer holds locked.

// Opening: the path, the lock beside it, and the connection.
pub(super) mod database;
mod lock;
pub(super) mod path;

// The format: the tables, and the checks that the file has them and is sound.
pub(super) mod schema;

// Writing and reading.
mod columns;
mod read;
mod statements;
mod store;

mod error;
