//! Tasks through stages that do nothing. The items are tasks; the pipeline's start and end are
//! included in the time.

use actix::System;
use batrun::prelude::*;
use divan::{Bencher, counter::ItemsCount};

const TASKS: u64 = 20_000;

#[derive(Clone)]
struct Pass;

impl Stage for Pass {
    type Input = u64;
    type Output = u64;
    type Undo = ();

    async fn run(&mut self, id: u64, _: &TaskContext<'_, ()>) -> Result<u64, Failure> {
        Ok(id)
    }
}

fn pipeline(stages: usize) -> Pipeline<u64> {
    let first = Pipeline::new("hop").stage(Pass.named("1").workers(4));
    (2..=stages).fold(first, |pipeline, stage| {
        pipeline.stage(Pass.named(stage.to_string()).workers(4))
    })
}

#[divan::bench(args = [1, 3, 6], sample_count = 20, sample_size = 1)]
fn stages(bencher: Bencher, stages: usize) {
    let system = System::new();
    bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
        let report = system.block_on(crate::run(pipeline(stages), TASKS));
        assert_eq!(report.counts.done, TASKS);
    });
}
