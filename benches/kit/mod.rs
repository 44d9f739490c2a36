//! The guard against changes that make batrun slower: it counts instead of timing, so that a busy
//! machine changes nothing. This part is shared by its two halves, `benches/allocations.rs` and
//! `benches/instructions.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

pub mod figures;
pub mod workloads;

use workloads::Workload;

/// The cost of one more task in a workload. `count` counts a run of the given number of tasks; the
/// difference between a short run and one `times` as long leaves out the cost of a pipeline's start
/// and end.
pub fn cost(workload: Workload, times: u64, count: impl Fn(Workload, u64) -> u64) -> f64 {
    let (few, many) = (workload.tasks(), times * workload.tasks());
    let more = count(workload, many) as f64 - count(workload, few) as f64;
    more / (many - few) as f64
}

/// Every figure of a kind, by its name in `benches/figures.toml`.
pub fn measure(cost: impl Fn(Workload) -> f64) -> Vec<(&'static str, f64)> {
    let three = cost(Workload::Task);
    let six = cost(Workload::SixStages);
    vec![
        ("task", three),
        ("stage", (six - three) / 3.0),
        ("fail", cost(Workload::Fail)),
        ("alone", cost(Workload::Alone)),
    ]
}
