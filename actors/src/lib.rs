//! Ready-made stages and producers for [batrun].
//!
//! # Catalogue
//!
//! | name | is a | what it does |
//! |---|---|---|
//! | [`Command`] | stage | runs a program in a process group of its own; its cancel runs another (feature `command`, Unix) |
//! | [`WriteFile`] | stage | writes a file whole or not at all; its cancel restores what was there before |
//! | `HttpRequest` (feature `http`) | stage | sends an HTTP request; its cancel sends the one that takes it back |
//! | `Sql::sqlite`, `Sql::postgres` | stages | run SQL statements in one transaction; a cancel runs others (features `sqlite`, `postgres`) |
//! | [`Lines`] | producer | makes a task of each line of a file or reader; bad lines are reported, the rest go on |
//!
//! # Writing your own
//!
//! Everything here uses the public API of `batrun` alone, so each file is a pattern to copy. What
//! they have in common:
//!
//! - A **stage** carries its context through. It takes closures for what it has to know (a path, a
//!   content) and hands the context on as it came, so that stages go together in any order.
//! - Its **undo is data**: it holds enough to restore what was there before, it is
//!   `Clone + Debug + Send`, and its `Debug` shows no contents, because the report of a stuck task
//!   prints it.
//! - **Intent first**: every effect comes after the [`on_cancel`](batrun::TaskContext::on_cancel) that
//!   takes it back. Where several steps leave several things behind, each has an undo of its own.
//! - A **cancel copes** with an effect that never, partly or already happened, may be called twice,
//!   and touches only what this task did. Where it can't tell, it fails rather than guess: a person
//!   then finds the task among the stuck ones.
//! - A **producer** never blocks its arbiter: what blocks runs on a thread of its own and comes
//!   through a small channel, so that a full pipeline slows it down.
//! - A bad item is reported and skipped, and the producer's error at its end says what was bad.

#[cfg(all(unix, feature = "command"))]
mod command;
#[cfg(feature = "http")]
mod http_request;
mod lines;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
mod write_file;

#[cfg(all(unix, feature = "command"))]
pub use command::{Command, Output, Program};
#[cfg(feature = "http")]
pub use http_request::{HttpRequest, HttpRequestUndo, HttpRequestWorker, Request, Response};
pub use lines::{BadLines, Lines};
#[cfg(feature = "postgres")]
pub use sql::Postgres;
#[cfg(feature = "sqlite")]
pub use sql::Sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql::{Sql, SqlUndo, Statement, Value};
pub use write_file::{WriteFile, WriteFileUndo};

/// The code of the project's README runs as tests; here, because some of it uses these actors.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
