//! At its deadline a task stops, wherever it is.

use batrun::{prelude::*, state::Rollback};
use tokio::time::Instant;

use std::time::Duration;

use crate::support::{
    Do, Gauge, Held, Notes, acting, live, ms, noted, since, sleep, still, summary,
};

#[test]
fn g08_the_earliest_of_all_limits_applies() {
    still(async {
        let handle = Pipeline::new("limits")
            .stage(acting("a").capacity(50))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        // (timeout, work timeout, deadline), and when it ends.
        for (timeout, work, deadline, ends) in [
            (Some(50), None, None, 50),
            (None, Some(60), None, 60),
            (None, None, Some(70), 70),
            (Some(50), Some(60), Some(70), 50),
            (Some(80), Some(60), Some(70), 60),
            (Some(80), Some(90), Some(70), 70),
        ] {
            let start = Instant::now();
            let mut submit = handle.submit(Do::Hang);
            if let Some(timeout) = timeout {
                submit = submit.timeout(ms(timeout));
            }
            if let Some(work) = work {
                submit = submit.work_timeout(ms(work));
            }
            if let Some(deadline) = deadline {
                submit = submit.deadline(start + ms(deadline));
            }
            let outcome = submit.await.unwrap().outcome().await.unwrap();
            assert_eq!(summary(&outcome), "timed out in a; nothing to take back");
            // The wheel's ticks are coarser than a millisecond may hide.
            let took = since(start);
            assert!((ends..=ends + 2).contains(&took), "{took} ms, not {ends}");
        }
        assert!(since(began) < 400);
    });
}

#[test]
fn g08_a_work_timeout_counts_from_the_first_start() {
    still(async {
        let handle = Pipeline::new("work timeout")
            .stage(acting("a").capacity(50))
            .stage(acting("b"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let busy = handle.submit(Do::Take(100)).await.unwrap();
        // Waits for 100 ms, then has 60 ms for both stages.
        let done = handle
            .submit(Do::Take(25))
            .work_timeout(ms(60))
            .await
            .unwrap();
        let late = handle
            .submit(Do::Take(40))
            .work_timeout(ms(60))
            .await
            .unwrap();
        assert!(busy.outcome().await.unwrap().is_done());
        // `b` is busy with the first one until 200.
        assert_eq!(
            summary(&done.outcome().await.unwrap()),
            "timed out in b; nothing to take back"
        );
        assert_eq!(
            summary(&late.outcome().await.unwrap()),
            "timed out in b; nothing to take back"
        );
        let done = handle
            .submit(Do::Take(25))
            .work_timeout(ms(60))
            .await
            .unwrap();
        assert!(done.outcome().await.unwrap().is_done());
    });
}

#[test]
fn g08_a_stage_knows_its_deadline() {
    still(async {
        let stage = stage_fn("asks", async |_: u32, task: &TaskContext<'_, ()>| {
            sleep(10).await;
            Ok((
                task.deadline().map(|at| at - Instant::now()),
                task.time_left(),
            ))
        });
        let handle = Pipeline::new("asks")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let with = handle.submit(1).timeout(ms(30)).await.unwrap();
        let outcome = with.outcome().await.unwrap();
        assert_eq!(outcome.output, Some((Some(ms(20)), Some(ms(20)))));
        let without = handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert_eq!(without.output, Some((None, None)));
    });
}

#[test]
fn g08_a_queued_task_leaves_at_its_deadline_while_every_worker_hangs() {
    still(async {
        let contexts = Gauge::default();
        let handle = Pipeline::new("taken out")
            .stage(
                stage_fn("hangs", async |it: Held, _: &TaskContext<'_, ()>| {
                    std::future::pending::<()>().await;
                    Ok(it)
                })
                .workers(2)
                .capacity(100),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        for _ in 0..2 {
            handle.submit(contexts.hold()).await.unwrap();
        }
        sleep(1).await;
        let mut queued = Vec::new();
        for _ in 0..100 {
            let ticket = handle.submit(contexts.hold()).timeout(ms(49)).await;
            queued.push(ticket.unwrap());
        }
        assert!(handle.try_submit(Gauge::default().hold()).is_err());
        for ticket in &queued {
            assert_eq!(ticket.outcome().await.unwrap().rollback, Rollback::None);
        }
        assert!(since(began) <= 52, "{}", since(began));
        sleep(1).await;
        assert_eq!(contexts.dropped(), 100);
        handle.try_submit(contexts.hold()).unwrap();
    });
}

#[test]
fn g08_a_running_future_is_dropped_at_its_deadline() {
    let calls = Gauge::default();
    still(async {
        let watch = calls.clone();
        let handle = Pipeline::new("dropped")
            .stage(stage_fn(
                "hangs",
                async move |n: u32, _: &TaskContext<'_, ()>| {
                    let _held = watch.hold();
                    std::future::pending::<()>().await;
                    Ok(n)
                },
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit(1).timeout(ms(30)).await.unwrap();
        sleep(29).await;
        assert_eq!(calls.dropped(), 0);
        ticket.outcome().await.unwrap();
        assert_eq!(calls.dropped(), 1);
        assert!(since(began) <= 32);
    });
}

#[test]
fn g08_a_task_waiting_for_the_next_queue_stops_too() {
    let notes = Notes::default();
    still(async {
        let first = noted(
            "first",
            &notes,
            async |what: Do, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("{what:?}")).await?;
                Ok(what)
            },
        );
        let handle = Pipeline::new("no room")
            .stage(first)
            .stage(acting("full").capacity(1))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        let began = Instant::now();
        let ticket = handle.submit(Do::Pass).timeout(ms(20)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "timed out in first; 1 undo taken back");
        assert!(since(began) <= 22);
    });
    assert_eq!(notes.all(), ["undid Pass"]);
}

#[test]
fn g08_a_deadline_already_past_at_submit_times_out_at_once() {
    still(async {
        let handle = Pipeline::new("past")
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        sleep(10).await;
        let past = Instant::now() - ms(5);
        for submit in [
            handle.submit(Do::Pass).deadline(past),
            handle.submit(Do::Pass).timeout(ms(0)),
        ] {
            let outcome = submit.await.unwrap().outcome().await.unwrap();
            assert_eq!(summary(&outcome), "timed out in a; nothing to take back");
        }
    });
}

#[test]
fn g01_v1_a_result_that_comes_just_after_the_deadline_is_too_late() {
    let report = live(async {
        let handle = Pipeline::new("close")
            .stage(stage_fn("s", async |n: u64, task: &TaskContext<'_, ()>| {
                // Without a wait, so that only the worker can notice.
                while Instant::now() < task.deadline().unwrap() {}
                Ok(n)
            }))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..4_000 {
            let limit = Duration::from_micros(10 + n * 7 % 400);
            let ticket = handle.submit(n).timeout(limit).await.unwrap();
            ticket.outcome().await.unwrap();
        }
        handle.shutdown(Shutdown::Abort).await.unwrap()
    });
    assert_eq!((report.counts.done, report.counts.timed_out), (0, 4_000));
    // Of the others the deadline passed in the queue.
    assert!(report.stages[0].counts.started > 100, "{report}");
}

#[test]
fn g08_v1_a_timeout_does_not_end_early() {
    let report = live(
        Pipeline::new("early")
            .producer(|tasks: Intake<Instant>| async move {
                for _ in 0..20_000 {
                    tasks.submit(Instant::now()).timeout(ms(900)).await?;
                }
                Ok(())
            })
            .stage(stage_fn(
                "s",
                async |submitted: Instant, task: &TaskContext<'_, ()>| {
                    // The time that GUARANTEES.md gives it.
                    let early = Duration::from_micros(2);
                    match task.deadline().unwrap() + early >= submitted + ms(900) {
                        true => Ok(()),
                        false => Err(Failure::new("early")),
                    }
                },
            ))
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 0, "{report}");
}
