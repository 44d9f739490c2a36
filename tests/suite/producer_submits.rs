//! Submits from inside a producer's poll: it leases room and ids for many at a time, and nobody can tell.

use std::sync::{Arc, Mutex, OnceLock};

use batrun::{Outcome, PipelineHandle, TrySubmitError, prelude::*, state::TaskId};
use tokio::sync::Notify;

use crate::support::{DRAIN, Do, acting, sleep, still};

type Handle = PipelineHandle<Do, Do>;

#[test]
fn g01_a_task_just_submitted_is_counted_and_can_be_cancelled() {
    still(async {
        let known: Arc<OnceLock<Handle>> = Arc::default();
        let begin = Arc::new(Notify::new());
        let (theirs, go) = (known.clone(), begin.clone());
        let handle = Pipeline::new("p")
            .producer(|tasks: Intake<Do>| async move {
                go.notified().await;
                let handle = theirs.get().unwrap();
                // No await that waits: all of this is one poll.
                let mut tickets = Vec::new();
                for n in 1..=5 {
                    tickets.push(tasks.submit(Do::Pass).await?);
                    let snapshot = handle.snapshot();
                    assert_eq!((snapshot.counts.accepted, snapshot.in_flight), (n, n));
                }
                assert!(handle.cancel(tickets[2].id()));
                assert!(tickets[4].cancel());
                assert!(!handle.cancel(TaskId(6)), "there is none yet");
                Ok(())
            })
            .stage(acting("a").workers(1))
            .start()
            .await
            .unwrap();
        known.set(handle.clone()).ok().unwrap();
        begin.notify_one();
        while handle.snapshot().counts.accepted < 5 {
            tokio::task::yield_now().await;
        }
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert_eq!((report.counts.accepted, report.counts.done), (5, 3));
        assert_eq!(report.counts.cancelled, 2);
        assert_eq!(report.stages[0].counts.started, 3, "{report}");
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}

#[test]
fn numbers_of_one_producer_have_no_gaps() {
    still(async {
        let numbers = Arc::new(Mutex::new(Vec::new()));
        let seen = numbers.clone();
        let report = Pipeline::new("p")
            .producer(|tasks: Intake<Do>| async move {
                for n in 0..700 {
                    let ticket = tasks.submit(Do::Pass).await?;
                    seen.lock().unwrap().push(ticket.id().0);
                    if n % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(())
            })
            .stage(acting("a").workers(2).capacity(40))
            .run()
            .await
            .unwrap();
        assert_eq!(report.counts.done, 700);
        assert_eq!(*numbers.lock().unwrap(), (1..=700).collect::<Vec<_>>());
    });
}

#[test]
fn g07_a_producer_holds_no_room_that_it_does_not_use() {
    still(async {
        let begin = Arc::new(Notify::new());
        let (go, submitted) = (begin.clone(), Arc::new(Notify::new()));
        let done = submitted.clone();
        let handle = Pipeline::new("p")
            .producer(|tasks: Intake<Do>| async move {
                go.notified().await;
                tasks.submit(Do::Pass).await?;
                done.notify_one();
                std::future::pending().await
            })
            .stage(acting("a").workers(1).capacity(4))
            .max_in_flight(4)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.pause();
        begin.notify_one();
        submitted.notified().await;
        for _ in 0..3 {
            handle.try_submit(Do::Pass).unwrap();
        }
        let refused = handle.try_submit(Do::Pass);
        assert!(matches!(refused, Err(TrySubmitError::Full(Do::Pass))));
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.accepted, report.counts.cancelled), (4, 4));
    });
}

/// Cancelled in the poll that submitted them: their queue hears of that before they come.
#[test]
fn g07_a_task_that_ends_before_it_is_queued_holds_no_room() {
    still(async {
        let begin = Arc::new(Notify::new());
        let go = begin.clone();
        let handle = Pipeline::new("p")
            .producer(|tasks: Intake<Do>| async move {
                go.notified().await;
                for _ in 0..2 {
                    assert!(tasks.submit(Do::Pass).await?.cancel());
                }
                Ok(())
            })
            .stage(acting("a").workers(1).capacity(2))
            .max_in_flight(10)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        begin.notify_one();
        sleep(1).await;
        assert_eq!(handle.snapshot().counts.cancelled, 2);
        // The worker is busy for ever, so nothing but the queue's own look makes room.
        for _ in 0..2 {
            handle.try_submit(Do::Pass).unwrap();
        }
        let refused = handle.try_submit(Do::Pass);
        assert!(matches!(refused, Err(TrySubmitError::Full(Do::Pass))));
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert!(report.producer_errors.is_empty(), "{report}");
        assert_eq!(report.stages[0].counts.started, 1, "{report}");
    });
}

/// Tickets dropped in the poll that made them, in a later one, on another thread and never: none
/// gets another task's outcome.
#[test]
fn g01_tickets_stay_with_their_tasks_however_they_are_dropped() {
    still(async {
        let kept: Arc<Mutex<Vec<(usize, Ticket)>>> = Arc::default();
        let keep = kept.clone();
        let report = Pipeline::new("p")
            .producer(|tasks: Intake<Do>| async move {
                for n in 0..600 {
                    let what = if n % 5 == 0 { Do::Fail } else { Do::Pass };
                    let ticket = tasks.submit(what).await?;
                    match n % 3 {
                        0 => drop(ticket),
                        1 => std::thread::spawn(move || drop(ticket)).join().unwrap(),
                        _ => keep.lock().unwrap().push((n, ticket)),
                    }
                }
                Ok(())
            })
            .stage(acting("a").workers(2).capacity(16))
            .run()
            .await
            .unwrap();
        assert_eq!((report.counts.done, report.counts.failed), (480, 120));
        let kept = std::mem::take(&mut *kept.lock().unwrap());
        assert_eq!(kept.len(), 200);
        for (n, ticket) in kept {
            let outcome: Outcome = ticket.outcome().await.unwrap();
            assert_eq!(outcome.task, ticket.id());
            assert_eq!(matches!(outcome.end, End::Done), n % 5 != 0, "task {n}");
        }
    });
}
