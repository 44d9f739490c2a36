//! One task at a time into an idle pipeline of one stage.

use actix::System;
use batrun::prelude::*;
use divan::Bencher;

fn pipeline() -> Pipeline<u64> {
    let pass = stage_fn("pass", async |id: u64, _: &TaskContext<'_, ()>| Ok(id));
    Pipeline::new("submit").current_arbiter().stage(pass)
}

/// From `try_submit` to the outcome.
#[divan::bench(sample_count = 200, sample_size = 100)]
fn to_outcome(bencher: Bencher) {
    let system = System::new();
    let handle = system.block_on(pipeline().start()).unwrap();
    bencher.bench_local(|| {
        let outcome = system.block_on(async {
            let ticket = handle.try_submit(7).unwrap();
            ticket.outcome().await.unwrap()
        });
        assert_eq!(outcome.output, Some(7));
    });
    system.block_on(handle.join()).unwrap();
}

/// The cost of `block_on` by itself, which is part of the above.
#[divan::bench(sample_count = 200, sample_size = 100)]
fn of_which_block_on(bencher: Bencher) {
    let system = System::new();
    bencher.bench_local(|| system.block_on(async { divan::black_box(7) }));
}

/// The time that `try_submit` takes from its caller. The outcomes are awaited untimed.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn call(bencher: Bencher) {
    const CALLS: usize = 100;
    let system = System::new();
    let handle = system
        .block_on(pipeline().max_in_flight(2 * CALLS).start())
        .unwrap();
    bencher
        .counter(divan::counter::ItemsCount::new(CALLS))
        .with_inputs(|| Vec::with_capacity(CALLS))
        .bench_local_values(|mut tickets| {
            tickets.extend((0..CALLS as u64).map(|id| handle.try_submit(id).unwrap()));
            Settled(&system, tickets)
        });
    system.block_on(handle.join()).unwrap();
}

/// Awaits the outcomes when it is dropped, which isn't timed.
struct Settled<'a>(&'a actix::SystemRunner, Vec<Ticket<u64>>);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        for ticket in &self.1 {
            self.0.block_on(ticket.outcome()).unwrap();
        }
    }
}
