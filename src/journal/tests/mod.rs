//! The journal's own tests: its stores, its rows, and what a damaged file is read as.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod damaged_files;
mod impossible_numbers;
#[cfg(feature = "testing")]
mod live_tasks;
mod rows;
mod stores;
pub(super) mod support;
