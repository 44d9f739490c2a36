//! Each step waits until the change before it is recorded, and a failed record stops everything.

use batrun::{
    Error, SubmitError,
    ledger::{Change, Ledger, LedgerError, Recorded, Transition},
    prelude::*,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{DRAIN, Notes, ms, sleep, still, summary};

/// A ledger that notes `-> change` when it is told, and `<- change` once it has recorded it.
#[derive(Clone)]
struct Memory {
    notes: Notes,
    delay: u64,
    /// Records from this one on fail.
    fails_from: usize,
    count: Arc<AtomicUsize>,
}

impl Memory {
    fn new(notes: &Notes, delay: u64) -> Self {
        Memory {
            notes: notes.clone(),
            delay,
            fails_from: usize::MAX,
            count: Arc::default(),
        }
    }

    fn failing(notes: &Notes, delay: u64, from: usize) -> Self {
        Memory {
            fails_from: from,
            ..Memory::new(notes, delay)
        }
    }
}

fn named(change: &Change<'_>) -> String {
    match change {
        Change::Accepted {
            context, deadline, ..
        } => format!(
            "accepted {:?} {deadline:?}",
            context.downcast_ref::<u32>().unwrap()
        ),
        Change::Started { stage, attempt, .. } => format!("started {stage}.{attempt}"),
        Change::UndoRegistered { undo, value, .. } => {
            format!("undo {undo} {:?}", value.downcast_ref::<String>().unwrap())
        }
        Change::UndoWithdrawn { undo } => format!("withdrawn {undo}"),
        Change::Finished { stage, output } => {
            format!("finished {stage} {}", output.downcast_ref::<u32>().unwrap())
        }
        Change::AttemptFailed { stage, attempt, .. } => format!("attempt failed {stage}.{attempt}"),
        Change::Failed { stage, failure } => format!("failed {stage} {failure}"),
        Change::TimedOut { stage } => format!("timed out {stage}"),
        Change::Cancelled { stage, cause } => format!("cancelled {stage} {cause:?}"),
        Change::CancelStarted { undo, attempt } => format!("cancel started {undo}.{attempt}"),
        Change::CancelEnded { undo, failure } => {
            format!("cancel ended {undo} {}", failure.is_none())
        }
        Change::Ended { end, rollback } => format!("ended {end}; {rollback}"),
        other => panic!("{other:?}"),
    }
}

impl Ledger for Memory {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        let what = named(&transition.change);
        self.notes.note(format!("-> {what}"));
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let failed = number >= self.fails_from;
        if self.delay == 0 {
            return match failed {
                true => Recorded::failed(LedgerError::new("disk full")),
                false => Recorded::now(),
            };
        }
        let (notes, delay) = (self.notes.clone(), self.delay);
        Recorded::later(async move {
            sleep(delay).await;
            if failed {
                return Err(LedgerError::new("disk full"));
            }
            notes.note(format!("<- {what}"));
            Ok(())
        })
    }
}

/// Runs, registers an undo, has its effect; fails where `fails` says so of the attempt.
fn stage(
    name: &'static str,
    notes: &Notes,
    fails: fn(u32) -> bool,
) -> impl Stage<Input = u32, Output = u32, Undo = String> + Clone + Send + use<> {
    let (ran, undid) = (notes.clone(), notes.clone());
    stage_fn(name, async move |n: u32, task: &TaskContext<'_, String>| {
        ran.note(format!("{name} runs"));
        task.on_cancel(name.to_owned()).await?;
        ran.note(format!("{name} effect"));
        if fails(task.attempt()) {
            return Err(Failure::new("no"));
        }
        Ok(n + 1)
    })
    .cancel_with(async move |undo: String, _: &CancelContext<'_>| {
        undid.note(format!("{undo} undone"));
        Ok(())
    })
}

/// The lines in order, each change recorded before the next line.
fn in_step(notes: &Notes, lines: &[&str]) {
    let mut expected = Vec::new();
    for line in lines {
        match line.strip_prefix("* ") {
            Some(change) => expected.extend([format!("-> {change}"), format!("<- {change}")]),
            None => expected.push((*line).to_owned()),
        }
    }
    assert_eq!(notes.all(), expected);
}

#[test]
fn g01_each_step_of_a_done_task_waits_for_its_record() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("done")
            .ledger(Memory::new(&notes, 5))
            .stage(stage("a", &notes, |_| false))
            .stage(stage("b", &notes, |_| false))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(1000)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!((outcome.is_done(), outcome.output), (true, Some(3)));
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    in_step(
        &notes,
        &[
            "* accepted 1 Some(1s)",
            "* started 0.1",
            "a runs",
            "* undo 0 \"a\"",
            "a effect",
            "* finished 0 2",
            "* started 1.1",
            "b runs",
            "* undo 1 \"b\"",
            "b effect",
            "* finished 1 3",
            "* ended done; nothing to take back",
        ],
    );
}

#[test]
fn g03_each_step_of_a_failed_task_waits_for_its_record() {
    let notes = Notes::default();
    still(
        Pipeline::new("failed")
            .ledger(Memory::new(&notes, 5))
            .producer(from_iter([1]))
            .stage(stage("a", &notes, |_| false))
            .stage(stage("b", &notes, |_| true))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    in_step(
        &notes,
        &[
            "* accepted 1 None",
            "* started 0.1",
            "a runs",
            "* undo 0 \"a\"",
            "a effect",
            "* finished 0 2",
            "* started 1.1",
            "b runs",
            "* undo 1 \"b\"",
            "b effect",
            "* failed 1 no",
            "* cancel started 0.1",
            "a undone",
            "* cancel ended 0 true",
            "* cancel started 1.1",
            "b undone",
            "* cancel ended 1 true",
            "* ended failed in b: no; 2 undos taken back",
        ],
    );
}

#[test]
fn g10_each_step_of_a_retried_task_waits_for_its_record() {
    let notes = Notes::default();
    still(
        Pipeline::new("retried")
            .ledger(Memory::new(&notes, 5))
            .producer(from_iter([1]))
            .stage(stage("a", &notes, |attempt| attempt == 1).retry(Retry::constant(1, ms(1))))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    in_step(
        &notes,
        &[
            "* accepted 1 None",
            "* started 0.1",
            "a runs",
            "* undo 0 \"a\"",
            "a effect",
            "* attempt failed 0.1",
            "* cancel started 0.1",
            "a undone",
            "* cancel ended 0 true",
            "* started 0.2",
            "a runs",
            "* undo 1 \"a\"",
            "a effect",
            "* finished 0 2",
            "* ended done; nothing to take back",
        ],
    );
}

#[test]
fn g10_a_retry_without_undos_waits_for_its_record() {
    let notes = Notes::default();
    let ran = notes.clone();
    still(
        Pipeline::new("retried plainly")
            .ledger(Memory::new(&notes, 50))
            .producer(from_iter([1]))
            .stage(
                stage_fn("a", async move |n: u32, task: &TaskContext<'_, ()>| {
                    ran.note("runs");
                    match task.attempt() {
                        1 => Err(Failure::new("no")),
                        _ => Ok(n),
                    }
                })
                .retry(Retry::constant(1, ms(1))),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    in_step(
        &notes,
        &[
            "* accepted 1 None",
            "* started 0.1",
            "runs",
            "* attempt failed 0.1",
            "* started 0.2",
            "runs",
            "* finished 0 1",
            "* ended done; nothing to take back",
        ],
    );
}

#[test]
fn g04_an_undo_whose_record_was_not_awaited_still_runs() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("cancelled")
            .ledger(Memory::new(&notes, 20))
            .stage(stage("a", &notes, |_| false))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        // Accepted at 20, started at 40, and now in the middle of `on_cancel`.
        sleep(30).await;
        assert!(ticket.cancel());
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "cancelled in a; 1 undo taken back");
    });
    let all = notes.all();
    assert!(!notes.has("a effect"), "{all:?}");
    assert!(notes.has("a undone"), "{all:?}");
    let at = |line: &str| all.iter().position(|l| l == line);
    assert!(at("-> undo 0 \"a\"") < at("-> cancelled 0 User"), "{all:?}");
    assert!(at("<- cancel started 0.1") < at("a undone"), "{all:?}");
}

#[test]
fn g05_a_withdrawal_is_recorded() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("withdrawn")
            .ledger(Memory::new(&notes, 5))
            .producer(from_iter([1]))
            .stage(stage_fn(
                "a",
                async |_: u32, task: &TaskContext<'_, String>| {
                    task.on_cancel("x".to_owned()).await?.withdraw().await?;
                    Err::<u32, _>(Failure::new("no"))
                },
            ))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    in_step(
        &notes,
        &[
            "* accepted 1 None",
            "* started 0.1",
            "* undo 0 \"x\"",
            "* withdrawn 0",
            "* failed 0 no",
            "* ended failed in a: no; nothing to take back",
        ],
    );
    assert_eq!(report.counts.failed, 1);
}

#[test]
fn g01_a_failed_record_suspends_the_pipeline_at_any_step() {
    // A task that fails in the second stage makes twelve records: each of them in turn fails.
    for delay in [0, 5] {
        for fails in 1..12 {
            let notes = Notes::default();
            still(async {
                let handle = Pipeline::new("suspended")
                    .ledger(Memory::failing(&notes, delay, fails))
                    .stage(stage("a", &notes, |_| false))
                    .stage(stage("b", &notes, |_| true))
                    .current_arbiter()
                    .start()
                    .await
                    .unwrap();
                let ticket = handle.submit(1).await.unwrap();
                let answer = ticket.outcome().await;
                let Err(Error::Suspended(why)) = answer else {
                    panic!("record {fails}: {answer:?}");
                };
                assert_eq!(&*why, "disk full");
                let Err(SubmitError::Suspended(7)) = handle.submit(7).await else {
                    panic!("record {fails}: accepted");
                };
                let counts = handle.snapshot().counts;
                assert_eq!((counts.accepted, counts.suspended), (1, 1));
                let report = handle.ended().await.unwrap();
                assert_eq!(report.suspended.as_deref(), Some("disk full"));
                assert_eq!(report.counts.in_flight(), 0);
                assert_eq!(report.counts.suspended, 1);
                assert!(report.to_string().contains("suspended: disk full"));
            });
            let all = notes.all();
            // Nothing that follows from the failed record happened, and no undo ran after it.
            let records = all.iter().filter(|line| line.starts_with("->")).count();
            assert_eq!(records, fails + 1, "record {fails}: {all:?}");
            let told = all.iter().rposition(|line| line.starts_with("->"));
            assert_eq!(told, Some(all.len() - 1), "record {fails}: {all:?}");
        }
    }
}

#[test]
fn g01_submit_returns_the_context_if_its_acceptance_is_not_recorded() {
    for delay in [0, 5] {
        still(async {
            let notes = Notes::default();
            let handle = Pipeline::new("refused")
                .ledger(Memory::failing(&notes, delay, 0))
                .stage(stage("a", &notes, |_| false))
                .current_arbiter()
                .start()
                .await
                .unwrap();
            assert!(matches!(
                handle.submit(1).await,
                Err(SubmitError::Suspended(1))
            ));
            let counts = handle.ended().await.unwrap().counts;
            assert_eq!((counts.accepted, counts.suspended), (0, 0));
        });
    }
}

#[test]
fn g01_other_tasks_are_suspended_where_they_are() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("others")
            .ledger(Memory::failing(&notes, 0, 8))
            .stage(stage_fn(
                "a",
                async |n: u32, _: &TaskContext<'_, String>| {
                    if n > 0 {
                        std::future::pending::<()>().await;
                    }
                    Ok(n)
                },
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // Accepted, started, finished, ended; then accepted and started; accepted; failed.
        handle.submit(0).await.unwrap().outcome().await.unwrap();
        let running = handle.submit(1).await.unwrap();
        sleep(1).await;
        let queued = handle.submit(2).await.unwrap();
        sleep(1).await;
        let fourth = handle.submit(3).await.unwrap();
        assert!(matches!(
            handle.submit(4).await,
            Err(SubmitError::Suspended(4))
        ));
        for ticket in [running, queued, fourth] {
            assert!(matches!(ticket.outcome().await, Err(Error::Suspended(_))));
        }
        let counts = handle.ended().await.unwrap().counts;
        assert_eq!((counts.accepted, counts.done, counts.suspended), (4, 1, 3));
    });
}

#[test]
fn g01_a_dropped_submit_leaves_no_task_in_flight() {
    use futures::FutureExt;
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("dropped")
            .ledger(Memory::new(&notes, 5))
            .stage(stage("a", &notes, |_| false).capacity(1))
            .max_in_flight(1)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for _ in 0..3 {
            assert!(handle.submit(1).now_or_never().is_none());
            sleep(100).await;
        }
        let ticket = handle.submit(2).await.unwrap();
        assert!(ticket.outcome().await.unwrap().is_done());
        assert_eq!(handle.snapshot().in_flight, 0);
    });
    assert_eq!(notes.of("a runs").len(), 1);
}

#[test]
fn a_stop_signal_is_set_when_the_pipeline_suspends() {
    let notes = Notes::default();
    let kept = std::sync::Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    still(async {
        let handle = Pipeline::new("suspended")
            .ledger(Memory::failing(&notes, 0, 2))
            .stage(
                stage_fn("hangs", async move |n: u32, task: &TaskContext<'_, ()>| {
                    *keep.lock().unwrap() = Some(task.signal());
                    task.shield(sleep(60_000)).await;
                    Ok(n)
                })
                .workers(2),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(1).await.unwrap();
        sleep(20).await;
        let signal = kept.lock().unwrap().clone().unwrap();
        assert!(!signal.is_stopping());
        assert!(handle.submit(2).await.is_err());
        sleep(50).await;
        assert!(signal.is_stopping());
    });
}

/// Records acceptances with this future, and everything else at once.
struct Acceptance<F>(fn() -> F);

impl<F> Ledger for Acceptance<F>
where
    F: Future<Output = Result<(), LedgerError>> + Send + 'static,
{
    fn record(&self, transition: Transition<'_>) -> Recorded {
        match transition.change {
            Change::Accepted { .. } => Recorded::later((self.0)()),
            _ => Recorded::now(),
        }
    }
}

#[test]
fn g01_a_record_that_panics_leaves_no_task_in_flight() {
    let report = still(
        Pipeline::new("panics")
            .ledger(Acceptance(|| async { panic!("no record") }))
            .producer(|tasks: Intake<u32>| async move {
                tasks.submit(1).await?;
                Ok(())
            })
            .stage(stage("a", &Notes::default(), |_| false))
            .max_in_flight(1)
            .current_arbiter()
            .run(),
    )
    .unwrap();
    // As every record that fails.
    assert!(
        report.suspended.as_ref().unwrap().contains("no record"),
        "{report}"
    );
    assert_eq!(report.counts.in_flight(), 0);
    let errors = &report.producer_errors;
    assert!(
        errors.len() == 1 && errors[0].failure.to_string().contains("suspended"),
        "{report}"
    );
}

/// A context whose drop panics.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

#[test]
fn g01_a_context_that_panics_when_its_submit_is_dropped_leaves_no_task_in_flight() {
    use futures::FutureExt;
    still(async {
        let handle = Pipeline::new("dropped")
            .ledger(Acceptance(std::future::pending))
            .stage(stage_fn(
                "a",
                async |_: Explosive, _: &TaskContext<()>| -> Result<(), Failure> { Ok(()) },
            ))
            .max_in_flight(1)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let dropped = std::panic::AssertUnwindSafe(|| {
            assert!(handle.submit(Explosive).now_or_never().is_none());
        });
        std::panic::catch_unwind(dropped).ok();
        sleep(100).await;
        // Before the shutdown, which would end the task when its grace is over.
        assert_eq!(handle.snapshot().in_flight, 0);
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert_eq!((report.counts.accepted, report.counts.cancelled), (1, 1));
    });
}

/// A ledger that panics at its `at`th call, at once or in its future.
struct Panicking {
    at: usize,
    in_future: bool,
    calls: AtomicUsize,
}

impl Panicking {
    fn new(at: usize, in_future: bool) -> Self {
        Panicking {
            at,
            in_future,
            calls: AtomicUsize::new(0),
        }
    }
}

impl Ledger for Panicking {
    fn record(&self, _: Transition<'_>) -> Recorded {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match (call == self.at, self.in_future) {
            (true, false) => panic!("the disk is on fire"),
            (true, true) => Recorded::later(async {
                sleep(1).await;
                panic!("the disk is on fire")
            }),
            (false, false) => Recorded::now(),
            (false, true) => Recorded::later(async {
                sleep(1).await;
                Ok(())
            }),
        }
    }

    fn outcome_of(&self, key: &str) -> batrun::ledger::KeptOutcome {
        match key {
            "at once" => panic!("the disk is on fire"),
            _ => Box::pin(async { panic!("the disk is on fire") }),
        }
    }

    fn close(&self) {
        panic!("the disk is on fire");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the disk is on fire");
        }
    }
}

#[test]
fn g06_f05_a_ledger_that_panics_suspends_its_pipeline() {
    // One task of two stages, an undo each, the last stage fails: more than ten records.
    for in_future in [false, true] {
        for at in 0..10 {
            still(async move {
                let notes = Notes::default();
                let handle = Pipeline::new("burning")
                    .ledger(Panicking::new(at, in_future))
                    .stage(stage("a", &notes, |_| false))
                    .stage(stage("b", &notes, |_| true))
                    .current_arbiter()
                    .start()
                    .await
                    .unwrap();
                let burning =
                    |text: String| assert!(text.contains("the disk is on fire"), "{text}");
                match handle.submit(1).await {
                    Err(SubmitError::Suspended(1)) => assert_eq!(at, 0),
                    Err(other) => panic!("{at}: {other:?}"),
                    Ok(ticket) => match ticket.outcome().await {
                        Err(Error::Suspended(why)) => burning(why.to_string()),
                        other => panic!("{at}: {other:?}"),
                    },
                }
                let report = handle.shutdown(DRAIN).await.unwrap();
                burning(report.suspended.unwrap().to_string());
                assert_eq!(report.counts.in_flight(), 0);
            });
        }
    }
}

#[test]
fn g06_f05_a_ledger_that_panics_when_it_is_asked_or_closed_says_so() {
    still(async {
        let notes = Notes::default();
        let handle = Pipeline::new("burning")
            .ledger(Panicking::new(usize::MAX, false))
            .stage(stage("a", &notes, |_| false))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for key in ["at once", "later"] {
            match handle.outcome_of(key).await {
                Err(Error::Suspended(why)) => {
                    assert!(why.contains("the disk is on fire"), "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(
            handle
                .submit(1)
                .await
                .unwrap()
                .outcome()
                .await
                .unwrap()
                .is_done()
        );
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert_eq!((report.counts.done, report.suspended), (1, None));
    });
}
