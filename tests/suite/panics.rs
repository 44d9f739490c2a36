//! A panic costs the task it happened in, and nothing else.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use batrun::{error::FailureKind, policy::Restart, prelude::*, report::StageHealth};

use crate::support::{Do, Notes, act, acting, ms, sleep, still, summary};

/// A stage value that knows its number, in the order in which values were built.
struct Numbered {
    number: u32,
    notes: Notes,
}

impl Stage for Numbered {
    type Input = Do;
    type Output = Do;
    type Undo = Do;

    async fn run(&mut self, what: Do, task: &TaskContext<'_, Do>) -> Result<Do, Failure> {
        self.notes.note(format!("value {}: {what:?}", self.number));
        task.on_cancel(Do::Pass).await?;
        act(what).await
    }

    async fn cancel(&mut self, _: Do, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.notes.note(format!("value {} undoes", self.number));
        Ok(())
    }
}

fn numbered(notes: &Notes) -> Work<Numbered> {
    let notes = notes.clone();
    let built = AtomicU32::new(0);
    Work::with("numbered", move || Numbered {
        number: built.fetch_add(1, Ordering::SeqCst) + 1,
        notes: notes.clone(),
    })
}

#[test]
fn g06_a_panic_fails_one_task_and_a_fresh_value_goes_on() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("panics")
            .producer(from_iter([Do::Pass, Do::Panic, Do::Pass, Do::Pass]))
            .stage(numbered(&notes))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!((report.counts.done, report.counts.failed), (3, 1));
    assert_eq!(report.stages[0].counts.panicked, 1);
    // In order, each once; the panicked task's undo by the fresh value, before new work or after.
    assert_eq!(
        notes
            .all()
            .iter()
            .filter(|line| !line.ends_with("undoes"))
            .collect::<Vec<_>>(),
        [
            "value 1: Pass",
            "value 1: Panic",
            "value 2: Pass",
            "value 2: Pass"
        ]
    );
    assert_eq!(
        notes.all().iter().filter(|l| l.ends_with("undoes")).count(),
        1
    );
}

#[test]
fn g06_a_stage_value_is_rebuilt_after_an_abort_unless_kept() {
    for keep in [false, true] {
        let notes = Notes::default();
        still(async {
            let work = numbered(&notes);
            let work = if keep { work.keep_on_abort() } else { work };
            let handle = Pipeline::new("rebuilt")
                .stage(work)
                .current_arbiter()
                .start()
                .await
                .unwrap();
            let ticket = handle.submit(Do::Hang).timeout(ms(10)).await.unwrap();
            ticket.outcome().await.unwrap();
            let next = handle.submit(Do::Pass).await.unwrap();
            next.outcome().await.unwrap();
        });
        let second = if keep { 1 } else { 2 };
        assert_eq!(
            notes.all(),
            [
                "value 1: Hang".to_owned(),
                format!("value {second} undoes"),
                format!("value {second}: Pass"),
            ]
        );
    }
}

#[test]
fn g06_a_panic_in_an_undo_is_a_failed_undo() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let report = still(
        Pipeline::new("cancel panics")
            .producer(from_iter([1]))
            .stage(
                stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
                    task.on_cancel(1).await?;
                    task.on_cancel(2).await?;
                    Err::<u32, _>(Failure::new("no"))
                })
                .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
                    if undo == 1 && counted.fetch_add(1, Ordering::SeqCst) < 2 {
                        panic!("cancel boom");
                    }
                    Ok(())
                }),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in s: no; 2 undos taken back"
    );
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(report.stages[0].counts.cancel_failures, 2);
    assert_eq!(report.counts.in_flight(), 0);
}

#[test]
fn g06_a_panic_in_a_producer_ends_only_that_producer() {
    let report = still(
        Pipeline::new("producer panics")
            .producer(|tasks: Intake<Do>| async move {
                tasks.submit(Do::Take(50)).await?;
                panic!("producer boom")
            })
            .producer(|tasks: Intake<Do>| async move {
                for _ in 0..10 {
                    sleep(10).await;
                    tasks.submit(Do::Pass).await?;
                }
                Ok(())
            })
            .producer(|_: Intake<Do>| async move { Err(Failure::new("no more")) })
            .stage(acting("act"))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!((report.counts.done, report.counts.accepted), (11, 11));
    let mut errors: Vec<String> = report
        .producer_errors
        .iter()
        .map(|error| format!("{}: {}", error.producer, error.failure))
        .collect();
    errors.sort();
    assert_eq!(
        errors,
        ["producer 1: panicked: producer boom", "producer 3: no more"]
    );
}

#[test]
fn g06_a_factory_that_panics_is_retried_with_backoff() {
    still(async {
        let built = AtomicU32::new(0);
        let work = Work::with("factory", move || {
            assert!(built.fetch_add(1, Ordering::SeqCst) >= 3, "not yet");
            acting("inner")
        })
        .restart(Restart::exponential(ms(10), ms(1000)));
        let handle = Pipeline::new("factory")
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = tokio::time::Instant::now();
        let ticket = handle.submit(Do::Pass).await.unwrap();
        sleep(1).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!(stage.workers, 0);
        let StageHealth::Failing { failures: 1, error } = &stage.health else {
            panic!("{stage:?}");
        };
        assert!(error.contains("not yet"), "{error}");
        assert!(ticket.outcome().await.unwrap().is_done());
        // 10, 20 and 40 ms, each with up to as much again by chance.
        let waited = began.elapsed();
        assert!(waited >= ms(70) && waited <= ms(145), "{waited:?}");
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.workers, &stage.health), (1, &StageHealth::Up));
    });
}

#[test]
fn g06_a_factory_that_keeps_failing_takes_its_stage_down_until_it_works() {
    still(async {
        let broken = Arc::new(AtomicU32::new(1));
        let switch = broken.clone();
        let work = Work::try_with("down", move || match switch.load(Ordering::SeqCst) {
            0 => Ok(acting("inner")),
            _ => Err(Failure::new("no database")),
        })
        .restart(Restart::exponential(ms(1), ms(10)));
        let handle = Pipeline::new("down")
            .stage(
                stage_fn("first", async |what: Do, task: &TaskContext<'_, u32>| {
                    task.on_cancel(1).await?;
                    Ok(what)
                })
                .cancel_with(async |_: u32, _: &CancelContext<'_>| Ok(())),
            )
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let queued = handle.submit(Do::Pass).await.unwrap();
        let outcome = queued.outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "failed in down: stage down is down, no worker of it can be started: no database; 1 undo taken back"
        );
        let health = handle.snapshot().stages[1].health.clone();
        assert!(matches!(health, StageHealth::Down { failures: 10.., .. }));
        let outcome = handle.submit(Do::Pass).await.unwrap().outcome().await;
        let batrun::state::End::Failed { failure, .. } = outcome.unwrap().end else {
            panic!()
        };
        assert_eq!(failure.kind(), FailureKind::StageDown);
        broken.store(0, Ordering::SeqCst);
        sleep(50).await;
        assert_eq!(handle.snapshot().stages[1].health, StageHealth::Up);
        let outcome = handle.submit(Do::Pass).await.unwrap().outcome().await;
        assert!(outcome.unwrap().is_done());
    });
}

struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("drop boom");
    }
}

#[test]
fn g06_a_context_that_panics_when_dropped_harms_no_other_task() {
    still(async {
        let handle = Pipeline::new("bombs")
            .stage(stage_fn(
                "hold",
                async |bomb: Option<Bomb>, _: &TaskContext<'_, ()>| {
                    sleep(20).await;
                    Ok(bomb)
                },
            ))
            .stage(stage_fn(
                "end",
                async |bomb: Option<Bomb>, _: &TaskContext<'_, ()>| Ok(bomb),
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // Within the call, in the queue, and as the output that nobody takes.
        let running = handle.submit(Some(Bomb)).timeout(ms(10)).await.unwrap();
        let queued = handle.submit(Some(Bomb)).timeout(ms(5)).await.unwrap();
        let unharmed = handle.submit(None).await.unwrap();
        assert_eq!(
            summary(&running.outcome().await.unwrap()),
            "timed out in hold; nothing to take back"
        );
        assert_eq!(
            summary(&queued.outcome().await.unwrap()),
            "timed out in hold; nothing to take back"
        );
        assert!(unharmed.outcome().await.unwrap().is_done());
        let intake = handle.intake();
        let output = intake.submit(Some(Bomb)).await.unwrap();
        assert!(output.outcome().await.unwrap().is_done());
        let after = handle.submit(None).await.unwrap();
        assert!(after.outcome().await.unwrap().is_done());
        let counts = handle.shutdown(Shutdown::Abort).await.unwrap().counts;
        assert_eq!((counts.accepted, counts.in_flight()), (5, 0));
    });
}

#[derive(Clone)]
struct Unprintable;
impl fmt::Debug for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("debug boom")
    }
}

#[test]
fn g06_an_undo_that_panics_when_printed_is_still_listed() {
    still(async {
        let handle = Pipeline::new("unprintable")
            .stage(
                stage_fn("s", async |n: u32, task: &TaskContext<'_, Unprintable>| {
                    if n == 0 {
                        task.on_cancel(Unprintable).await?;
                        return Err(Failure::new("no"));
                    }
                    Ok(n)
                })
                .cancel_with(async |_: Unprintable, _: &CancelContext<'_>| {
                    Err(Failure::permanent("can't"))
                }),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let stuck = handle.submit(0).await.unwrap().outcome().await.unwrap();
        assert_eq!(
            stuck.rollback.to_string(),
            "stuck: s: (printing it panicked) (can't)"
        );
        assert_eq!(handle.stuck().len(), 1);
        let next = handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert!(next.is_done());
    });
}

#[test]
fn g06_a_stage_value_that_panics_when_dropped_is_replaced() {
    struct Fragile(Bomb);
    impl Stage for Fragile {
        type Input = Do;
        type Output = Do;
        type Undo = ();

        async fn run(&mut self, what: Do, _: &TaskContext<'_, ()>) -> Result<Do, Failure> {
            let Fragile(_) = self;
            act(what).await
        }
    }
    let report = still(
        Pipeline::new("fragile")
            .producer(from_iter([Do::Panic, Do::Pass]))
            .stage(Work::with("fragile", || Fragile(Bomb)))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!((report.counts.done, report.counts.failed), (1, 1));
}
