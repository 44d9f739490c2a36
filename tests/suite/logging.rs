//! The log has a line for each transition, and never the contents of a context.

use std::cell::RefCell;

use batrun::prelude::*;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::support::{ms, sleep, still};

thread_local! {
    /// The lines logged on this thread, if anybody listens: those of a pipeline on the current arbiter.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

thread_local! {
    /// On this thread the logger panics.
    static PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the payload was dropped");
        }
    }
}

struct Listener;

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("batrun") && HEARD.with(|heard| heard.borrow().is_some())
    }

    fn log(&self, record: &Record<'_>) {
        if PANICS.get() && record.target().starts_with("batrun") {
            // So does the drop of what it panics with.
            std::panic::panic_any(PanicsInDrop);
        }
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            HEARD.with(|heard| heard.borrow_mut().as_mut().unwrap().push(line));
        }
    }

    fn flush(&self) {}
}

/// The lines logged at debug level while `code` runs on this thread.
fn heard(code: impl FnOnce()) -> Vec<String> {
    log::set_logger(&Listener).ok();
    log::set_max_level(LevelFilter::Debug);
    HEARD.with(|heard| *heard.borrow_mut() = Some(Vec::new()));
    // Nobody else has set a logger first.
    assert!(log::log_enabled!(target: "batrun", Level::Debug));
    code();
    HEARD.with(|heard| heard.borrow_mut().take()).unwrap()
}

#[derive(Clone, Debug, PartialEq)]
struct Secret(&'static str);

fn stage(name: &str) -> impl Stage<Input = Secret, Output = Secret> + Clone + Send + use<> {
    stage_fn(
        name,
        async |secret: Secret, task: &TaskContext<'_, Secret>| {
            task.on_cancel(secret.clone()).await?;
            match secret.0 {
                "password fails" if task.stage() == "b" => Err(Failure::new("no")),
                "password panics" => panic!("boom"),
                "password hangs" => std::future::pending().await,
                _ => Ok(secret),
            }
        },
    )
    .cancel_with(async |_: Secret, _: &CancelContext<'_>| Ok(()))
}

#[test]
fn each_transition_is_logged_with_task_stage_and_attempt() {
    let lines = heard(|| {
        still(async {
            let handle = Pipeline::new("logged")
                .stage(stage("a"))
                .stage(stage("b").retry(Retry::constant(1, ms(1))))
                .current_arbiter()
                .start()
                .await
                .unwrap();
            for secret in ["password passes", "password fails", "password panics"] {
                let ticket = handle.submit(Secret(secret)).await.unwrap();
                ticket.outcome().await.unwrap();
            }
            let late = handle.submit(Secret("password hangs"));
            let late = late.timeout(ms(9)).label("ada\n");
            late.await.unwrap().outcome().await.unwrap();
            let cancelled = handle.submit(Secret("password hangs")).await.unwrap();
            sleep(1).await;
            cancelled.cancel();
            cancelled.outcome().await.unwrap();
            handle.shutdown(Shutdown::Abort).await.unwrap();
        });
    });
    let of = |task: u32| -> Vec<&str> {
        let beginning = format!("DEBUG task {task} ");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&beginning))
            .collect()
    };
    assert_eq!(
        of(1),
        [
            "accepted",
            "stage a attempt 1: started",
            "stage a attempt 1: undo 0 registered",
            "stage a: finished",
            "stage b attempt 1: started",
            "stage b attempt 1: undo 1 registered",
            "stage b: finished",
            "done"
        ]
    );
    assert_eq!(
        of(2)[4..],
        [
            "stage b attempt 1: started",
            "stage b attempt 1: undo 1 registered",
            "stage b attempt 1: failed, cleaning up: no",
            "stage b: undo 1 runs, attempt 1",
            "stage b: undo 1: done",
            "stage b attempt 2: started",
            "stage b attempt 2: undo 2 registered",
            "stage b attempt 2: failed: no",
            "stage a: undo 0 runs, attempt 1",
            "stage a: undo 0: done",
            "stage b: undo 2 runs, attempt 1",
            "stage b: undo 2: done",
            "failed in b: no; 2 undos taken back"
        ]
    );
    assert!(of(3).contains(&"stage a attempt 1: failed: panicked: boom"));
    assert!(of(4).contains(&"stage a attempt 1: timed out, Stopping(0)"));
    assert!(of(4).contains(&"stage a attempt 1: stopped"));
    assert!(of(5).contains(&"stage a attempt 1: cancelled, Stopping(0)"));
    assert!(of(5).contains(&"cancelled in a; 1 undo taken back"));
    // D8: with its label, and on one line.
    assert!(of(4).contains(&"\"ada\\n\" timed out in a; 1 undo taken back"));
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("password"))
        .collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn failures_that_a_person_has_to_see_are_warnings() {
    let lines = heard(|| {
        still(async {
            let built = std::sync::atomic::AtomicU32::new(0);
            let report = Pipeline::new("warned")
                .producer(from_iter([1]))
                .producer(|_: Intake<u32>| async { Err(Failure::new("no input")) })
                .stage(Work::with("late", move || {
                    let before = built.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert!(before > 0, "no database");
                    stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n))
                }))
                .current_arbiter()
                .run()
                .await
                .unwrap();
            assert_eq!(report.counts.done, 1);
        });
    });
    let mut warnings: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("WARN"))
        .collect();
    // Two actors said so, in no order.
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "WARN producer 2 ended: no input",
            "WARN stage late: a worker could not be built, 1 times in a row: panicked: no database",
        ]
    );
}

#[test]
fn g06_a_logger_that_panics_takes_nothing_along() {
    log::set_logger(&Listener).ok();
    log::set_max_level(LevelFilter::Debug);
    PANICS.set(true);
    let secrets = ["password", "password fails", "password panics"];
    let report = still(
        Pipeline::new("p")
            .producer(from_iter(secrets.into_iter().cycle().take(99).map(Secret)))
            .stage(stage("a").retry(Retry::constant(1, ms(1))))
            .stage(stage("b").workers(3))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    PANICS.set(false);
    assert_eq!((report.counts.done, report.counts.failed), (33, 66));
}
