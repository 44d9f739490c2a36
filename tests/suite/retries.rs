//! Another attempt starts clean, in time, or not at all.

use batrun::prelude::*;
use tokio::time::Instant;

use crate::support::{Notes, ms, since, sleep, still, summary};

/// Registers an undo, then fails its first `failing` attempts.
fn flaky(
    notes: &Notes,
    failing: u32,
) -> impl Stage<Input = String, Output = String, Undo = u32> + Clone + Send + use<> {
    let (ran, undid) = (notes.clone(), notes.clone());
    stage_fn(
        "flaky",
        async move |mut input: String, task: &TaskContext<'_, u32>| {
            ran.note(format!("attempt {} of {input}", task.attempt()));
            input.push_str(" spoilt");
            task.on_cancel(task.attempt()).await?;
            if task.attempt() <= failing {
                return Err(Failure::new("no"));
            }
            Ok(input)
        },
    )
    .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
        undid.note(format!("undo {undo}"));
        Ok(())
    })
}

#[test]
fn g10_a_retry_cleans_up_first_and_gets_the_input_as_it_arrived() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("retries")
            .stage(flaky(&notes, 2).retry(Retry::constant(3, ms(10))))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit("it".to_owned()).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.output.as_deref(), Some("it spoilt"));
        let stage = handle.snapshot().stages[0].counts;
        assert_eq!((stage.started, stage.failed, stage.retried), (3, 2, 2));
    });
    assert_eq!(
        notes.all(),
        [
            "attempt 1 of it",
            "undo 1",
            "attempt 2 of it",
            "undo 2",
            "attempt 3 of it"
        ]
    );
}

#[test]
fn g10_a_task_fails_once_its_retries_are_used_up() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("used up")
            .producer(from_iter(["it".to_owned()]))
            .stage(flaky(&notes, 9).retry(Retry::constant(2, ms(10))))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(notes.of("attempt ").len(), 3);
    // The last attempt's undo is the final rollback's; the others were cleaned up before.
    assert_eq!(notes.of("undo "), ["1", "2", "3"]);
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in flaky: no; 1 undo taken back"
    );
}

#[test]
fn g10_a_clean_up_that_fails_for_good_fails_the_task() {
    let notes = Notes::default();
    let undid = notes.clone();
    let report = still(
        Pipeline::new("dirty")
            .producer(from_iter([1]))
            .stage(
                stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
                    for undo in 1..=3 {
                        task.on_cancel(undo).await?;
                    }
                    Err::<u32, _>(Failure::new("the stage's error"))
                })
                .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
                    undid.note(undo);
                    if undo == 2 {
                        return Err(Failure::permanent("can't"));
                    }
                    Ok(())
                })
                .retry(Retry::constant(5, ms(10))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.stages[0].counts.started, 1);
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in s: the stage's error; stuck: s: 2 (can't)"
    );
    // 1 and 2 in the clean-up; then 3 in the rollback, and 2 once more in its second round.
    assert_eq!(notes.all(), ["1", "2", "3", "2"]);
}

#[test]
fn g10_a_backoff_past_the_deadline_fails_the_task_at_once() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("too late")
            .stage(flaky(&notes, 9).retry(Retry::constant(5, ms(100))))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit("it".into()).timeout(ms(250)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "failed in flaky: no; 1 undo taken back");
        assert_eq!(since(began), 200);
    });
    assert_eq!(notes.of("attempt ").len(), 3);
}

#[test]
fn g10_a_cancelled_task_stops_waiting_for_its_retry() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("resting")
            .stage(flaky(&notes, 9).retry(Retry::constant(5, ms(1000))))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit("it".to_owned()).await.unwrap();
        sleep(100).await;
        assert!(ticket.cancel());
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "cancelled in flaky; nothing to take back"
        );
        assert_eq!(since(began), 100);
        sleep(5000).await;
    });
    assert_eq!(notes.all(), ["attempt 1 of it", "undo 1"]);
}

#[test]
fn g10_a_task_cancelled_during_its_clean_up_rolls_back() {
    let notes = Notes::default();
    still(async {
        let undid = notes.clone();
        let work = stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(1).await?;
            task.on_cancel(2).await?;
            Err::<u32, _>(Failure::new("no"))
        })
        .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
            undid.note(format!("{undo} begins"));
            sleep(100).await;
            undid.note(format!("{undo} ends"));
            Ok(())
        })
        .retry(Retry::constant(5, ms(10)));
        let handle = Pipeline::new("cleaning")
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        sleep(50).await;
        assert!(ticket.cancel());
        let outcome = ticket.outcome().await.unwrap();
        assert!(outcome.end.to_string().starts_with("cancelled in s"));
        sleep(1000).await;
        assert_eq!(handle.snapshot().stages[0].counts.started, 1);
    });
    assert_eq!(notes.all(), ["1 begins", "1 ends", "2 begins", "2 ends"]);
}

#[test]
fn g10_neither_panics_nor_permanent_failures_are_retried() {
    let report = still(
        Pipeline::new("once")
            .producer(from_iter([true, false]))
            .stage(
                stage_fn("s", async |panics: bool, _: &TaskContext<'_, ()>| {
                    assert!(!panics, "boom");
                    Err::<(), _>(Failure::permanent("never"))
                })
                .retry(Retry::constant(5, ms(1))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 2);
    assert_eq!(report.stages[0].counts.started, 2);
}

#[test]
fn g10_an_attempt_that_timed_out_is_retried() {
    still(async {
        let work = stage_fn("s", async |_: u32, task: &TaskContext<'_, ()>| {
            if task.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            Ok(task.attempt())
        })
        .timeout(ms(50))
        .retry(Retry::constant(1, ms(10)));
        let handle = Pipeline::new("overran")
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit(1).timeout(ms(500)).await.unwrap();
        assert_eq!(ticket.outcome().await.unwrap().output, Some(2));
        assert_eq!(since(began), 60);
    });
}

#[test]
fn g10_a_key_stays_until_an_undo_of_its_stage_ran() {
    let notes = Notes::default();
    let (ran, undid) = (notes.clone(), notes.clone());
    let report = still(
        Pipeline::new("keys")
            .producer(from_iter([1]))
            .stage(stage_fn("a", async |n: u32, _: &TaskContext<'_, ()>| Ok(n)))
            .stage(
                stage_fn("b", async move |n: u32, task: &TaskContext<'_, u32>| {
                    ran.note(task.key());
                    if task.attempt() >= 2 {
                        task.on_cancel(1).await?;
                    }
                    if task.attempt() == 4 {
                        return Ok(n);
                    }
                    Err(Failure::new("no"))
                })
                .cancel_with(async move |_: u32, cancel: &CancelContext<'_>| {
                    undid.note(format!("cancel of {}", cancel.key()));
                    Ok(())
                })
                .retry(Retry::constant(5, ms(10))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.done, 1);
    assert_eq!(
        notes.all(),
        [
            "keys/1/b/0",
            "keys/1/b/0",
            "cancel of keys/1/b/0",
            "keys/1/b/1",
            "cancel of keys/1/b/1",
            "keys/1/b/2"
        ]
    );
}

#[test]
fn g10_a_task_waiting_for_the_rate_limit_stops_at_its_deadline() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let ran = notes.clone();
        let work = stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| {
            ran.note(format!("{n} at {}", since(began)));
            Ok(n)
        })
        .rate_limit(RateLimit::new(1, ms(100)));
        let handle = Pipeline::new("rate")
            .stage(work.workers(4))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..5 {
            tickets.push(handle.submit(n).timeout(ms(250)).await.unwrap());
        }
        let mut done = 0;
        for ticket in &tickets {
            done += u32::from(ticket.outcome().await.unwrap().is_done());
        }
        assert_eq!(done, 3);
        assert!(since(began) <= 252);
    });
    assert_eq!(notes.all(), ["0 at 0", "1 at 100", "2 at 200"]);
}
