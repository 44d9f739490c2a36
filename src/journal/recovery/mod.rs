//! The start on a journal: reads every task, and plans how each goes on.

// The way through it: read the file, plan each task, write the differences.
mod start;

mod task_reader;

mod planner;

// Later, tasks of other processes that have gone,
pub(super) mod takeover;

// or too much to do.
mod balance;

// The result, which the pipeline carries out.
pub(super) mod plan;

pub(super) mod chunked_vec;
mod stage_map;
