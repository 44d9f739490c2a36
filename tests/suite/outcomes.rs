//! Every accepted task ends in exactly one outcome, and the counts say so at every instant.

use std::collections::HashMap;

use batrun::{
    prelude::*,
    state::{End, Rollback, StopCause},
};
use futures::StreamExt;
use tokio::{sync::oneshot, time::Instant};

use crate::support::{Do, Notes, acting, ms, noted, since, sleep, still, summary};

#[test]
fn g01_each_task_ends_in_one_outcome() {
    let report = still(async {
        let handle = Pipeline::new("ends")
            .stage(acting("act").workers(5))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let outcomes = handle.outcomes();
        let done = handle.submit(Do::Pass).await.unwrap();
        let failed = handle.submit(Do::Fail).await.unwrap();
        let panicked = handle.submit(Do::Panic).await.unwrap();
        let late = handle.submit(Do::Hang).timeout(ms(50)).await.unwrap();
        let cancelled = handle.submit(Do::Hang).await.unwrap();
        sleep(10).await;
        assert!(cancelled.cancel());
        let mut ends = Vec::new();
        for ticket in [&done, &failed, &panicked, &late, &cancelled] {
            let outcome = ticket.outcome().await.unwrap();
            assert_eq!(outcome.task, ticket.id());
            assert_eq!(outcome.rollback, Rollback::None);
            ends.push(outcome.end.to_string());
        }
        assert_eq!(
            ends,
            [
                "done",
                "failed in act: no",
                "failed in act: panicked: boom",
                "timed out in act",
                "cancelled in act"
            ]
        );
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        let mut told: HashMap<u64, u32> = HashMap::new();
        let all: Vec<_> = outcomes.collect().await;
        for outcome in all {
            *told.entry(outcome.unwrap().task.0).or_default() += 1;
        }
        assert_eq!(told, (1..=5).map(|id| (id, 1)).collect());
        report
    });
    let counts = report.counts;
    assert_eq!((counts.accepted, counts.in_flight()), (5, 0));
    assert_eq!(
        (
            counts.done,
            counts.failed,
            counts.timed_out,
            counts.cancelled
        ),
        (1, 2, 1, 1)
    );
}

#[test]
fn g01_counts_add_up_at_every_instant() {
    still(async {
        let handle = Pipeline::new("sums")
            .stage(acting("a").workers(3).capacity(4))
            .stage(acting("b").workers(2).capacity(2))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let watched = handle.clone();
        let watcher = actix_rt::spawn(async move {
            let (mut seen, mut looks) = (0, 0u64);
            let mut before = watched.snapshot().counts;
            loop {
                let snapshot = watched.snapshot();
                let now = snapshot.counts;
                assert_eq!(
                    now.accepted,
                    now.done + now.failed + now.timed_out + now.cancelled + snapshot.in_flight
                );
                // All capacities and workers: no more can be in flight.
                assert!(snapshot.in_flight <= 11, "{snapshot:?}");
                assert!(now.accepted >= before.accepted && now.done >= before.done);
                assert!(now.failed >= before.failed && now.cancelled >= before.cancelled);
                seen += u64::from(now != before);
                before = now;
                if now.accepted == 200 && snapshot.in_flight == 0 {
                    return seen;
                }
                tokio::task::yield_now().await;
                looks += 1;
                if looks.is_multiple_of(3) {
                    sleep(1).await;
                }
            }
        });
        let mut tickets = Vec::new();
        for n in 0..200u64 {
            let what = match n % 7 {
                0 => Do::Fail,
                1 => Do::Panic,
                2 => Do::Hang,
                k => Do::Take(k),
            };
            let ticket = handle.submit(what).timeout(ms(20)).await.unwrap();
            assert_eq!(handle.snapshot().counts.accepted, n + 1);
            if n % 11 == 0 {
                ticket.cancel();
            }
            tickets.push(ticket);
        }
        for ticket in &tickets {
            ticket.outcome().await.unwrap();
        }
        assert!(watcher.await.unwrap() > 50);
        let counts = handle.shutdown(Shutdown::Abort).await.unwrap().counts;
        assert_eq!((counts.accepted, counts.in_flight()), (200, 0));
        assert!(counts.failed > 0 && counts.timed_out > 0 && counts.cancelled > 0);
    });
}

/// A producer's tasks go into the table many at a time, later than its `submit` returned.
#[test]
fn g01_each_submit_of_a_producer_is_counted_at_once() {
    still(async {
        let (give, given) = oneshot::channel::<PipelineHandle<Do, Do>>();
        let (tell, told) = oneshot::channel();
        let handle = Pipeline::new("leases")
            .producer(move |tasks: Intake<Do>| async move {
                let handle = given.await?;
                let mut seen = Vec::new();
                for _ in 0..600 {
                    tasks.submit(Do::Pass).await?;
                    let snapshot = handle.snapshot();
                    let ended = snapshot.counts.done;
                    assert_eq!(snapshot.counts.accepted, ended + snapshot.in_flight);
                    seen.push(snapshot.counts.accepted);
                }
                tell.send(seen).ok();
                Ok(())
            })
            .stage(acting("s").capacity(1000))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        give.send(handle.clone()).ok();
        let seen: Vec<u64> = told.await.unwrap();
        assert!(seen.into_iter().eq(1..=600));
        let report = handle.shutdown(Shutdown::Drain(ms(100))).await.unwrap();
        assert_eq!(report.counts.done, 600);
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}

#[test]
fn g01_a_task_is_counted_before_its_ticket_answers() {
    still(async {
        let handle = Pipeline::new("counted")
            .stage(acting("act"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for (n, what) in [Do::Pass, Do::Fail, Do::Panic, Do::Pass]
            .into_iter()
            .enumerate()
        {
            let ticket = handle.submit(what).await.unwrap();
            assert_eq!(handle.snapshot().in_flight, 1);
            ticket.outcome().await.unwrap();
            let snapshot = handle.snapshot();
            assert_eq!(snapshot.in_flight, 0);
            assert_eq!(snapshot.counts.done + snapshot.counts.failed, n as u64 + 1);
        }
    });
}

/// A first stage that goes on, shielded, for `millis` whatever happens to its task.
fn stubborn(
    notes: &Notes,
    millis: u64,
) -> impl Stage<Input = u32, Output = u32> + Clone + Send + use<> {
    noted(
        "stubborn",
        notes,
        async move |input: u32, task: &TaskContext<'_, String>| {
            task.on_cancel("it".to_owned()).await?;
            task.shield(sleep(millis)).await;
            Ok(input)
        },
    )
}

fn last(notes: &Notes) -> impl Stage<Input = u32, Output = u32> + Clone + Send + use<> {
    let notes = notes.clone();
    noted(
        "last",
        &notes.clone(),
        async move |input: u32, _: &TaskContext<'_, String>| {
            notes.note("last ran");
            Ok(input)
        },
    )
}

#[test]
fn g01_a_result_after_the_deadline_does_not_count() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("late")
            .stage(stubborn(&notes, 100))
            .stage(last(&notes))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // At the deadline, to the nanosecond, is too late as well.
        for timeout in [30, 99, 100] {
            let ticket = handle.submit(1).timeout(ms(timeout)).await.unwrap();
            let outcome = ticket.outcome().await.unwrap();
            assert_eq!(
                summary(&outcome),
                "timed out in stubborn; 1 undo taken back"
            );
            assert_eq!(outcome.output, None);
        }
        let ticket = handle.submit(1).timeout(ms(102)).await.unwrap();
        assert!(ticket.outcome().await.unwrap().is_done());
    });
    assert_eq!(
        notes.all(),
        ["undid it", "undid it", "undid it", "last ran"]
    );
}

#[test]
fn g01_a_result_after_a_cancel_does_not_count() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("cancelled")
            .stage(stubborn(&notes, 100))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit(1).await.unwrap();
        sleep(10).await;
        assert!(ticket.cancel());
        assert_eq!(since(began), 10, "cancel() returns at once");
        assert!(!ticket.cancel(), "it was cancelled already");
        assert!(!handle.cancel(ticket.id()));
        let outcome = ticket.outcome().await.unwrap();
        assert!(since(began) >= 100, "the outcome comes after the rollback");
        assert!(matches!(
            outcome.end,
            End::Cancelled {
                cause: StopCause::User,
                ..
            }
        ));
        assert_eq!(outcome.output, None);
    });
    assert_eq!(notes.all(), ["undid it"]);
}

#[test]
fn g01_the_first_end_recorded_decides() {
    still(async {
        let cancelling = stage_fn("act", async |what: Do, task: &TaskContext<'_, u32>| {
            task.on_cancel(1).await?;
            crate::support::act(what).await
        })
        .cancel_with(async |_: u32, _: &CancelContext<'_>| {
            sleep(100).await;
            Ok(())
        });
        let handle = Pipeline::new("first")
            .stage(cancelling.workers(4))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // It fails; the deadline and a cancel come while it is rolled back.
        let failed = handle.submit(Do::Fail).timeout(ms(50)).await.unwrap();
        let late = handle.submit(Do::Hang).timeout(ms(20)).await.unwrap();
        sleep(60).await;
        assert!(!failed.cancel() && !handle.cancel(failed.id()));
        assert!(!late.cancel());
        let outcome = failed.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "failed in act: no; 1 undo taken back");
        let outcome = late.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "timed out in act; 1 undo taken back");
    });
}

#[test]
fn g01_a_done_task_stays_done() {
    still(async {
        let handle = Pipeline::new("done")
            .stage(stage_fn(
                "double",
                async |n: u32, task: &TaskContext<'_, u32>| {
                    task.on_cancel(n).await?;
                    Ok(n * 2)
                },
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(4).timeout(ms(10)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.output, Some(8));
        assert!(!ticket.cancel() && !handle.cancel(ticket.id()));
        sleep(100).await;
        assert!(ticket.outcome().await.unwrap().is_done());
        // Its record serves the next task, which the old ticket must not reach.
        let next = handle.submit(5).await.unwrap();
        assert!(!ticket.cancel());
        assert_eq!(next.outcome().await.unwrap().output, Some(10));
        assert_eq!(ticket.outcome().await.unwrap().task, ticket.id());
    });
}

#[test]
fn g01_a_task_cancelled_in_any_queue_has_one_outcome() {
    // Cancelled on its way, in the queue and in a later queue: each has its one outcome.
    still(async {
        let handle = Pipeline::new("places")
            .stage(acting("a").capacity(8))
            .stage(acting("b").capacity(8))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let busy = handle.submit(Do::Take(50)).await.unwrap();
        let on_its_way = handle.submit(Do::Pass).await.unwrap();
        assert!(on_its_way.cancel());
        let queued = handle.submit(Do::Pass).await.unwrap();
        sleep(60).await;
        // `busy` is in b now and `queued` behind it.
        assert!(queued.cancel());
        let ends = [
            summary(&busy.outcome().await.unwrap()),
            summary(&on_its_way.outcome().await.unwrap()),
            summary(&queued.outcome().await.unwrap()),
        ];
        assert_eq!(
            ends,
            [
                "done; nothing to take back",
                "cancelled in a; nothing to take back",
                "cancelled in b; nothing to take back"
            ]
        );
    });
}

#[test]
fn g01_panics_resizes_and_a_shutdown_lose_no_task() {
    let report = still(async {
        let handle = Pipeline::new("storm")
            .stage(acting("a").workers(3).capacity(300))
            .stage(acting("b").workers(3).capacity(300))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..300u64 {
            let what = if n % 3 == 0 {
                Do::Panic
            } else {
                Do::Take(n % 5)
            };
            handle.submit(what).await.unwrap();
            if n % 10 == 0 {
                handle.resize("a", (n % 4 + 1) as usize).unwrap();
                handle.resize("b", (n % 3 + 1) as usize).unwrap();
                sleep(1).await;
            }
        }
        handle.shutdown(Shutdown::Drain(ms(100))).await.unwrap()
    });
    let counts = report.counts;
    assert_eq!((counts.accepted, counts.in_flight()), (300, 0));
    assert!(counts.cancelled > 0 && counts.done > 0 && counts.failed > 0);
    let [a, b] = &report.stages[..] else { panic!() };
    assert_eq!(
        a.counts.started,
        a.counts.finished + a.counts.failed + a.counts.stopped
    );
    assert_eq!(
        b.counts.started,
        b.counts.finished + b.counts.failed + b.counts.stopped
    );
    assert_eq!(counts.done, b.counts.finished);
    assert_eq!(counts.failed, a.counts.panicked);
}
