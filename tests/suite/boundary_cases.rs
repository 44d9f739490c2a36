//! Cases at the boundary of two steps: a task that is being accepted while the pipeline ends, a call that a
//! shutdown abandons, an output that nobody asks for.

use std::sync::{Arc, Mutex, mpsc};

use actix::{Actor, Context, Handler};
use batrun::{
    Error,
    error::BuildError,
    ledger::{Change, Ledger, LedgerError, Recorded, Transition},
    prelude::*,
    stage::UndoError,
};
use futures::StreamExt;
use tokio::sync::oneshot;

use crate::support::{AT_MOST, Do, Gauge, Notes, acting, gate, live, ms, sleep, still};

/// Takes its time to record that a task is accepted; may fail at it.
struct SlowToAccept(fn(u64) -> (u64, bool));

impl Ledger for SlowToAccept {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        let (after, works) = match transition.change {
            Change::Accepted { .. } => (self.0)(transition.task.0),
            _ => (0, true),
        };
        Recorded::later(async move {
            sleep(after).await;
            if works {
                Ok(())
            } else {
                Err(LedgerError::new("no disk"))
            }
        })
    }
}

#[test]
fn g11_a_task_still_being_accepted_is_drained_too() {
    still(async {
        let handle = Pipeline::new("late acceptance")
            .stage(acting("a"))
            .ledger(SlowToAccept(|_| (100, true)))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let submitting = {
            let handle = handle.clone();
            actix_rt::spawn(async move { handle.submit(Do::Pass).await.unwrap().outcome().await })
        };
        sleep(20).await;
        let report = handle.shutdown(Shutdown::Drain(ms(3_000))).await.unwrap();
        assert!(submitting.await.unwrap().unwrap().is_done());
        assert_eq!((report.counts.accepted, report.counts.done), (1, 1));
    });
}

#[test]
fn g01_a_task_in_a_reused_slot_is_not_forgotten() {
    still(async {
        let handle = Pipeline::new("slots")
            .stage(acting("a"))
            .ledger(SlowToAccept(|task| {
                if task == 1 { (200, false) } else { (0, true) }
            }))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let first = {
            let handle = handle.clone();
            // Late before it is accepted.
            actix_rt::spawn(async move { handle.submit(Do::Pass).timeout(ms(20)).await.is_ok() })
        };
        sleep(100).await;
        let second = handle.submit(Do::Take(1_000)).await.unwrap();
        assert!(!first.await.unwrap());
        assert!(matches!(second.outcome().await, Err(Error::Suspended(_))));
        let counts = handle.ended().await.unwrap().counts;
        assert_eq!(
            (counts.accepted, counts.timed_out, counts.suspended),
            (2, 1, 1)
        );
    });
}

#[test]
fn g08_an_idle_worker_takes_over_while_another_waits() {
    let outcome = live(async {
        let (_never, held) = oneshot::channel::<()>();
        let held = Mutex::new(Some(held));
        let held = Arc::new(held);
        let stage = stage_fn("s", async move |wait: bool, _: &TaskContext<'_, ()>| {
            let held = if wait {
                held.lock().unwrap().take()
            } else {
                None
            };
            if let Some(held) = held {
                held.await.ok();
            }
            Ok(())
        });
        let handle = Pipeline::new("two")
            .arbiters(2)
            .stage(stage.workers(2))
            .start()
            .await
            .unwrap();
        // Until its calls are known to be quick.
        for _ in 0..500 {
            handle.submit(false).await.unwrap().outcome().await.unwrap();
        }
        handle.submit(true).await.unwrap();
        while handle.snapshot().stages[0].queued > 0 {
            actix_rt::task::yield_now().await;
        }
        let quick = handle.submit(false).timeout(AT_MOST).await.unwrap();
        let outcome = quick.outcome().await.unwrap();
        handle.shutdown(Shutdown::Abort).await.unwrap();
        outcome
    });
    assert!(outcome.is_done(), "{outcome}");
}

#[test]
fn g05_an_abandoned_call_is_told_to_stop() {
    let (gate, keeper) = gate();
    let (said, saw) = mpsc::channel();
    let hang = stage_fn("hang", async move |_: u32, task: &TaskContext<'_, u32>| {
        gate.pass();
        let refused = matches!(task.on_cancel(7).await, Err(UndoError::Stopping(_)));
        said.send((task.is_stopping(), refused)).unwrap();
        Ok(())
    });
    live(async {
        let pipeline = Pipeline::new("given up").abandon_after(ms(20));
        let handle = pipeline.stage(hang.blocking()).start().await.unwrap();
        handle.submit(1).await.unwrap();
        keeper.wait_for_call();
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert!(report.stuck[0].undos.is_empty());
    });
    keeper.release();
    assert_eq!(saw.recv_timeout(AT_MOST), Ok((true, true)));
}

#[test]
fn g07_an_output_that_nobody_asks_for_is_dropped() {
    still(async {
        let outputs = Gauge::default();
        let count = outputs.clone();
        let handle = Pipeline::new("outputs")
            .stage(stage_fn(
                "s",
                async move |_: u32, _: &TaskContext<'_, ()>| Ok(count.hold()),
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        drop(handle.submit(1).await.unwrap());
        let kept = handle.submit(2).await.unwrap();
        sleep(1).await;
        assert_eq!(outputs.dropped(), 1, "nobody can ask for the first");
        drop(kept);
        assert_eq!(outputs.dropped(), 2, "nor for the second any more");
        let asked = handle.submit(3).await.unwrap().outcome().await.unwrap();
        assert_eq!(outputs.dropped(), 2);
        drop(asked);
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g11_a_pause_does_not_hold_up_a_shutdown() {
    still(async {
        let handle = Pipeline::new("paused")
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for _ in 0..3 {
            handle.submit(Do::Take(20)).await.unwrap();
        }
        let ending = {
            let handle = handle.clone();
            actix_rt::spawn(async move { handle.shutdown(Shutdown::Drain(ms(10_000))).await })
        };
        sleep(10).await;
        handle.pause();
        assert_eq!(ending.await.unwrap().unwrap().counts.done, 3);
    });
}

#[test]
fn g11_the_stream_of_outcomes_ends_with_the_runtime() {
    let (_handle, mut outcomes) = live(async {
        let handle = Pipeline::new("gone")
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let outcomes = handle.outcomes();
        (handle, outcomes)
    });
    assert!(futures::executor::block_on(outcomes.next()).is_none());
}

#[test]
fn g13_too_many_workers_or_stages_are_refused() {
    let workers = acting("many").workers(1_000_000);
    let error = |pipeline: Pipeline<Do>| match still(pipeline.current_arbiter().start()) {
        Err(Error::Build(error)) => error,
        _ => panic!("it started"),
    };
    assert_eq!(
        error(Pipeline::new("p").stage(workers)),
        BuildError::TooManyWorkers("many".to_owned())
    );
    let long = (0..1_001).fold(Pipeline::new("long"), |pipeline, n| {
        pipeline.stage(acting("s").named(format!("s{n}")))
    });
    assert_eq!(error(long), BuildError::TooManyStages("long".to_owned()));
}

/// Withdraws whatever undo has number 0, then fails.
struct Withdraws;

impl Actor for Withdraws {
    type Context = Context<Self>;
}

impl Handler<TaskMsg<Do, Reply<Do, u32>>> for Withdraws {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<Do, Reply<Do, u32>>, _: &mut Self::Context) {
        let (_, reply) = message.into_parts();
        actix_rt::spawn(async move {
            reply.withdraw(0).await.unwrap();
            reply.fail(Failure::new("no"));
        });
    }
}

impl Handler<Cancel<u32>> for Withdraws {
    type Result = ();

    fn handle(&mut self, message: Cancel<u32>, _: &mut Self::Context) {
        message.into_parts().1.done();
    }
}

#[test]
fn g04_an_actor_withdraws_only_its_own_undos() {
    let notes = Notes::default();
    let undone = notes.clone();
    let report = still(async {
        let first = stage_fn("first", async |what: Do, task: &TaskContext<'_, u32>| {
            task.on_cancel(7).await?;
            Ok(what)
        })
        .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
            undone.note(undo);
            Ok(())
        });
        Pipeline::new("own undos")
            .producer(from_iter([Do::Pass]))
            .stage(first)
            .actor("second", Withdraws.start())
            .current_arbiter()
            .run()
            .await
            .unwrap()
    });
    assert_eq!(report.counts.failed, 1);
    assert_eq!(notes.all(), ["7"]);
}
