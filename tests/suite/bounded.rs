//! Memory is bounded: by queues, places, and the number of stuck tasks.

use std::sync::Arc;

use batrun::{SubmitError, TrySubmitError, prelude::*, report::Lagged};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::support::{Do, Gauge, Held, acting, ms, since, sleep, still};

#[test]
fn g07_submit_waits_for_room_and_try_submit_returns_the_context() {
    still(async {
        let handle = Pipeline::new("room")
            .stage(acting("a").capacity(2))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        // One at work, two in the queue.
        handle.submit(Do::Take(100)).await.unwrap();
        sleep(1).await;
        handle.try_submit(Do::Take(100)).unwrap();
        handle.try_submit(Do::Pass).unwrap();
        let Err(TrySubmitError::Full(Do::Fail)) = handle.try_submit(Do::Fail) else {
            panic!("there was room");
        };
        assert!(handle.submit(Do::Pass).now_or_never().is_none());
        assert_eq!(handle.snapshot().counts.accepted, 3, "a dropped submit");
        let waited = handle.submit(Do::Pass).await.unwrap();
        assert_eq!(since(began), 100);
        assert!(waited.outcome().await.unwrap().is_done());
        let counts = handle.shutdown(Shutdown::Abort).await.unwrap().counts;
        assert_eq!((counts.accepted, counts.done), (4, 4));
    });
}

#[test]
fn g07_each_queue_holds_no_more_than_its_capacity() {
    still(async {
        let handle = Pipeline::new("queues")
            .stage(acting("a").named("first").workers(3).capacity(4))
            .stage(acting("b").named("second").workers(2).capacity(1))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // Places are left for seven more; the first queue is what is full.
        handle.pause();
        let taken = (0..20)
            .take_while(|_| handle.try_submit(Do::Pass).is_ok())
            .count();
        assert_eq!(taken, 4);
        handle.shutdown(Shutdown::Abort).await.unwrap();

        let handle = Pipeline::new("later queues")
            .stage(acting("a").named("first").workers(3).capacity(9))
            .stage(acting("b").named("second").workers(1).capacity(1))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // The first one hangs in the second stage, wherever it gets to know that it does.
        for _ in 0..9 {
            handle.submit(Do::Take(1_000_000)).await.unwrap();
        }
        let first = 1_000_000 + 500_000;
        sleep(first).await;
        // One at work and one queued in the second stage; the first stage's three workers hold a
        // result each, or none would be held back.
        let stages = handle.snapshot().stages;
        assert_eq!(stages[1].counts.started, 1);
        assert!(stages[1].queued <= 1, "{stages:?}");
        assert!(stages[0].counts.finished <= 2, "{stages:?}");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

/// A producer takes room for many tasks at a time, but no more than there is.
#[test]
fn g07_a_producer_fills_the_first_queue_and_no_more() {
    still(async {
        let handle = Pipeline::new("eager")
            .max_in_flight(1000)
            .producer(from_iter(vec![Do::Hang; 600]))
            .stage(acting("s").workers(2).capacity(4))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for _ in 0..20 {
            sleep(1).await;
            let snapshot = handle.snapshot();
            assert!(snapshot.in_flight <= 6, "{snapshot:?}");
            assert!(snapshot.stages[0].queued <= 4, "{snapshot:?}");
        }
        // Two at work, four in the queue.
        assert_eq!(handle.snapshot().in_flight, 6);
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(report.counts.cancelled, 6);
    });
}

#[test]
fn g07_a_slow_last_stage_slows_the_producers_down() {
    still(async {
        let began = Instant::now();
        // Contexts alive anywhere in the pipeline, and calls of the last stage.
        let (alive, at_work) = (Gauge::default(), Gauge::default());
        let (made, working) = (alive.clone(), at_work.clone());
        let handle = Pipeline::new("slow end")
            .producer(move |tasks: Intake<Held>| async move {
                for n in 0..100 {
                    tasks.submit(made.hold()).await?;
                    if n == 99 {
                        assert!(since(began) > 800, "{}", since(began));
                    }
                }
                Ok(())
            })
            .stage(
                stage_fn("quick", async |it: Held, _: &TaskContext<'_, ()>| Ok(it))
                    .capacity(3)
                    .workers(2),
            )
            .stage(
                stage_fn("slow", async move |it: Held, _: &TaskContext<'_, ()>| {
                    let call = working.hold();
                    sleep(10).await;
                    drop((call, it));
                    Ok(())
                })
                .capacity(2),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        while handle.snapshot().counts.done < 100 {
            let snapshot = handle.snapshot();
            assert!(snapshot.in_flight <= 8, "{snapshot:?}");
            assert!(snapshot.stages[0].queued <= 3, "{snapshot:?}");
            assert!(snapshot.stages[1].queued <= 2, "{snapshot:?}");
            sleep(1).await;
        }
        assert_eq!(at_work.most(), 1);
        // Capacities, workers, and the one that the producer holds.
        assert!(alive.most() <= 9, "{}", alive.most());
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert!(report.producer_errors.is_empty(), "{report}");
        assert!(since(began) >= 1000);
    });
}

#[test]
fn g07_a_task_holds_its_place_until_its_rollback_has_ended() {
    still(async {
        let handle = Pipeline::new("places")
            .max_in_flight(2)
            .stage(
                stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
                    task.on_cancel(1).await?;
                    Err::<u32, _>(Failure::new("no"))
                })
                .cancel_with(async |_: u32, _: &CancelContext<'_>| {
                    sleep(100).await;
                    Ok(())
                }),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        handle.submit(1).await.unwrap();
        handle.submit(2).await.unwrap();
        sleep(50).await;
        assert!(matches!(handle.try_submit(3), Err(TrySubmitError::Full(3))));
        handle.submit(3).await.unwrap();
        assert_eq!(since(began), 100);
    });
}

#[test]
fn g07_a_stage_submits_to_its_own_pipeline_without_waiting() {
    still(async {
        let own: Arc<std::sync::OnceLock<Intake<u32>>> = Arc::default();
        let intake = own.clone();
        let handle = Pipeline::new("own")
            .stage(
                stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| {
                    if n > 0 {
                        let tasks = intake.get().unwrap();
                        // A full pipeline says so at once: nothing waits for itself.
                        while tasks.try_submit(n - 1).is_ok() {}
                    }
                    Ok(n)
                })
                .capacity(2),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        own.set(handle.intake()).ok().unwrap();
        let first = handle.submit(5).await.unwrap();
        assert!(first.outcome().await.unwrap().is_done());
        while handle.snapshot().in_flight > 0 {
            sleep(1).await;
        }
        assert!(handle.snapshot().counts.done > 5);
    });
}

#[test]
fn g07_max_stuck_tasks_stop_the_intake_until_one_is_resolved() {
    still(async {
        let handle = Pipeline::new("stuck")
            .max_stuck(2)
            .stage(
                stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
                    task.on_cancel(n).await?;
                    Err::<u32, _>(Failure::new("no"))
                })
                .cancel_with(async |_: u32, _: &CancelContext<'_>| {
                    Err(Failure::permanent("can't"))
                }),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..2 {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        assert_eq!(handle.snapshot().stuck, 2);
        assert!(matches!(handle.submit(7).await, Err(SubmitError::Stuck(7))));
        assert!(matches!(
            handle.try_submit(7),
            Err(TrySubmitError::Refused(SubmitError::Stuck(7)))
        ));
        let stuck = handle.stuck();
        assert_eq!(stuck.len(), 2);
        assert!(handle.resolve(stuck[0].task));
        assert!(!handle.resolve(stuck[0].task));
        // A refusal has taken no room away.
        let again = handle.submit(7).await.unwrap();
        again.outcome().await.unwrap();
        assert_eq!(handle.snapshot().stuck, 2);
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.failed, report.stuck.len()), (3, 2));
    });
}

#[test]
fn g07_a_reader_that_lags_is_told_how_much_it_missed() {
    still(async {
        let handle = Pipeline::new("lags")
            .producer(from_iter(vec![Do::Pass; 3000]))
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut outcomes = handle.outcomes();
        while handle.snapshot().counts.done < 3000 {
            sleep(1).await;
        }
        let Some(Err(Lagged(missed))) = outcomes.next().await else {
            panic!("nothing was missed");
        };
        handle.shutdown(Shutdown::Drain(ms(10))).await.unwrap();
        let rest: Vec<_> = outcomes.collect().await;
        assert_eq!(missed as usize + rest.len(), 3000);
        assert!(rest.len() <= 1024);
        assert_eq!(rest.last().unwrap().as_ref().unwrap().task.0, 3000);
    });
}

#[test]
fn g07_a_task_that_ends_in_the_queue_frees_its_place() {
    still(async {
        let handle = Pipeline::new("purged")
            .stage(acting("a").capacity(3))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let hangs = handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        // Again and again: no room may be lost, and none be gained.
        for _ in 0..10 {
            let mut queued = Vec::new();
            for n in 0..3u64 {
                queued.push(handle.submit(Do::Pass).timeout(ms(5 + n)).await.unwrap());
            }
            assert!(handle.try_submit(Do::Pass).is_err());
            queued[1].cancel();
            sleep(20).await;
            assert_eq!(handle.snapshot().in_flight, 1);
            assert_eq!(handle.snapshot().stages[0].queued, 0);
        }
        hangs.cancel();
        hangs.outcome().await.unwrap();
    });
}

#[test]
fn a_submit_that_was_polled_does_not_block_itself() {
    still(async {
        let handle = Pipeline::new("one place")
            .stage(acting("act"))
            .max_in_flight(1)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let first = handle.submit(Do::Take(10)).await.unwrap();
        let mut waiting = handle.submit(Do::Pass);
        assert!(futures::poll!(&mut waiting).is_pending());
        first.outcome().await.unwrap();
        // The place that is free now is meant for the one that waits.
        let second = waiting.now().unwrap();
        assert!(second.outcome().await.unwrap().is_done());
    });
}
