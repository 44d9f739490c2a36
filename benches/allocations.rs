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

/// Number of runs, of which the least counts: a disturbed run has smaller batches, so more of them.
const RUNS: usize = 5;

/// Allocations of a run, reallocations included.
fn allocations(workload: Workload, tasks: u64) -> u64 {
    let region = Region::new(COUNTING);
    workloads::run(workload, tasks);
    let seen = region.change();
    (seen.allocations + seen.reallocations) as u64
}

/// The size of a batch depends on the speed of a call, so the allocations of batches are meaningful
/// in a release build only. A task alone is the same in every build.
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
