//! The engine's parts: the queue, the deadlines, the order of a rollback, the notes for the report.
//! The items are tasks, deadlines, undos and batches. Lists of a million are far larger than the
//! processor's caches; `benches/deadlines.rs` says what a deadline costs in full.

use std::cell::RefCell;

use batrun::{
    internals::{Batch, Deadlines, InFlight, Queue, Stats, Undos},
    policy::Order,
};
use divan::{Bencher, black_box, counter::ItemsCount};

const TIMEOUT_NS: u64 = 4_000_000_000;

fn batch(tasks: usize) -> Batch {
    let mut table = InFlight::new(tasks);
    (0..tasks).for_each(|_| table.admit(Some(TIMEOUT_NS)));
    table.batch()
}

/// A batch goes in and comes out in one piece.
#[divan::bench(args = [1, 16, 256])]
fn queue_whole(bencher: Bencher, tasks: usize) {
    let mut queue = Queue::empty();
    queue.push(batch(tasks));
    bencher
        .counter(ItemsCount::new(tasks))
        .bench_local(move || {
            let batch = queue.take(tasks);
            queue.push(black_box(batch));
        });
}

/// A batch of 256 goes in and comes out in pieces.
#[divan::bench(args = [1, 16, 64])]
fn queue_in_pieces(bencher: Bencher, piece: usize) {
    const TASKS: usize = 256;
    let mut queue = Queue::empty();
    bencher
        .counter(ItemsCount::new(TASKS))
        .with_inputs(|| (batch(TASKS), Vec::with_capacity(TASKS)))
        .bench_local_values(|(batch, mut pieces)| {
            queue.push(batch);
            for _ in 0..TASKS / piece {
                pieces.push(queue.take(piece));
            }
            pieces
        });
}

/// This many tasks, accepted one after the other, all with the same timeout.
fn outstanding(tasks: u32) -> Deadlines {
    let mut deadlines = Deadlines::empty();
    (0..tasks).for_each(|task| deadlines.insert(task, at(task)));
    deadlines
}

/// The deadline of a task: one is accepted every 200 ns.
fn at(task: u32) -> u64 {
    TIMEOUT_NS + u64::from(task) * 200
}

/// Takes the entries out again, which isn't timed.
struct Inserted<'a>(&'a RefCell<Deadlines>, u32);

const MORE: u32 = 1_000;

impl Drop for Inserted<'_> {
    fn drop(&mut self) {
        let mut deadlines = self.0.borrow_mut();
        (self.1..self.1 + MORE).for_each(|task| deadlines.remove(task));
    }
}

#[divan::bench(args = [1, 1_000, 1_000_000], sample_count = 200, sample_size = 1)]
fn deadline_insert(bencher: Bencher, tasks: u32) {
    // Its memory has grown already, so that growing isn't timed.
    let deadlines = RefCell::new(outstanding(tasks + MORE));
    drop(Inserted(&deadlines, tasks));
    bencher.counter(ItemsCount::new(MORE)).bench_local(|| {
        let mut held = deadlines.borrow_mut();
        (tasks..tasks + MORE).for_each(|task| held.insert(task, at(task)));
        Inserted(&deadlines, tasks)
    });
}

/// The cost of nearly every task: it ends in time.
#[divan::bench(args = [1, 1_000, 1_000_000])]
fn deadline_insert_and_remove(bencher: Bencher, tasks: u32) {
    let mut deadlines = outstanding(tasks);
    let mut task = 0;
    bencher.bench_local(move || {
        task = if task + 1 < tasks { task + 1 } else { 0 };
        deadlines.remove(task);
        deadlines.insert(task, black_box(at(task)));
    });
}

/// A million deadlines, in batches as large as the driver's.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn deadline_expire(bencher: Bencher) {
    const TASKS: u32 = 1_000_000;
    let mut due = Vec::with_capacity(2_048);
    bencher
        .counter(ItemsCount::new(TASKS))
        .with_inputs(|| outstanding(TASKS))
        .bench_local_values(|mut deadlines| {
            let mut late = 0;
            while late < TASKS {
                due.clear();
                deadlines.expire(2 * TIMEOUT_NS, 256, &mut due);
                assert!(!due.is_empty());
                late += due.len() as u32;
            }
            deadlines
        });
}

/// Choosing the next undo, for each step of a whole rollback.
#[divan::bench(args = [1, 3, 10, 100])]
fn rollback_next(bencher: Bencher, undos: u16) {
    let undone = Undos::new(undos);
    bencher.counter(ItemsCount::new(undos)).bench_local(|| {
        let cancels = black_box(&undone).roll_back(Order::Fifo);
        assert_eq!(cancels, usize::from(undos));
    });
}

/// A worker's notes of a batch: counts, and the times it waited and worked.
#[divan::bench]
fn report_record(bencher: Bencher) {
    let board = Stats::empty();
    let mut ns = 0;
    bencher.bench_local(move || {
        ns = (ns + 977) % 1_000_000;
        board.record(black_box(64), ns, 100);
    });
}
