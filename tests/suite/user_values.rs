//! Values of the user's that misbehave wherever batrun drops, prints or walks them. Named after the
//! faults that were found: `f01` and so on.

use std::{error::Error as StdError, fmt, panic::panic_any};

use batrun::{policy::OnStuck, prelude::*};

use crate::support::{ErrorWithDrop, ms, still};

/// An error whose drop panics.
fn explosive() -> Failure {
    Failure::new(ErrorWithDrop(|| {
        if !std::thread::panicking() {
            panic!("an error was dropped");
        }
    }))
}

#[test]
fn f01_an_error_that_panics_when_dropped_fails_its_attempt_and_nothing_else() {
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
fn f01_an_error_of_an_undo_that_panics_when_dropped_is_a_failed_undo() {
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
fn f02_an_error_that_panics_when_printed_fails_its_task_and_no_other() {
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
fn f04_an_error_that_is_its_own_source_is_printed_in_part() {
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
