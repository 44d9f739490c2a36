//! A journal's file for people and their tools: everything in it, and decisions about stuck tasks.
//! The program `batrun` is made of this.

// The file, and reading from it.
pub(super) mod file;

// The things that are read.
mod shown;
pub(super) mod view;

// The file of a pipeline that may run, for those who look on.
pub(super) mod file_reader;
mod past_pages;

// Decisions about stuck tasks, and about tasks by their keys.
mod by_key;
mod resolve;

// The same of a journal in a database, and the making of one.
#[cfg(feature = "postgres")]
pub(super) mod database;
#[cfg(feature = "postgres")]
mod database_decide;
#[cfg(feature = "postgres")]
mod database_looks_on;
#[cfg(feature = "postgres")]
mod database_outcomes;
#[cfg(feature = "postgres")]
pub(super) mod database_reader;
#[cfg(feature = "postgres")]
pub(super) mod database_setup;
#[cfg(feature = "postgres")]
mod database_upkeep;
#[cfg(feature = "postgres")]
pub(super) mod database_view;
