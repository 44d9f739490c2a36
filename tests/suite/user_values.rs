//! Values of the user's that misbehave wherever batrun drops, prints or walks them. Named after the
//! faults that were found: `f01` and so on.

use std::{
    error::Error as StdError,
    fmt,
    panic::panic_any,
    sync::{Arc, Mutex},
};

use batrun::{PipelineHandle, policy::OnStuck, prelude::*};
use futures::StreamExt;

use crate::support::{DRAIN, ErrorWithDrop, ms, sleep, still};

/// An error whose drop panics.
fn explosive() -> Failure {
    Failure::new(ErrorWithDrop(|| {
        if !std::thread::panicking() {
            panic!("an error was dropped");
        }
    }))
}

#[test]
fn g06_f01_an_error_that_panics_when_dropped_fails_its_attempt_and_nothing_else() {
    let report = still(
        Pipeline::new("explosive")
            .producer(from_iter(0..200))
            .stage(
                stage_fn("first", async |n: u32, task: &TaskContext<()>| {
                    match task.attempt() {
                        1 => Err(explosive()),
                        _ => Ok(n),
                    }
                })
                .retry(Retry::constant(1, ms(1))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!((report.counts.accepted, report.counts.done), (200, 200));
    assert_eq!(report.stages[0].counts.retried, 200);
}

#[test]
fn g06_f01_an_error_of_an_undo_that_panics_when_dropped_is_a_failed_undo() {
    let report = still(
        Pipeline::new("explosive")
            .producer(from_iter(0..200))
            .stage(
                stage_fn("first", async |n: u32, task: &TaskContext<u32>| {
                    task.on_cancel(n).await?;
                    match n % 2 {
                        0 => Err(explosive()),
                        _ => Ok(n),
                    }
                })
                .cancel_with(async |_: u32, _: &CancelContext| Err(explosive()))
                .cancel_retry(Retry::constant(2, ms(1)))
                .on_stuck(OnStuck::Continue),
            )
            .max_stuck(1_000)
            .current_arbiter()
            .run(),
    )
    .unwrap();
    // More failures than the report keeps: the oldest are dropped.
    assert_eq!((report.counts.done, report.counts.failed), (100, 100));
    assert_eq!(report.stuck.len(), 100);
}

/// An error whose `Display` panics with a payload whose drop panics.
#[derive(Debug)]
struct Unprintable;

struct ExplosivePayload;

impl Drop for ExplosivePayload {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a payload was dropped");
        }
    }
}

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic_any(ExplosivePayload)
    }
}

impl StdError for Unprintable {}

#[test]
fn g06_f02_an_error_that_panics_when_printed_fails_its_task_and_no_other() {
    let report = still(
        Pipeline::new("unprintable")
            .producer(from_iter(0..10))
            .stage(stage_fn(
                "first",
                async |n: u32, _: &TaskContext<()>| match n {
                    3 => Err(Failure::permanent(Unprintable)),
                    n => Ok(n),
                },
            ))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!((report.counts.done, report.counts.failed), (9, 1));
    assert!(report.to_string().contains("printing it panicked"));
}

/// An error that is its own source.
#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("once more")
    }
}

impl StdError for Endless {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

#[test]
fn g06_f04_an_error_that_is_its_own_source_is_printed_in_part() {
    let report = still(
        Pipeline::new("endless")
            .producer(from_iter([1]))
            .stage(
                stage_fn("first", async |n: u32, task: &TaskContext<u32>| {
                    task.on_cancel(n).await?;
                    Err::<u32, _>(Failure::permanent(Endless))
                })
                .cancel_with(async |_: u32, _: &CancelContext| Err(Failure::permanent(Endless))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    let text = report.to_string();
    assert!(text.contains("once more: once more"), "{text}");
    assert!(text.len() < 4_000, "{} bytes", text.len());
    assert_eq!(report.stuck.len(), 1);
}

#[test]
fn g06_f03_an_error_that_listens_in_its_drop_meets_no_lock() {
    still(async {
        let place: Arc<Mutex<Option<PipelineHandle<u32, u32>>>> = Arc::default();
        let to_handle = place.clone();
        let handle = Pipeline::new("listening")
            .stage(stage_fn("s", async move |_: u32, _: &TaskContext<()>| {
                let handle = to_handle.lock().unwrap().clone();
                // Its drop listens, and stops to listen to what is in the channel then.
                let streams = Mutex::new(Vec::new());
                Err::<u32, _>(Failure::new(ErrorWithDrop(move || {
                    if let Some(handle) = &handle {
                        streams.lock().unwrap().push(Box::pin(handle.outcomes()));
                    }
                })))
            }))
            .max_in_flight(5_000)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        *place.lock().unwrap() = Some(handle.clone());
        // It lags behind by more than the channel holds.
        let mut lagging = Box::pin(handle.outcomes());
        for n in 0..2_500 {
            handle.submit(n).await.unwrap();
        }
        sleep(1_000).await;
        assert_eq!(handle.snapshot().counts.failed, 2_500);
        let missed = lagging.next().await.unwrap().unwrap_err().0;
        // The channel holds 1,024.
        assert_eq!(missed, 2_500 - 1_024);
        let mut read = 0;
        while read < 1_024 {
            assert!(!lagging.next().await.unwrap().unwrap().is_done());
            read += 1;
        }
        drop(lagging);
        *place.lock().unwrap() = None;
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert_eq!(report.counts.failed, 2_500);
    });
}

/// An error whose text has a terminal's commands and a forged line in it.
#[test]
fn f11_a_failures_text_stays_on_its_line() {
    let forged = "no\u{1b}[2J\n12:00 INFO all is well\r";
    let report = still(
        Pipeline::new("forging")
            .producer(move |_: Intake<u32>| async move { Err(Failure::new(forged)) })
            .producer(from_iter(0..1))
            .stage(
                stage_fn("s", async move |n: u32, task: &TaskContext<String>| {
                    task.on_cancel(forged.to_owned()).await?;
                    Err::<u32, _>(Failure::new(format!("{forged}{n}")))
                })
                .cancel_with(async move |_: String, _: &CancelContext| {
                    Err(Failure::permanent(forged))
                }),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    let shown = report.to_string();
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\r'),
        "{shown}"
    );
    assert!(!shown.contains("\n12:00"), "{shown}");
    let times = shown
        .matches(r"no\u{1b}[2J\n12:00 INFO all is well\r")
        .count();
    // The producer's, the task's, and what is stuck.
    assert!(times >= 3, "{shown}");
}
