//! Pause, resume, resize, rate limits.

use std::time::Duration;

use batrun::{Error, prelude::*};
use tokio::time::Instant;

use crate::support::{Do, Notes, acting, ms, since, sleep, still, summary};

#[test]
fn g01_a_paused_pipeline_starts_nothing_and_everything_else_goes_on() {
    still(async {
        let handle = Pipeline::new("paused")
            .stage(acting("a").workers(2).capacity(50))
            .stage(acting("b").capacity(50))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let running = handle.submit(Do::Take(20)).await.unwrap();
        sleep(1).await;
        handle.pause();
        assert!(handle.snapshot().paused);
        let late = handle.submit(Do::Pass).timeout(ms(30)).await.unwrap();
        let cancelled = handle.submit(Do::Pass).await.unwrap();
        let waits = handle.submit(Do::Pass).await.unwrap();
        sleep(50).await;
        assert!(cancelled.cancel());
        assert_eq!(
            summary(&late.outcome().await.unwrap()),
            "timed out in a; nothing to take back"
        );
        assert!(cancelled.outcome().await.is_ok());
        let snapshot = handle.snapshot();
        // The one that ran has finished there, and goes no further.
        assert_eq!(snapshot.stages[0].counts.finished, 1);
        assert_eq!(snapshot.stages[1].counts.started, 0);
        assert_eq!(snapshot.in_flight, 2);
        handle.resume();
        assert!(running.outcome().await.unwrap().is_done());
        assert!(waits.outcome().await.unwrap().is_done());
    });
}

#[test]
fn g11_a_shutdown_resumes_a_paused_pipeline() {
    still(async {
        let handle = Pipeline::new("resumes")
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.pause();
        let ticket = handle.submit(Do::Pass).await.unwrap();
        sleep(10).await;
        let report = handle.shutdown(Shutdown::Drain(ms(1000))).await.unwrap();
        assert_eq!(report.counts.done, 1);
        assert!(ticket.outcome().await.unwrap().is_done());
    });
}

#[test]
fn g13_a_stage_can_be_resized_but_not_to_zero() {
    still(async {
        let handle = Pipeline::new("resized")
            .stage(acting("a").workers(2).capacity(50))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        sleep(1).await;
        assert_eq!(handle.snapshot().stages[0].workers, 2);
        assert!(matches!(handle.resize("a", 0), Err(Error::ZeroWorkers(name)) if name == "a"));
        assert!(matches!(handle.resize("b", 1), Err(Error::NoSuchStage(name)) if name == "b"));
        let began = Instant::now();
        let mut tickets = Vec::new();
        for _ in 0..8 {
            tickets.push(handle.submit(Do::Take(100)).await.unwrap());
        }
        sleep(1).await;
        handle.resize("a", 4).unwrap();
        sleep(1).await;
        assert_eq!(handle.snapshot().stages[0].workers, 4);
        // The busy ones finish first: nothing is lost, nothing runs twice.
        handle.resize("a", 1).unwrap();
        for ticket in &tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        // Four at first, then one after the other.
        assert_eq!(since(began) / 100, 5);
        sleep(1).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.workers, stage.counts.started), (1, 8));
    });
}

#[test]
fn g10_a_rate_limit_counts_attempts_but_not_undos() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let (ran, undid) = (notes.clone(), notes.clone());
        let work = stage_fn("s", async move |n: u32, task: &TaskContext<'_, u32>| {
            ran.note(format!("run at {}", since(began)));
            task.on_cancel(n).await?;
            match task.attempt() {
                1 => Err(Failure::new("no")),
                _ => Err::<u32, _>(Failure::permanent("no")),
            }
        })
        .cancel_with(async move |_: u32, _: &CancelContext<'_>| {
            undid.note(format!("undid at {}", since(began)));
            Ok(())
        })
        .retry(Retry::constant(1, ms(1)))
        .rate_limit(RateLimit::new(10, ms(1000)));
        let report = Pipeline::new("rate")
            .producer(from_iter([1, 2]))
            .stage(work.workers(4))
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert_eq!(report.stages[0].counts.started, 4);
    });
    assert_eq!(notes.of("run at "), ["0", "100", "200", "300"]);
    assert_eq!(notes.of("undid at "), ["0", "100", "200", "300"]);
}

#[test]
fn g10_a_rate_limit_allows_a_burst_after_a_rest() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let ran = notes.clone();
        let work = stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| {
            ran.note(since(began));
            Ok(n)
        })
        .rate_limit(RateLimit::per_second(10).burst(3));
        Pipeline::new("burst")
            .producer(from_iter(0..5))
            .stage(work)
            .current_arbiter()
            .run()
            .await
            .unwrap();
    });
    assert_eq!(notes.all(), ["0", "0", "0", "100", "200"]);
}

#[test]
fn g10_f07_k2_a_rate_above_the_timers_tick_is_kept() {
    for rate in [100, 500, 2_000, 20_000] {
        still(async move {
            let began = Instant::now();
            let work = stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| Ok(n))
                .rate_limit(RateLimit::per_second(rate))
                .workers(4);
            let report = Pipeline::new("rate")
                .producer(from_iter(0..2 * rate))
                .stage(work)
                .current_arbiter()
                .run()
                .await
                .unwrap();
            assert_eq!(report.counts.done, u64::from(2 * rate));
            // The last of two seconds' tasks is due a period before their end, and starts at the tick
            // after that.
            let last = (2_000_000 - 1_000_000 / u128::from(rate)).div_ceil(1_000);
            assert_eq!(since(began), last, "{rate} a second");
        });
    }
}

#[test]
fn f06_k2_a_rate_at_the_edges_of_what_can_be_set_works() {
    let year = Duration::from_secs(365 * 24 * 3600);
    for (rate, wanted) in [
        (RateLimit::new(1, Duration::MAX), 1),
        (RateLimit::new(1, year).burst(586), 586),
        (RateLimit::new(1, year).burst(1_000), 1_000),
        (RateLimit::per_second(2_000_000_000), 2_000),
        (RateLimit::per_second(u32::MAX), 2_000),
    ] {
        still(async move {
            let work =
                stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| Ok(n)).rate_limit(rate);
            let handle = Pipeline::new("edges")
                .producer(from_iter(0..2_000))
                .stage(work)
                .current_arbiter()
                .start()
                .await
                .unwrap();
            sleep(1_000).await;
            assert_eq!(
                handle.snapshot().stages[0].counts.started,
                wanted,
                "{rate:?}"
            );
            handle.shutdown(Shutdown::Abort).await.unwrap();
        });
    }
}
