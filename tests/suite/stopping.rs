//! A rollback starts only once the stage that worked on the task has stopped.

use std::{
    future::pending,
    sync::{Arc, Mutex, mpsc},
};

use batrun::{
    prelude::*,
    stage::{StopSignal, UndoError},
};
use tokio::time::Instant;

use crate::support::{
    Gate, Keeper, Notes, gate, live, ms, noted, since, sleep, still, summary, until,
};

#[test]
fn g05_rollback_waits_for_a_shield() {
    let notes = Notes::default();
    still(async {
        let noting = notes.clone();
        let stage = noted(
            "shielded",
            &notes,
            async move |n: u32, task: &TaskContext<'_, String>| {
                task.on_cancel("it".to_owned()).await?;
                task.shield(async {
                    sleep(50).await;
                    noting.note(format!("told: {}", task.is_stopping()));
                    sleep(50).await;
                    noting.note("effect");
                })
                .await;
                noting.note("up to the next await");
                sleep(1).await;
                noting.note("never");
                Ok(n)
            },
        );
        let handle = Pipeline::new("shield")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(20)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "timed out in shielded; 1 undo taken back"
        );
    });
    assert_eq!(
        notes.all(),
        ["told: true", "effect", "up to the next await", "undid it"]
    );
}

#[test]
fn g05_a_future_is_dropped_before_its_rollback_starts() {
    struct Guard(Notes);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let notes = Notes::default();
    still(async {
        let noting = notes.clone();
        let stage = noted(
            "guarded",
            &notes,
            async move |n: u32, task: &TaskContext<'_, String>| {
                task.on_cancel("it".to_owned()).await?;
                let _guard = Guard(noting.clone());
                pending::<()>().await;
                Ok(n)
            },
        );
        let handle = Pipeline::new("drop")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit(1).await.unwrap();
        sleep(10).await;
        ticket.cancel();
        ticket.outcome().await.unwrap();
        assert_eq!(since(began), 10);
    });
    assert_eq!(notes.all(), ["dropped", "undid it"]);
}

#[test]
fn g05_stopping_wakes_a_stage_that_waits_for_it() {
    let notes = Notes::default();
    still(async {
        let began = Instant::now();
        let noting = notes.clone();
        let stage = noted(
            "listens",
            &notes,
            async move |n: u32, task: &TaskContext<'_, String>| {
                task.shield(task.stopping()).await;
                noting.note(format!("told at {}", since(began)));
                Ok(n)
            },
        );
        let handle = Pipeline::new("stopping")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        sleep(30).await;
        ticket.cancel();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "cancelled in listens; nothing to take back"
        );
    });
    assert_eq!(notes.all(), ["told at 30"]);
}

#[test]
fn g05_an_undo_registered_while_stopping_is_refused_but_still_runs() {
    let notes = Notes::default();
    still(async {
        let noting = notes.clone();
        let stage = noted(
            "late",
            &notes,
            async move |n: u32, task: &TaskContext<'_, String>| {
                task.on_cancel("early".to_owned()).await?;
                let kept = task.on_cancel("withdrawn".to_owned()).await?;
                task.shield(task.stopping()).await;
                let refused = task.on_cancel("late".to_owned()).await;
                assert!(matches!(refused, Err(UndoError::Stopping(_))));
                noting.note("refused");
                kept.withdraw().await?;
                noting.note("withdrew");
                refused?;
                Ok(n)
            },
        );
        let handle = Pipeline::new("late")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(10)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "timed out in late; 2 undos taken back");
    });
    assert_eq!(
        notes.all(),
        ["refused", "withdrew", "undid early", "undid late"]
    );
}

#[test]
fn g05_a_cancel_or_deadline_during_rollback_changes_nothing() {
    let notes = Notes::default();
    still(async {
        let noting = notes.clone();
        let stage = stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(1).await?;
            task.on_cancel(2).await?;
            Err::<u32, _>(Failure::new("no"))
        })
        .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
            noting.note(format!("{undo} begins"));
            sleep(1000).await;
            noting.note(format!("{undo} ends"));
            Ok(())
        });
        let handle = Pipeline::new("undisturbed")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let ticket = handle.submit(1).timeout(ms(500)).await.unwrap();
        sleep(100).await;
        assert!(!ticket.cancel());
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "failed in s: no; 2 undos taken back");
        assert_eq!(since(began), 2000);
    });
    assert_eq!(notes.all(), ["1 begins", "1 ends", "2 begins", "2 ends"]);
}

/// A blocking stage that says when it is in, and stays until it is let out.
#[derive(Clone)]
struct Blocks {
    gate: Gate,
    notes: Notes,
    /// Told when an undo begins; the call listens for that before it returns.
    cancelling: mpsc::Sender<()>,
    seen: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Stage for Blocks {
    type Input = u32;
    type Output = u32;
    type Undo = String;

    async fn run(&mut self, n: u32, task: &TaskContext<'_, String>) -> Result<u32, Failure> {
        task.on_cancel("it".to_owned()).await?;
        self.gate.pass();
        while !task.is_stopping() {
            std::thread::yield_now();
        }
        // Gives an undo that doesn't wait the time to be caught.
        let overlap = self.seen.lock().unwrap().recv_timeout(ms(50)).is_ok();
        self.notes.note(format!("returned, overlap {overlap}"));
        Ok(n)
    }

    async fn cancel(&mut self, undo: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.cancelling.send(()).unwrap();
        self.notes.note(format!("undid {undo}"));
        Ok(())
    }
}

fn blocks(notes: &Notes) -> (Blocks, Keeper) {
    let (gate, keeper) = gate();
    let (cancelling, seen) = mpsc::channel();
    let stage = Blocks {
        gate,
        notes: notes.clone(),
        cancelling,
        seen: Arc::new(Mutex::new(seen)),
    };
    (stage, keeper)
}

#[test]
fn g05_rollback_waits_for_a_blocking_call_that_was_cancelled() {
    let notes = Notes::default();
    let (stage, keeper) = blocks(&notes);
    live(async {
        let handle = Pipeline::new("blocks")
            .stage(stage.blocking())
            .arbiters(2)
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        until(|| keeper.has_call()).await;
        assert!(ticket.cancel());
        keeper.release();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "cancelled in Blocks; 1 undo taken back");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    assert_eq!(notes.all(), ["returned, overlap false", "undid it"]);
}

#[test]
fn g05_rollback_waits_for_a_blocking_call_that_ran_late() {
    let notes = Notes::default();
    let (stage, keeper) = blocks(&notes);
    live(async {
        let handle = Pipeline::new("blocks late")
            .stage(stage.blocking())
            .arbiters(2)
            .start()
            .await
            .unwrap();
        // Long enough to be started in, on a slow machine too; the call then waits for it.
        let ticket = handle.submit(1).timeout(ms(500)).await.unwrap();
        keeper.release();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "timed out in Blocks; 1 undo taken back");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    assert_eq!(notes.all(), ["returned, overlap false", "undid it"]);
}

#[test]
fn a_stop_signal_is_set_once_its_attempt_is_over() {
    fn told(signals: &Mutex<Vec<StopSignal>>) -> Vec<bool> {
        let signals = signals.lock().unwrap();
        // As a thread or a C library's callback would.
        let asked = signals.clone();
        let asking = std::thread::spawn(move || asked.iter().map(|s| s.is_stopping()).collect());
        asking.join().unwrap()
    }
    let signals = Arc::new(Mutex::new(Vec::new()));
    let notes = Notes::default();
    still(async {
        let (kept, noting) = (signals.clone(), notes.clone());
        let first = stage_fn("first", async move |n: u32, task: &TaskContext<'_, ()>| {
            kept.lock().unwrap().push(task.signal());
            noting.note(format!("first {:?}", told(&kept)));
            Ok(n)
        });
        let (kept, noting) = (signals.clone(), notes.clone());
        let second = stage_fn("second", async move |n: u32, task: &TaskContext<'_, ()>| {
            kept.lock().unwrap().push(task.signal());
            noting.note(format!("second {:?}", told(&kept)));
            if task.attempt() == 1 {
                return Err(Failure::new("again"));
            }
            task.shield(sleep(50)).await;
            noting.note(format!("late {:?}", told(&kept)));
            Ok(n)
        });
        let handle = Pipeline::new("signals")
            .stage(first)
            .stage(second.retry(Retry::constant(1, ms(1))))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(20)).await.unwrap();
        ticket.outcome().await.unwrap();
    });
    assert_eq!(
        notes.all(),
        [
            "first [false]",
            "second [true, false]",
            "second [true, true, false]",
            "late [true, true, true]",
        ]
    );
    assert_eq!(told(&signals), [true; 3]);
}
