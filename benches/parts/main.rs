//! The cost of a pipeline's parts, each by itself: `cargo bench -p batrun-benches --bench parts [FILTER]`.
//! With `--features internals` it measures the parts of the engine, too: `inner.rs`.
//!
//! Everything runs on one thread. These are timings: compare runs of one quiet machine, and use
//! `benches/guard` to see a change on a busy one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hop;
#[cfg(feature = "internals")]
mod inner;
mod report;
mod submit;
mod undo;

use std::time::Duration;

use batrun::prelude::*;

fn main() {
    divan::main();
}

const TIMEOUT: Duration = Duration::from_secs(4);

/// Submits this many tasks in a row and runs the pipeline to its end.
async fn run<O: Send + 'static>(pipeline: Pipeline<u64, O>, tasks: u64) -> Report {
    pipeline
        .current_arbiter()
        .producer(move |intake: Intake<u64>| async move {
            for id in 0..tasks {
                intake.submit(id).timeout(TIMEOUT).await?;
            }
            Ok(())
        })
        .run()
        .await
        .expect("the pipeline is put together well")
}
