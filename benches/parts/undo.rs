//! Undos: registered by tasks that are done, and run if every task fails. The items are tasks.

use actix::System;
use batrun::prelude::*;
use divan::{Bencher, counter::ItemsCount};

const TASKS: u64 = 5_000;

/// Registers this many undos in one stage, then fails if it is told to.
#[derive(Clone)]
struct Undone {
    undos: u64,
    fails: bool,
}

impl Stage for Undone {
    type Input = u64;
    type Output = u64;
    type Undo = u64;

    async fn run(&mut self, id: u64, task: &TaskContext<'_, u64>) -> Result<u64, Failure> {
        for undo in 0..self.undos {
            task.on_cancel(undo).await?;
        }
        match self.fails {
            true => Err(Failure::permanent(std::fmt::Error)),
            false => Ok(id),
        }
    }
}

fn run(bencher: Bencher, undos: u64, fails: bool) {
    let system = System::new();
    bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
        let stage = Undone { undos, fails }.workers(4);
        let pipeline = Pipeline::new("undo").stage(stage);
        let report = system.block_on(crate::run(pipeline, TASKS));
        let cancelled = report.stages[0].counts.cancelled;
        match fails {
            true => assert_eq!((report.counts.failed, cancelled), (TASKS, TASKS * undos)),
            false => assert_eq!((report.counts.done, cancelled), (TASKS, 0)),
        }
    });
}

#[divan::bench(args = [0, 1, 3, 10], sample_count = 20, sample_size = 1)]
fn register(bencher: Bencher, undos: u64) {
    run(bencher, undos, false);
}

/// With 0 undos, the figure is the cost of failing itself.
#[divan::bench(args = [0, 1, 3, 10], sample_count = 10, sample_size = 1)]
fn rollback(bencher: Bencher, undos: u64) {
    run(bencher, undos, true);
}
