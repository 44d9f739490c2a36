//! A rollback starts only once what worked on the task has stopped.

use std::{
    future::pending,
    sync::{Arc, Mutex, mpsc},
};

use batrun::{StopSignal, UndoError, prelude::*};
use tokio::time::Instant;

use crate::kit::{Journal, live, ms, noted, since, sleep, still, told};

#[test]
fn g05_rollback_waits_for_a_shield() {
    let journal = Journal::default();
    still(async {
        let noting = journal.clone();
        let stage = noted(
            "shielded",
            &journal,
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
        assert_eq!(told(&outcome), "timed out in shielded; 1 undo taken back");
    });
    assert_eq!(
        journal.all(),
        ["told: true", "effect", "up to the next await", "undid it"]
    );
}

#[test]
fn g05_a_future_is_dropped_before_its_rollback_starts() {
    struct Guard(Journal);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let journal = Journal::default();
    still(async {
        let noting = journal.clone();
        let stage = noted(
            "guarded",
            &journal,
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
    assert_eq!(journal.all(), ["dropped", "undid it"]);
}

#[test]
fn g05_stopping_wakes_a_stage_that_waits_for_it() {
    let journal = Journal::default();
    still(async {
        let began = Instant::now();
        let noting = journal.clone();
        let stage = noted(
            "listens",
            &journal,
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
        assert_eq!(told(&outcome), "cancelled in listens; nothing to take back");
    });
    assert_eq!(journal.all(), ["told at 30"]);
}

#[test]
fn g05_an_undo_registered_while_stopping_is_refused_but_still_runs() {
    let journal = Journal::default();
    still(async {
        let noting = journal.clone();
        let stage = noted(
            "late",
            &journal,
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
        assert_eq!(told(&outcome), "timed out in late; 2 undos taken back");
    });
    assert_eq!(
        journal.all(),
        ["refused", "withdrew", "undid early", "undid late"]
    );
}

#[test]
fn g05_a_cancel_or_deadline_during_rollback_changes_nothing() {
    let journal = Journal::default();
    still(async {
        let noting = journal.clone();
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
        assert_eq!(told(&outcome), "failed in s: no; 2 undos taken back");
        assert_eq!(since(began), 2000);
    });
    assert_eq!(journal.all(), ["1 begins", "1 ends", "2 begins", "2 ends"]);
}

/// A blocking stage that says when it is in, and stays until it is let out.
#[derive(Clone)]
struct Blocks {
    entered: mpsc::Sender<()>,
    let_out: Arc<Mutex<mpsc::Receiver<()>>>,
    journal: Journal,
    /// Told when a cancel begins; the call listens for that before it returns.
    cancelling: mpsc::Sender<()>,
    seen: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Stage for Blocks {
    type Input = u32;
    type Output = u32;
    type Undo = String;

    async fn run(&mut self, n: u32, task: &TaskContext<'_, String>) -> Result<u32, Failure> {
        task.on_cancel("it".to_owned()).await?;
        self.entered.send(()).unwrap();
        self.let_out.lock().unwrap().recv().unwrap();
        while !task.is_stopping() {
            std::thread::yield_now();
        }
        // Gives a cancel that doesn't wait the time to be caught.
        let overlap = self.seen.lock().unwrap().recv_timeout(ms(50)).is_ok();
        self.journal.note(format!("returned, overlap {overlap}"));
        Ok(n)
    }

    async fn cancel(&mut self, undo: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.cancelling.send(()).unwrap();
        self.journal.note(format!("undid {undo}"));
        Ok(())
    }
}

fn blocks(journal: &Journal) -> (Blocks, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (entered, inside) = mpsc::channel();
    let (release, let_out) = mpsc::channel();
    let (cancelling, seen) = mpsc::channel();
    let stage = Blocks {
        entered,
        let_out: Arc::new(Mutex::new(let_out)),
        journal: journal.clone(),
        cancelling,
        seen: Arc::new(Mutex::new(seen)),
    };
    (stage, inside, release)
}

#[test]
fn g05_rollback_waits_for_a_blocking_call_that_was_cancelled() {
    let journal = Journal::default();
    let (stage, inside, release) = blocks(&journal);
    live(async {
        let handle = Pipeline::new("blocks")
            .stage(stage.blocking())
            .arbiters(2)
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        tokio::task::spawn_blocking(move || inside.recv())
            .await
            .unwrap()
            .unwrap();
        assert!(ticket.cancel());
        release.send(()).unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(told(&outcome), "cancelled in Blocks; 1 undo taken back");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    assert_eq!(journal.all(), ["returned, overlap false", "undid it"]);
}

#[test]
fn g05_rollback_waits_for_a_blocking_call_that_ran_late() {
    let journal = Journal::default();
    let (stage, inside, release) = blocks(&journal);
    live(async {
        let handle = Pipeline::new("blocks late")
            .stage(stage.blocking())
            .arbiters(2)
            .start()
            .await
            .unwrap();
        // Long enough to be started in, on a slow machine too; the call then waits for it.
        let ticket = handle.submit(1).timeout(ms(500)).await.unwrap();
        release.send(()).unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(told(&outcome), "timed out in Blocks; 1 undo taken back");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    drop(inside);
    assert_eq!(journal.all(), ["returned, overlap false", "undid it"]);
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
    let journal = Journal::default();
    still(async {
        let (kept, noting) = (signals.clone(), journal.clone());
        let first = stage_fn("first", async move |n: u32, task: &TaskContext<'_, ()>| {
            kept.lock().unwrap().push(task.signal());
            noting.note(format!("first {:?}", told(&kept)));
            Ok(n)
        });
        let (kept, noting) = (signals.clone(), journal.clone());
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
        journal.all(),
        [
            "first [false]",
            "second [true, false]",
            "second [true, true, false]",
            "late [true, true, true]",
        ]
    );
    assert_eq!(told(&signals), [true; 3]);
}
