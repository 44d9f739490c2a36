//! What a task allocates, against `benches/figures.toml`. `benches/guard` runs it too.

#[path = "../benches/kit/mod.rs"]
mod kit;

use std::alloc::System;

use kit::{
    figures, measure,
    workloads::{self, Workload},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The least of so many runs counts: what disturbs a run makes batches smaller, and so more of them.
const RUNS: usize = 5;

/// Allocations of a run, the growth of what there is included.
fn allocations(workload: Workload, tasks: u64) -> u64 {
    let region = Region::new(COUNTING);
    workloads::run(workload, tasks);
    let seen = region.change();
    (seen.allocations + seen.reallocations) as u64
}

#[test]
fn a_task_allocates_no_more_than_is_kept() {
    let seen = measure(2, |workload, tasks| {
        let runs = (0..RUNS).map(|_| allocations(workload, tasks));
        runs.min().unwrap()
    });
    match figures::compare("allocations", &seen) {
        Ok(table) => println!("{table}"),
        Err(table) => panic!("\n{table}"),
    }
}
