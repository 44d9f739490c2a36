//! After its shutdown nothing of a pipeline is left. Threads are counted in a process of the
//! test's own, in which nothing else runs.

use std::{env, process::Command};

use actix::System;
use batrun::prelude::*;

use crate::support::{Do, acting};

/// Runs a test again, alone in a process.
fn alone(test: &str, body: impl FnOnce()) {
    const MARK: &str = "BATRUN_ALONE";
    if env::var(MARK).is_ok_and(|name| name == test) {
        return body();
    }
    let name = format!("nothing_left::{test}");
    let output = Command::new(env::current_exe().unwrap())
        .args([name.as_str(), "--exact", "--test-threads=1", "--nocapture"])
        .env(MARK, test)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{out}{err}");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A joined thread may be listed for a moment yet.
fn settles_at(expected: usize) {
    for _ in 0..1_000_000 {
        if threads() == expected {
            return;
        }
        std::thread::yield_now();
    }
    let names: Vec<_> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")))
        .collect();
    panic!("{} threads, not {expected}: {names:?}", threads());
}

fn busy() -> Pipeline<Do> {
    Pipeline::new("busy")
        .producer(from_iter([Do::Pass, Do::Fail, Do::Panic, Do::Take(1)]))
        .stage(acting("a").workers(3))
        .stage(acting("b").workers(3).blocking())
        .arbiters(2)
}

/// Ends in every way, and finds as many threads as before.
async fn comes_and_goes() {
    let before = threads();
    busy().run().await.unwrap();
    settles_at(before);
    for how in [Shutdown::Drain(crate::support::ms(10)), Shutdown::Abort] {
        let handle = busy().start().await.unwrap();
        assert!(threads() >= before + 2);
        handle.submit(Do::Pass).await.unwrap();
        handle.submit(Do::Hang).await.unwrap();
        handle.resize("b", 5).unwrap();
        handle.resize("b", 1).unwrap();
        handle.shutdown(how).await.unwrap();
        settles_at(before);
    }
}

#[test]
fn g12_own_arbiters_and_blocking_threads_end_and_the_system_stays() {
    alone(
        "g12_own_arbiters_and_blocking_threads_end_and_the_system_stays",
        || {
            crate::support::live(async {
                let system = System::current().id();
                comes_and_goes().await;
                assert_eq!(System::current().id(), system);
                // It still starts actors, arbiters and pipelines.
                let arbiter = actix::Arbiter::new();
                assert!(arbiter.spawn(async {}));
                arbiter.stop();
                arbiter.join().unwrap();
                comes_and_goes().await;
            });
        },
    );
}

#[test]
fn g12_a_private_system_ends_under_plain_tokio() {
    alone("g12_a_private_system_ends_under_plain_tokio", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            assert!(System::try_current().is_none());
            comes_and_goes().await;
            assert!(System::try_current().is_none());
        });
    });
}

#[test]
fn g12_a_private_system_ends_under_a_synchronous_main() {
    alone("g12_a_private_system_ends_under_a_synchronous_main", || {
        futures::executor::block_on(comes_and_goes());
    });
}

#[test]
fn g12_a_pipeline_whose_handles_are_dropped_ends_too() {
    alone("g12_a_pipeline_whose_handles_are_dropped_ends_too", || {
        let before = threads();
        futures::executor::block_on(async {
            let handle = busy().start().await.unwrap();
            let ticket = handle.submit(Do::Pass).await.unwrap();
            drop(handle);
            assert!(ticket.outcome().await.is_ok());
        });
        settles_at(before);
    });
}

#[actix_rt::test]
async fn g12_runs_in_a_test_of_actix_rt() {
    let report = busy().run().await.unwrap();
    assert_eq!((report.counts.done, report.counts.failed), (2, 2));
    assert!(System::try_current().is_some());
}

#[test]
fn g12_runs_in_an_actix_main() {
    #[actix::main]
    async fn main() -> Result<(), batrun::Error> {
        let report = busy().run().await?;
        assert_eq!(report.counts.in_flight(), 0);
        Ok(())
    }
    main().unwrap();
}

#[test]
fn g12_actors_and_stage_values_are_dropped_on_the_current_arbiter() {
    use std::sync::Arc;
    crate::support::still(async {
        let value = Arc::new(());
        let held = value.clone();
        let handle = Pipeline::new("values")
            .stage(
                Work::with("holds", move || {
                    let held = held.clone();
                    stage_fn("holds", async move |n: u32, _: &TaskContext<'_, ()>| {
                        let _ = &held;
                        Ok(n)
                    })
                })
                .workers(4),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert!(Arc::strong_count(&value) >= 5);
        handle.shutdown(Shutdown::Abort).await.unwrap();
        crate::support::sleep(1).await;
        // Neither pools nor workers, nor the factory that they share.
        assert_eq!(Arc::strong_count(&value), 1);
    });
}
