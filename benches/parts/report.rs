//! Reports: the one of ten stages and twenty failures, and a snapshot of a running pipeline.

use actix::System;
use batrun::prelude::*;
use divan::Bencher;

const STAGES: usize = 10;

/// One task in ten fails in the last stage.
fn pipeline() -> Pipeline<u64> {
    let pass = |stage: usize| {
        stage_fn(
            format!("stage {stage}"),
            async move |id: u64, _: &TaskContext<'_, ()>| match stage == STAGES
                && id.is_multiple_of(10)
            {
                true => Err(Failure::permanent("the account exists")),
                false => Ok(id),
            },
        )
    };
    (2..=STAGES).fold(Pipeline::new("report").stage(pass(1)), |pipeline, stage| {
        pipeline.stage(pass(stage))
    })
}

fn report() -> Report {
    let report = System::new().block_on(crate::run(pipeline(), 1_000));
    assert_eq!(
        (report.counts.failed, report.last_failures.len()),
        (100, 20)
    );
    report
}

#[divan::bench]
fn display(bencher: Bencher) {
    let report = report();
    bencher.bench_local(|| report.to_string());
}

#[divan::bench]
fn json(bencher: Bencher) {
    let report = report();
    bencher.bench_local(|| serde_json::to_string(&report).unwrap());
}

#[divan::bench]
fn snapshot(bencher: Bencher) {
    let system = System::new();
    let handle = system
        .block_on(pipeline().current_arbiter().start())
        .unwrap();
    bencher.bench_local(|| handle.snapshot());
    system.block_on(handle.join()).unwrap();
}
