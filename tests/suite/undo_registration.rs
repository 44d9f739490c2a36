//! An undo counts from its registration on, whatever becomes of the attempt.

use std::{future::Future, pin::pin, task::Poll};

use batrun::{prelude::*, stage::UndoError, state::Rollback};

use crate::support::{Do, Notes, act, ms, noted, sleep, still, summary};

#[test]
fn g04_the_undos_of_a_stage_that_failed_panicked_or_was_stopped_run_too() {
    let notes = Notes::default();
    still(async {
        let first = noted(
            "first",
            &notes,
            async |what: Do, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("first {what:?}")).await?;
                Ok(what)
            },
        );
        let second = noted(
            "second",
            &notes,
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
            summary(&failed.unwrap()),
            "failed in second: no; 2 undos taken back"
        );
        let panicked = handle.submit(Do::Panic).await.unwrap().outcome().await;
        assert_eq!(
            summary(&panicked.unwrap()),
            "failed in second: panicked: boom; 2 undos taken back"
        );
        let late = handle.submit(Do::Hang).timeout(ms(10)).await.unwrap();
        assert_eq!(
            summary(&late.outcome().await.unwrap()),
            "timed out in second; 2 undos taken back"
        );
        let cancelled = handle.submit(Do::Take(50)).await.unwrap();
        sleep(1).await;
        assert!(cancelled.cancel());
        assert_eq!(
            summary(&cancelled.outcome().await.unwrap()),
            "cancelled in second; 2 undos taken back"
        );
        let done = handle.submit(Do::Pass).await.unwrap().outcome().await;
        assert_eq!(summary(&done.unwrap()), "done; nothing to take back");
    });
    let undone: Vec<String> = ["Fail", "Panic", "Hang", "Take(50)"]
        .iter()
        .flat_map(|what| [format!("first {what}"), format!("second {what}")])
        .collect();
    assert_eq!(notes.of("undid "), undone);
}

#[test]
fn g04_the_undos_of_an_attempt_that_timed_out_run() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("overran")
            .producer(from_iter([Do::Hang]))
            .stage(
                noted(
                    "slow",
                    &notes,
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
        summary(&report.last_failures[0]),
        "failed in slow: the attempt took longer than 10ms; 1 undo taken back"
    );
    assert_eq!(notes.of("undid "), ["it"]);
}

#[test]
fn g04_an_undo_counts_from_the_first_poll_even_if_dropped() {
    let notes = Notes::default();
    still(
        Pipeline::new("polled")
            .producer(from_iter([1]))
            .stage(noted(
                "drops",
                &notes,
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
    assert_eq!(notes.of("undid "), ["first", "second"]);
}

#[test]
fn g04_a_withdrawn_undo_does_not_run() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("withdrawn")
            .producer(from_iter([1]))
            .stage(noted(
                "someone else's",
                &notes,
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
    assert_eq!(notes.of("undid "), ["mine", "mine too"]);
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 2 }
    );
}

#[test]
fn g07_a_task_registers_at_most_max_undos() {
    let notes = Notes::default();
    let noting = notes.clone();
    let report = still(
        Pipeline::new("limited")
            .max_undos(3)
            .producer(from_iter([1]))
            .stage(noted(
                "greedy",
                &notes,
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
        notes.all(),
        ["refused 3, limit 3", "undid 0", "undid 1", "undid 2"]
    );
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in greedy: task 1 has registered 3 undos already; 3 undos taken back"
    );
}
