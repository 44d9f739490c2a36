//! A pipeline ends, by a shutdown or because nobody holds it, and each of its tasks with it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use batrun::{Error, SubmitError, TrySubmitError, prelude::*};
use tokio::time::Instant;

use crate::support::{Do, Notes, act, acting, gate, live, ms, noted, since, sleep, still, summary};

fn undoing(
    notes: &Notes,
) -> impl Stage<Input = Do, Output = Do, Undo = String> + Clone + Send + use<> {
    noted(
        "s",
        notes,
        async |what: Do, task: &TaskContext<'_, String>| {
            task.on_cancel(format!("{what:?}")).await?;
            act(what).await
        },
    )
}

#[test]
fn g11_drain_finishes_accepted_tasks_and_takes_no_more() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("drain")
            .stage(undoing(&notes))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for _ in 0..5 {
            tickets.push(handle.submit(Do::Take(10)).await.unwrap());
        }
        let began = Instant::now();
        let draining = handle.clone();
        let drain =
            actix_rt::spawn(async move { draining.shutdown(Shutdown::Drain(ms(1000))).await });
        sleep(1).await;
        assert!(matches!(
            handle.submit(Do::Fail).await,
            Err(SubmitError::Closed(Do::Fail))
        ));
        assert!(matches!(
            handle.try_submit(Do::Fail),
            Err(TrySubmitError::Refused(SubmitError::Closed(Do::Fail)))
        ));
        let report = drain.await.unwrap().unwrap();
        assert_eq!(since(began), 50);
        assert_eq!((report.counts.done, report.counts.in_flight()), (5, 0));
        for ticket in &tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        assert!(matches!(
            handle.submit(Do::Fail).await,
            Err(SubmitError::Closed(_))
        ));
    });
    assert!(notes.all().is_empty());
}

#[test]
fn g11_a_task_that_outlasts_the_grace_is_cancelled_and_rolled_back() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("grace")
            .stage(undoing(&notes).workers(3))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let quick = handle.submit(Do::Take(40)).await.unwrap();
        let slow = handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        let began = Instant::now();
        let report = handle.shutdown(Shutdown::Drain(ms(50))).await.unwrap();
        assert_eq!(since(began), 50);
        assert_eq!((report.counts.done, report.counts.cancelled), (1, 1));
        assert!(quick.outcome().await.unwrap().is_done());
        // Interrupted is not failed.
        assert_eq!(
            summary(&slow.outcome().await.unwrap()),
            "cancelled by the shutdown in s; 1 undo taken back"
        );
    });
    assert_eq!(notes.all(), ["undid Hang"]);
}

#[test]
fn g11_abort_rolls_back_at_once_and_finishes_rollbacks_that_have_begun() {
    let notes = Notes::default();
    still(async {
        let undid = notes.clone();
        let work = stage_fn("s", async |what: Do, task: &TaskContext<'_, Do>| {
            task.on_cancel(what).await?;
            act(what).await
        })
        .cancel_with(async move |what: Do, _: &CancelContext<'_>| {
            sleep(100).await;
            undid.note(format!("undid {what:?}"));
            Ok(())
        });
        let handle = Pipeline::new("abort")
            .stage(work.workers(3).capacity(9))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let failing = handle.submit(Do::Fail).await.unwrap();
        sleep(50).await;
        let running = handle.submit(Do::Hang).await.unwrap();
        let hanging = handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        let queued = handle.submit(Do::Pass).await.unwrap();
        sleep(1).await;
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.failed, report.counts.in_flight()), (1, 0));
        assert_eq!(
            summary(&failing.outcome().await.unwrap()),
            "failed in s: no; 1 undo taken back"
        );
        assert_eq!(
            summary(&running.outcome().await.unwrap()),
            "cancelled by the shutdown in s; 1 undo taken back"
        );
        hanging.outcome().await.unwrap();
        assert_eq!(
            summary(&queued.outcome().await.unwrap()),
            "cancelled by the shutdown in s; nothing to take back"
        );
    });
    let mut all = notes.all();
    all.sort();
    assert_eq!(all, ["undid Fail", "undid Hang", "undid Hang"]);
}

#[test]
fn g11_a_second_shutdown_hastens_the_first_and_both_get_the_report() {
    still(async {
        let notes = Notes::default();
        let handle = Pipeline::new("twice")
            .stage(undoing(&notes))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(Do::Hang).await.unwrap();
        let began = Instant::now();
        let (first, second, third, fourth) = (
            handle.clone(),
            handle.clone(),
            handle.clone(),
            handle.clone(),
        );
        let (a, b, c, d) = futures::join!(
            first.shutdown(Shutdown::Drain(ms(5000))),
            async {
                sleep(10).await;
                // Has less time than that already.
                second.shutdown(Shutdown::Drain(ms(100_000))).await
            },
            async {
                sleep(20).await;
                third.shutdown(Shutdown::Drain(ms(80))).await
            },
            async {
                sleep(50).await;
                fourth.shutdown(Shutdown::Abort).await
            },
        );
        assert_eq!(since(began), 50);
        for report in [a, b, c, d] {
            assert_eq!(report.unwrap().counts.cancelled, 1);
        }
        assert!(handle.shutdown(Shutdown::Abort).await.is_ok());
        assert!(handle.ended().await.is_ok());
    });
}

#[test]
fn g11_a_shorter_grace_hastens_and_a_longer_one_does_not_slow_down() {
    for (first, second, ends) in [(5000, 100, 110), (100, 5000, 100)] {
        still(async {
            let handle = Pipeline::new("graces")
                .stage(acting("s"))
                .current_arbiter()
                .start()
                .await
                .unwrap();
            handle.submit(Do::Hang).await.unwrap();
            let began = Instant::now();
            let other = handle.clone();
            let (a, b) = futures::join!(handle.shutdown(Shutdown::Drain(ms(first))), async {
                sleep(10).await;
                other.shutdown(Shutdown::Drain(ms(second))).await
            });
            assert_eq!(since(began), ends);
            assert!(a.is_ok() && b.is_ok());
        });
    }
}

#[test]
fn g11_dropping_the_last_handle_and_intake_drains() {
    still(async {
        let handle = Pipeline::new("deserted")
            .stage(acting("s").capacity(9))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut outcomes = handle.outcomes();
        let intake = handle.intake();
        let first = intake.submit(Do::Take(5000)).await.unwrap();
        drop(handle.clone());
        drop(handle);
        // The intake keeps it open.
        let second = intake.submit(Do::Take(5000)).await.unwrap();
        drop(intake);
        assert!(first.outcome().await.unwrap().is_done());
        assert!(second.outcome().await.unwrap().is_done());
        use futures::StreamExt;
        let mut seen = 0;
        while outcomes.next().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, 2, "and the pipeline has ended");
    });
}

#[test]
fn g11_a_producer_stopped_by_a_shutdown_is_no_error() {
    still(async {
        let handle = Pipeline::new("endless")
            .producer(from_iter(std::iter::repeat(Do::Take(1))))
            .producer(|tasks: Intake<Do>| async move {
                loop {
                    tasks.submit(Do::Pass).await?;
                    sleep(3).await;
                }
            })
            .producer(|_: Intake<Do>| std::future::pending())
            .stage(acting("s"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        sleep(100).await;
        let report = handle.shutdown(Shutdown::Drain(ms(10_000))).await.unwrap();
        assert!(report.producer_errors.is_empty(), "{report}");
        assert!(report.counts.done > 50);
        assert_eq!(report.counts.done, report.counts.accepted);
    });
}

#[test]
fn g11_a_waiting_submitter_gets_its_context_back() {
    still(async {
        let handle = Pipeline::new("waits")
            .stage(acting("s").capacity(1))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(Do::Take(50)).await.unwrap();
        sleep(1).await;
        handle.submit(Do::Take(50)).await.unwrap();
        let other = handle.clone();
        let waiting = actix_rt::spawn(async move { other.submit(Do::Fail).await });
        sleep(1).await;
        let report = handle.shutdown(Shutdown::Drain(ms(1000))).await.unwrap();
        assert_eq!((report.counts.accepted, report.counts.done), (2, 2));
        assert!(matches!(
            waiting.await.unwrap(),
            Err(SubmitError::Closed(Do::Fail))
        ));
    });
}

#[test]
fn g11_a_call_that_outlasts_abandon_after_is_named_and_its_task_is_stuck() {
    // The call blocks for real; the pipeline's patience is time that stands still otherwise.
    let (gate, keeper) = gate();
    let returned = Arc::new(AtomicBool::new(false));
    let back = returned.clone();
    live(async {
        let notes = Notes::default();
        let work = noted(
            "blocks",
            &notes,
            async move |n: u32, task: &TaskContext<'_, String>| {
                task.on_cancel("half done".to_owned()).await?;
                gate.pass();
                back.store(true, Ordering::SeqCst);
                Ok(n)
            },
        );
        let handle = Pipeline::new("abandons")
            .abandon_after(ms(20))
            .stage(work.blocking())
            .arbiters(1)
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        keeper.wait_for_call();
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert!(!returned.load(Ordering::SeqCst));
        let [stuck] = &report.stuck[..] else {
            panic!("{report}")
        };
        assert_eq!(stuck.still_running.as_deref(), Some("blocks"));
        assert_eq!(stuck.undos.len(), 1);
        assert_eq!(stuck.undos[0].error, "not tried");
        assert_eq!((report.counts.cancelled, report.counts.in_flight()), (1, 0));
        assert!(ticket.outcome().await.is_ok());
        assert!(notes.all().is_empty(), "its undo is listed, not run");
        keeper.release();
    });
}

#[test]
fn g11_tickets_answer_gone_if_the_runtime_ends_first() {
    let other = std::thread::spawn(|| {
        still(async {
            let handle = Pipeline::new("gone")
                .stage(acting("s"))
                .current_arbiter()
                .start()
                .await
                .unwrap();
            let running = handle.submit(Do::Hang).await.unwrap();
            let queued = handle.submit(Do::Pass).await.unwrap();
            sleep(1).await;
            (handle, running, queued)
        })
    });
    let (handle, running, queued) = other.join().unwrap();
    futures::executor::block_on(async {
        assert!(matches!(running.outcome().await, Err(Error::Gone)));
        assert!(matches!(queued.outcome().await, Err(Error::Gone)));
        assert!(matches!(
            handle.submit(Do::Pass).await,
            Err(SubmitError::Closed(Do::Pass))
        ));
        assert!(matches!(
            handle.shutdown(Shutdown::Abort).await,
            Err(Error::Gone)
        ));
        assert!(matches!(handle.ended().await, Err(Error::Gone)));
        assert!(!running.cancel() || running.outcome().await.is_err());
    });
}

#[test]
fn g11_own_arbiters_answer_too_if_the_system_ends_first() {
    let (handle, ticket) = live(async {
        let handle = Pipeline::new("gone too")
            .stage(acting("s"))
            .arbiters(2)
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(Do::Hang).await.unwrap();
        (handle, ticket)
    });
    futures::executor::block_on(async {
        // Its arbiters end with its System.
        handle.shutdown(Shutdown::Abort).await.ok();
        match ticket.outcome().await {
            // The shutdown came through before the arbiter ended.
            Ok(outcome) => assert!(outcome.end.to_string().starts_with("cancelled")),
            Err(error) => assert!(matches!(error, Error::Gone)),
        }
    });
}
