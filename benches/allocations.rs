//! The allocations of a task, against `benches/figures.toml`. `benches/guard` runs it too.

#![allow(clippy::unwrap_used)]

mod kit;

use std::alloc::System;

use kit::{
    cost, figures, measure,
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

/// The size of a batch depends on how quick a call is, so the allocations of batches mean something in a
/// release build only. A task alone is the same in every build.
#[test]
fn a_task_allocates_no_more_than_the_figures_say() {
    let least = |workload, tasks| {
        let runs = (0..RUNS).map(|_| allocations(workload, tasks));
        runs.min().unwrap()
    };
    let cost = |workload| cost(workload, 2, least);
    let seen = match cfg!(debug_assertions) {
        true => vec![("alone", cost(Workload::Alone))],
        false => measure(cost),
    };
    match figures::compare("allocations", &seen) {
        Ok(table) => println!("{table}"),
        Err(table) => panic!("\n{table}"),
    }
}
