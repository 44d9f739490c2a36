//! Ready-made stages and producers for [batrun], each built on its public API alone. A stage or
//! producer that needs a package of its own has a feature, so that you compile only what you use.
//!
//! # Catalogue
//!
//! | stage | feature | what it does |
//! |---|---|---|
//! | [`Command`] | `command` (Unix) | runs a program, no shell, in a process group that is killed when the task is late; its undo runs another |
//! | [`HttpRequest`] | `http` | sends an HTTP request, also over TLS, with an idempotency key; its undo sends another |
//! | [`Sql::sqlite`] | `sqlite` | runs statements in one SQLite transaction; its undo runs others |
//! | [`Sql::postgres`] | `postgres` | the same on PostgreSQL |
//! | [`WriteFile`] | | writes a whole file or nothing; its undo restores the file that was there before |
//! | [`MakeDirectory`] | | makes a directory; its undo removes it, if it is empty |
//! | [`map`], [`try_map`] | | turn the context into something else |
//! | [`inspect`] | | looks at the context |
//!
//! | producer | feature | makes a task of |
//! |---|---|---|
//! | [`Lines`] | | each line of a file, a reader or stdin; bad ones are reported with their number, the rest go on |
//! | [`Csv`] | `csv` | each row, in the same way |
//! | [`Interval`] | | each tick of a clock |
//! | [`WatchFolder`] | `watch` | each file that appears in a folder |
//! | [`FromStream`] | | each item of a stream or an iterator, made by [`from_stream`] and [`from_iter`] |
//!
//! # Write your own in 30 lines
//!
//! A stage is a type with its settings, an undo, a `run` and a `cancel`:
//!
//! ```
//! use std::{fs::{self, File}, io::ErrorKind, path::PathBuf};
//! use batrun::prelude::*;
//!
//! /// Claims a name for a task, with a file that nobody else can make.
//! #[derive(Clone)]
//! struct Claim { folder: PathBuf }
//!
//! impl Stage for Claim {
//!     type Input = String;
//!     type Output = String;
//!     type Undo = PathBuf;
//!     const BLOCKING: bool = true;                // std::fs: each worker has a thread
//!
//!     async fn run(&mut self, name: String, task: &TaskContext<'_, PathBuf>) -> Result<String, Failure> {
//!         let file = self.folder.join(&name);
//!         let undo = task.on_cancel(file.clone()).await?;     // intent first
//!         match File::create_new(&file) {                     // then the effect
//!             Err(e) if e.kind() == ErrorKind::AlreadyExists => {
//!                 undo.withdraw().await?;                     // somebody else's: leave it
//!                 Err(Failure::permanent(format!("{name} is taken")))
//!             }
//!             other => { other?; Ok(name) }
//!         }
//!     }
//!
//!     async fn cancel(&mut self, file: PathBuf, _: &CancelContext<'_>) -> Result<(), Failure> {
//!         match fs::remove_file(file) {
//!             Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),    // it never happened, or is gone
//!             other => Ok(other?),
//!         }
//!     }
//! }
//!
//! // And its test, with the feature `testing` of batrun.
//! use batrun::{state::Rollback, testing::{Harness, live}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let names = || fs::read_dir(folder.path()).unwrap().count();
//! live(async {
//!     let claim = Harness::new(Claim { folder: folder.path().to_owned() }).await;
//!     assert!(claim.run("ada".into()).await.is_done());
//!     assert!(!claim.run("ada".into()).await.is_done());          // taken, and left alone
//!     let outcome = claim.take_back("eve".into()).await;          // a later stage fails
//!     assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
//! });
//! assert_eq!(names(), 1);
//! # Ok(()) }
//! ```
//!
//! A producer is a closure, or a type if it has something to configure:
//!
//! ```
//! use batrun::{prelude::*, testing::{paused, produced}};
//!
//! struct Countdown { from: u32 }
//!
//! impl Producer<u32> for Countdown {
//!     async fn produce(self, tasks: Intake<u32>) -> Result<(), Failure> {
//!         for n in (0..=self.from).rev() {
//!             tasks.submit(n).await?;             // waits for room
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() {
//! assert_eq!(paused(produced(Countdown { from: 3 })).0, [3, 2, 1, 0]);
//! # }
//! ```
//!
//! # Rules that all of them follow
//!
//! - A **stage** carries its context through. Closures make its settings (a path, a content) from
//!   the context, which goes on unchanged, so that stages can be put together in any order.
//! - Its **undo is data**: it holds enough to restore the state before. It is `Clone + Debug + Send`,
//!   and its `Debug` shows no contents, because the report of a stuck task prints it. It is also
//!   `Serialize` and `Deserialize`, for pipelines with a journal, with the number of its layout: one
//!   that a program doesn't know is an error that says so.
//! - **Intent first**: every effect comes after the [`on_cancel`](batrun::TaskContext::on_cancel) that
//!   registers its undo. If several steps leave several things behind, each has an undo of its own.
//! - A **cancel copes** with an effect that never, partly or already happened, may be called twice,
//!   and touches only what this task did. If it can't tell, it fails and doesn't guess: a person
//!   then finds the task among the stuck ones.
//! - A **producer** never blocks its arbiter: blocking work runs on a thread of its own and comes
//!   through a small channel, so that a full pipeline slows it down.
//! - A **bad item** is logged and skipped, and the producer's error at its end names it.

mod bad_lines;
#[cfg(any(feature = "http", feature = "postgres"))]
mod chain;
#[cfg(all(unix, feature = "command"))]
mod command;
#[cfg(feature = "csv")]
mod csv;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod endless;
mod functions;
#[cfg(feature = "http")]
mod http_request;
mod identity;
mod input;
mod interval;
mod kept;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod killed;
mod layout;
mod lines;
mod make_directory;
mod placing;
mod progress;
mod reading;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "watch")]
mod watch_folder;
mod write_file;

#[cfg(feature = "csv")]
pub use crate::csv::Csv;
pub use bad_lines::BadLines;
pub use batrun::submit::{FromStream, from_iter, from_stream};
#[cfg(all(unix, feature = "command"))]
pub use command::{Command, Output, Program};
pub use functions::{Inspect, Map, TryMap, inspect, map, try_map};
#[cfg(feature = "http")]
pub use http_request::{
    HttpCall, HttpRequest, HttpRequestUndo, HttpRequestWorker, HttpVersion, Request, Response, Tls,
    TlsError,
};
pub use interval::Interval;
pub use lines::Lines;
pub use make_directory::{MakeDirectory, MakeDirectoryUndo};
pub use progress::{Position, Progress};
#[cfg(feature = "postgres")]
pub use sql::Postgres;
#[cfg(feature = "sqlite")]
pub use sql::Sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql::{Sql, SqlUndo, Statement, Value};
#[cfg(feature = "watch")]
pub use watch_folder::WatchFolder;
pub use write_file::{WriteFile, WriteFileUndo};

/// The code of the project's README runs as tests; here, because some of it uses these actors.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
