//! Workers that die in the middle of something: their thread is stopped, or something panics that no guard
//! is around.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use batrun::{
    policy::{OnStuck, Restart},
    prelude::*,
    report::StageHealth,
};

use crate::support::{AT_MOST, DRAIN, live, ms, sleep, summary, until};

/// Stops the thread that it is called on, as a careless stage may.
fn stop_this_thread() {
    actix_rt::Arbiter::current().stop();
}

/// The end of a task, which has to come.
async fn end_of<O: Send + 'static>(ticket: batrun::Ticket<O>) -> String {
    let outcome = tokio::time::timeout(AT_MOST, ticket.outcome()).await;
    summary(&outcome.expect("its task hangs").unwrap())
}

#[test]
fn g06_a_worker_whose_thread_is_stopped_is_replaced_and_its_task_failed() {
    live(async {
        let handle = Pipeline::new("stopped")
            .stage(
                stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| {
                    if n == 7 {
                        stop_this_thread();
                        // The thread has nothing to come back to.
                        std::future::pending::<()>().await;
                    }
                    Ok(n)
                })
                .workers(2)
                .blocking()
                .restart(Restart::exponential(ms(1), ms(10))),
            )
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..100 {
            tickets.push(handle.submit(n).await.unwrap());
        }
        for (n, ticket) in tickets.into_iter().enumerate() {
            let wanted = match n {
                7 => {
                    "failed in s: panicked: its worker died: something outside of the stage's own \
                      code panicked, or stopped its thread; nothing to take back"
                }
                _ => "done; nothing to take back",
            };
            assert_eq!(end_of(ticket).await, wanted, "task {n}");
        }
        until(|| handle.snapshot().stages[0].workers == 2).await;
        assert_eq!(handle.snapshot().stages[0].health, StageHealth::Up);
        let report = handle.shutdown(DRAIN).await.unwrap();
        let counts = report.stages[0].counts;
        assert_eq!((counts.started, counts.finished), (100, 99));
        assert_eq!((counts.failed, counts.panicked), (1, 1));
    });
}

#[test]
fn g06_an_undo_whose_worker_dies_is_tried_again() {
    let stopped = Arc::new(AtomicBool::new(false));
    live(async {
        let once = stopped.clone();
        let handle = Pipeline::new("stopped")
            .stage(
                stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
                    task.on_cancel(n).await?;
                    Err::<u32, _>(Failure::new("no"))
                })
                .cancel_with(async move |_: u32, _: &CancelContext<'_>| {
                    if !once.swap(true, Ordering::SeqCst) {
                        stop_this_thread();
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                })
                .cancel_retry(Retry::constant(2, ms(1)))
                .on_stuck(OnStuck::Continue)
                .blocking()
                .restart(Restart::exponential(ms(1), ms(10))),
            )
            .start()
            .await
            .unwrap();
        for n in 0..3 {
            let ticket = handle.submit(n).await.unwrap();
            assert_eq!(end_of(ticket).await, "failed in s: no; 1 undo taken back");
        }
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert_eq!(report.counts.failed, 3);
    });
    assert!(stopped.load(Ordering::SeqCst));
}

#[test]
fn g06_a_cancelled_task_of_a_worker_that_dies_is_let_go_of() {
    live(async {
        let handle = Pipeline::new("stopped")
            .stage(
                stage_fn("s", async |n: u32, task: &TaskContext<'_, ()>| {
                    // Nothing drops this call before it is over.
                    let shielded = async {
                        while !task.is_stopping() {
                            sleep(1).await;
                        }
                        stop_this_thread();
                        std::future::pending::<()>().await;
                    };
                    task.shield(shielded).await;
                    Ok(n)
                })
                .blocking()
                .restart(Restart::exponential(ms(1), ms(10))),
            )
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(20)).await.unwrap();
        assert_eq!(end_of(ticket).await, "timed out in s; nothing to take back");
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn g06_a_factory_that_stops_its_thread_takes_its_stage_down() {
    live(async {
        let inner = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
        let factory = move || {
            stop_this_thread();
            Ok(inner.clone())
        };
        let handle = Pipeline::new("stopped")
            .stage(
                Work::try_with("s", factory)
                    .blocking()
                    .restart(Restart::exponential(ms(1), ms(2))),
            )
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        // A worker may still get to it before its thread has ended.
        let end = end_of(ticket).await;
        assert!(
            end.starts_with("done")
                || end.contains("down")
                || end.contains("died")
                || end.contains("lost"),
            "{end}"
        );
        handle.shutdown(DRAIN).await.unwrap();
    });
}

/// Set for the child of the test below, which has few descriptors.
const CHILD: &str = "BATRUN_FEW_DESCRIPTORS";

#[cfg(unix)]
#[test]
fn v2_workers_without_threads_are_tried_at_the_policys_pace() {
    let name = "worker_death::v2_workers_without_threads_are_tried_at_the_policys_pace";
    if std::env::var_os(CHILD).is_some() {
        return live(short_of_descriptors());
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(program)
        .arg(name)
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn short_of_descriptors() {
    let handle = Pipeline::new("short")
        .stage(
            stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n))
                .workers(2)
                .blocking()
                .restart(Restart::exponential(ms(50), ms(50))),
        )
        .start()
        .await
        .unwrap();
    handle.resize("s", 62).unwrap();
    let failures = || match handle.snapshot().stages[0].health.clone() {
        StageHealth::Failing { failures, error } => {
            assert!(error.contains("raise the limits of threads"), "{error}");
            failures
        }
        other => panic!("{other:?}"),
    };
    until(|| handle.snapshot().stages[0].health != StageHealth::Up).await;
    // By then as many as there is room for are built.
    sleep(300).await;
    let (before, began) = (failures(), Instant::now());
    for n in 0..100 {
        let ticket = handle.submit(n).await.unwrap();
        assert_eq!(end_of(ticket).await, "done; nothing to take back");
        sleep(10).await;
    }
    let tried = u128::from(failures() - before);
    let most = began.elapsed().as_millis() / 50 + 1;
    assert!((2..=most).contains(&tried), "{tried} tries, at most {most}");
    handle.resize("s", 1).unwrap();
    handle.shutdown(DRAIN).await.unwrap();
}
