//! A worker that waits with each task takes the next one by itself, where its pool has no reason to be asked.

use batrun::prelude::*;

use crate::support::{Do, acting, ms, sleep, still};

/// A stage of one worker, which has waited once, waits now, and has more to do.
async fn waits_with_more_to_do(tasks: usize) -> (PipelineHandle<Do, Do>, Vec<Ticket<Do>>) {
    let handle = Pipeline::new("waits")
        .stage(acting("a").workers(1).capacity(50))
        .current_arbiter()
        .start()
        .await
        .unwrap();
    let mut tickets = Vec::new();
    for _ in 0..tasks {
        tickets.push(handle.submit(Do::Take(10)).await.unwrap());
    }
    sleep(15).await;
    assert_eq!(handle.snapshot().stages[0].counts.started, 2);
    (handle, tickets)
}

#[test]
fn d1_a_worker_that_waits_takes_nothing_while_its_stage_is_paused() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(4).await;
        let control = handle.control();
        control.pause_stage("a").unwrap();
        sleep(50).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.queued), (2, 2));
        control.resume_stage("a").unwrap();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
    });
}

#[test]
fn g10_a_worker_that_waits_keeps_to_a_rate_that_is_set_meanwhile() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(5).await;
        let control = handle.control();
        let rate = RateLimit::new(1, ms(1000));
        control.set_rate("a", Some(rate)).unwrap();
        sleep(500).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.queued), (3, 2));
        control.set_rate("a", None).unwrap();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
    });
}

#[test]
fn g02_a_worker_that_waits_takes_nothing_that_was_stopped() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(4).await;
        assert!(tickets[2].cancel());
        sleep(100).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.counts.finished), (3, 3));
        assert_eq!(stage.queued, 0);
    });
}
