//! No stage starts work on a task that has ended by then; tasks start in the order in which they came.

use batrun::prelude::*;
use tokio::time::Instant;

use crate::support::{Notes, ms, since, sleep, still};

/// Notes when each task was started, and takes `millis` for it.
fn slow(
    name: &'static str,
    notes: &Notes,
    began: Instant,
    millis: u64,
) -> impl Stage<Input = u32, Output = u32, Undo = ()> + Clone + Send + use<> {
    let notes = notes.clone();
    stage_fn(name, async move |n: u32, _: &TaskContext<'_, ()>| {
        notes.note(format!("{name} {n} at {}", since(began)));
        sleep(millis).await;
        Ok(n)
    })
}

#[test]
fn g02_no_task_starts_after_its_deadline_however_deep_the_queue() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let handle = Pipeline::new("deep")
            .stage(slow("a", &notes, began, 10).capacity(3000))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..3000 {
            tickets.push(handle.submit(n).timeout(ms(55)).await.unwrap());
        }
        for ticket in &tickets {
            ticket.outcome().await.unwrap();
        }
        let counts = handle.snapshot().counts;
        assert_eq!((counts.done, counts.timed_out), (5, 2995));
    });
    let starts = notes.of("a ");
    assert_eq!(
        starts,
        [
            "0 at 0", "1 at 10", "2 at 20", "3 at 30", "4 at 40", "5 at 50"
        ]
    );
}

#[test]
fn g02_no_task_starts_once_its_deadline_passed_in_a_later_queue() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let handle = Pipeline::new("later")
            .stage(slow("a", &notes, began, 0).capacity(16))
            .stage(slow("b", &notes, began, 10).capacity(16))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..5 {
            tickets.push(handle.submit(n).timeout(ms(20)).await.unwrap());
        }
        for (n, ticket) in tickets.iter().enumerate() {
            let outcome = ticket.outcome().await.unwrap();
            assert_eq!(outcome.is_done(), n == 0, "{outcome}");
        }
    });
    // The third one would start at the very instant of its deadline.
    assert_eq!(notes.of("b "), ["0 at 0", "1 at 10"]);
}

#[test]
fn g02_no_task_starts_after_it_was_cancelled() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let handle = Pipeline::new("cancelled")
            .stage(slow("a", &notes, began, 1).capacity(5000))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..4000 {
            tickets.push(handle.submit(n).await.unwrap());
        }
        sleep(5).await;
        let mut cancelled = 0;
        // Few enough that the queue is not searched for them at once.
        for ticket in tickets.iter().filter(|ticket| ticket.id().0 % 100 == 0) {
            assert!(ticket.cancel());
            cancelled += 1;
        }
        assert_eq!(cancelled, 40);
        for ticket in &tickets {
            ticket.outcome().await.unwrap();
        }
        assert_eq!(handle.snapshot().counts.cancelled, 40);
    });
    let started: Vec<u32> = notes
        .of("a ")
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    let expected: Vec<u32> = (0..4000).filter(|n| (n + 1) % 100 != 0).collect();
    assert_eq!(started, expected);
}

#[test]
fn g02_a_worker_starts_tasks_in_queue_order_even_those_handed_back() {
    // The first ones are ready at once, so that batches grow; then one waits and its worker hands
    // the rest of its batch back, to the front.
    let notes = Notes::default();
    still(async {
        let noted = notes.clone();
        let stage = stage_fn("a", async move |n: u32, _: &TaskContext<'_, ()>| {
            noted.note(format!("a {n}"));
            if n % 50 == 49 {
                sleep(1).await;
            }
            Ok(n)
        });
        Pipeline::new("order")
            .producer(from_iter(0..400))
            .stage(stage.capacity(400))
            .current_arbiter()
            .run()
            .await
            .unwrap()
    });
    let started: Vec<u32> = notes.of("a ").iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!(started, (0..400).collect::<Vec<_>>());
}
