//! What counts as an undo: from its registration on, whatever becomes of the attempt.

use std::{future::Future, pin::pin, task::Poll};

use batrun::{Rollback, StageIx, UndoError, prelude::*};

use crate::kit::{Do, Journal, act, ms, noted, sleep, still, told};

#[test]
fn g04_the_undos_of_a_stage_that_failed_panicked_or_was_stopped_run_too() {
    let journal = Journal::default();
    still(async {
        let first = noted(
            "first",
            &journal,
            async |what: Do, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("first {what:?}")).await?;
                Ok(what)
            },
        );
        let second = noted(
            "second",
            &journal,
            async |what: Do, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("second {what:?}")).await?;
                act(what).await
            },
        );
        let handle = Pipeline::new("failing too")
            .stage(first)
            .stage(second)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let failed = handle.submit(Do::Fail).await.unwrap().outcome().await;
        assert_eq!(
            told(&failed.unwrap()),
            "failed in second: no; 2 undos taken back"
        );
        let panicked = handle.submit(Do::Panic).await.unwrap().outcome().await;
        assert_eq!(
            told(&panicked.unwrap()),
            "failed in second: panicked: boom; 2 undos taken back"
        );
        let late = handle.submit(Do::Hang).timeout(ms(10)).await.unwrap();
        assert_eq!(
            told(&late.outcome().await.unwrap()),
            "timed out in second; 2 undos taken back"
        );
        let cancelled = handle.submit(Do::Take(50)).await.unwrap();
        sleep(1).await;
        assert!(cancelled.cancel());
        assert_eq!(
            told(&cancelled.outcome().await.unwrap()),
            "cancelled in second; 2 undos taken back"
        );
        let done = handle.submit(Do::Pass).await.unwrap().outcome().await;
        assert_eq!(told(&done.unwrap()), "done; nothing to take back");
    });
    let undone: Vec<String> = ["Fail", "Panic", "Hang", "Take(50)"]
        .iter()
        .flat_map(|what| [format!("first {what}"), format!("second {what}")])
        .collect();
    assert_eq!(journal.of("undid "), undone);
}

#[test]
fn g04_the_undos_of_an_attempt_that_timed_out_run() {
    let journal = Journal::default();
    let report = still(
        Pipeline::new("overran")
            .producer(from_iter([Do::Hang]))
            .stage(
                noted(
                    "slow",
                    &journal,
                    async |what: Do, task: &TaskContext<'_, String>| {
                        task.on_cancel("it".to_owned()).await?;
                        act(what).await
                    },
                )
                .timeout(ms(10)),
            )
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(
        told(&report.last_failures[0]),
        "failed in slow: the attempt took longer than 10ms; 1 undo taken back"
    );
    assert_eq!(journal.of("undid "), ["it"]);
}

#[test]
fn g04_an_undo_counts_from_the_first_poll_even_if_dropped() {
    let journal = Journal::default();
    still(
        Pipeline::new("polled")
            .producer(from_iter([1]))
            .stage(noted(
                "drops",
                &journal,
                async |_: u32, task: &TaskContext<'_, String>| -> Result<u32, Failure> {
                    let never = task.on_cancel("never polled".to_owned());
                    let later = task.on_cancel("second".to_owned());
                    {
                        let mut first = pin!(task.on_cancel("first".to_owned()));
                        std::future::poll_fn(|cx| {
                            let _ = first.as_mut().poll(cx);
                            Poll::Ready(())
                        })
                        .await;
                    }
                    later.await?;
                    drop(never);
                    Err(Failure::new("no"))
                },
            ))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(journal.of("undid "), ["first", "second"]);
}

#[test]
fn g04_a_withdrawn_undo_does_not_run() {
    let journal = Journal::default();
    let report = still(
        Pipeline::new("withdrawn")
            .producer(from_iter([1]))
            .stage(noted(
                "someone else's",
                &journal,
                async |_: u32, task: &TaskContext<'_, String>| -> Result<u32, Failure> {
                    task.on_cancel("mine".to_owned()).await?;
                    let theirs = task.on_cancel("theirs".to_owned()).await?;
                    task.on_cancel("mine too".to_owned()).await?;
                    theirs.withdraw().await?;
                    Err(Failure::permanent("it exists"))
                },
            ))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(journal.of("undid "), ["mine", "mine too"]);
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 2 }
    );
}

#[test]
fn g07_a_task_registers_at_most_max_undos() {
    let journal = Journal::default();
    let noting = journal.clone();
    let report = still(
        Pipeline::new("limited")
            .max_undos(3)
            .producer(from_iter([1]))
            .stage(noted(
                "greedy",
                &journal,
                async move |n: u32, task: &TaskContext<'_, String>| {
                    for undo in 0..9 {
                        let registered = task.on_cancel(undo.to_string()).await;
                        if let Err(UndoError::TooMany { limit, .. }) = registered {
                            noting.note(format!("refused {undo}, limit {limit}"));
                        }
                        registered?;
                    }
                    Ok(n)
                },
            ))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(
        journal.all(),
        ["refused 3, limit 3", "undid 0", "undid 1", "undid 2"]
    );
    assert_eq!(
        told(&report.last_failures[0]),
        "failed in greedy: task 1 has registered 3 undos already; 3 undos taken back"
    );
}

#[test]
fn g03_rollbacks_of_different_tasks_run_side_by_side() {
    // Each task's own one after the other, in the order in which the tasks stopped.
    let journal = Journal::default();
    still(async {
        let (started, ended) = (journal.clone(), journal.clone());
        let stage = stage_fn("s", async |n: u64, task: &TaskContext<'_, String>| {
            for undo in ["x", "y"] {
                task.on_cancel(format!("{n}{undo}")).await?;
            }
            sleep(n).await;
            Err::<u64, _>(Failure::new("no"))
        })
        .cancel_with(async move |undo: String, _: &CancelContext<'_>| {
            started.note(format!("{undo} begins"));
            sleep(100).await;
            ended.note(format!("{undo} ends"));
            Ok(())
        });
        let report = Pipeline::new("side by side")
            .producer(from_iter([2, 1]))
            .stage(stage.workers(2))
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert_eq!(report.counts.failed, 2);
    });
    assert_eq!(
        journal.all(),
        [
            "1x begins",
            "2x begins",
            "1x ends",
            "1y begins",
            "2x ends",
            "2y begins",
            "1y ends",
            "2y ends"
        ]
    );
}

#[test]
fn g03_order_holds_over_many_stages() {
    let journal = Journal::default();
    let stage = |n: StageIx| {
        noted(
            &format!("s{n}"),
            &journal,
            async move |input: u32, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("s{n}")).await?;
                if n == 4 {
                    return Err(Failure::new("no"));
                }
                Ok(input)
            },
        )
    };
    still(
        Pipeline::new("five")
            .producer(from_iter([1]))
            .stage(stage(0))
            .stage(stage(1))
            .stage(stage(2))
            .stage(stage(3))
            .stage(stage(4))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(journal.of("undid "), ["s0", "s1", "s2", "s3", "s4"]);
}
