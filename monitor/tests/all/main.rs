//! The monitor as a browser, a program and a stranger meet it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod actions;
mod anything;
mod crowd;
mod doors;
mod export;
mod journal;
mod keys;
mod metrics;
mod postgres;
mod roles;
mod server;
mod support;
mod views;
