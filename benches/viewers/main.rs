//! The cost of a monitor that people look at.
//!
//! ```sh
//! cargo bench -p batrun-benches --features monitor --bench viewers             # 32 pages that are open, against none
//! cargo bench -p batrun-benches --features monitor --bench viewers -- noise    # none, against none
//! cargo bench -p batrun-benches --features monitor --bench viewers -- scrape   # one scrape of ten stages
//! cargo bench -p batrun-benches --features monitor --bench viewers -- memory   # over 10,000,000 tasks
//! cargo bench -p batrun-benches --features monitor --bench viewers -- rest     # with nobody looking
//! ```
//!
//! The machine should have nothing else to do. Readers and pipeline are in one process, so that what the readers take
//! is missing to the pipeline, too.

#![allow(clippy::unwrap_used)]

use std::{env, time::Duration};

mod memory;
mod pages;
mod rest;
mod scrape;
mod throughput;

/// Pages with a stream each, which get a sample a second.
const VIEWERS: usize = 32;

#[actix::main]
async fn main() {
    match env::args().nth(1).as_deref() {
        Some("scrape") => scrape::run().await,
        Some("memory") => memory::run().await,
        Some("rest") => rest::run().await,
        Some("noise") => throughput::run(0).await,
        _ => throughput::run(VIEWERS).await,
    }
}

/// Longer than anything here takes.
const HANGS: Duration = Duration::from_secs(60);

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
