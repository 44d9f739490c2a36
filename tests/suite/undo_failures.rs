//! Cancels that fail, hang, or meet a pool whose workers all hang.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use batrun::{OnStuck, Rollback, prelude::*};
use tokio::time::Instant;

use crate::kit::{Do, Journal, act, ms, since, sleep, still, told};

/// Registers the undos it is given and fails; `fails(undo, attempt)` says which cancels do.
fn stage(
    name: &str,
    journal: &Journal,
    fails: fn(u32, u32) -> Option<Failure>,
) -> impl Stage<Input = Vec<u32>, Output = Vec<u32>, Undo = u32> + Clone + Send + use<> {
    let journal = journal.clone();
    stage_fn(
        name,
        async |undos: Vec<u32>, task: &TaskContext<'_, u32>| {
            for undo in &undos {
                task.on_cancel(*undo).await?;
            }
            Err::<Vec<u32>, _>(Failure::permanent("no"))
        },
    )
    .cancel_with(async move |undo: u32, cancel: &CancelContext<'_>| {
        journal.note(format!("{undo}.{}", cancel.attempt()));
        fails(undo, cancel.attempt()).map_or(Ok(()), Err)
    })
}

fn one(work: impl IntoWork<Stage: Stage<Input = Vec<u32>>>, undos: &[u32]) -> Report {
    still(
        Pipeline::new("cancels")
            .producer(from_iter([undos.to_vec()]))
            .stage(work)
            .current_arbiter()
            .run(),
    )
    .unwrap()
}

#[test]
fn g09_a_failed_undo_is_retried_before_the_next_one_runs() {
    let journal = Journal::default();
    let fails = |undo, attempt| (undo == 1 && attempt < 3).then(|| Failure::new("busy"));
    let work = stage("s", &journal, fails).cancel_retry(Retry::constant(2, ms(50)));
    let began = std::time::Instant::now();
    let report = one(work, &[1, 2]);
    assert_eq!(journal.all(), ["1.1", "1.2", "1.3", "2.1"]);
    assert_eq!(
        told(&report.last_failures[0]),
        "failed in s: no; 2 undos taken back"
    );
    assert!(report.stuck.is_empty());
    // The clock of the pipeline waited; nobody else did.
    assert!(report.elapsed >= ms(100), "{:?}", report.elapsed);
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn g09_failed_undos_get_a_second_round_after_the_rest() {
    let journal = Journal::default();
    let fails = |undo, attempt| match (undo, attempt) {
        (1, ..3) => Some(Failure::new("blocked by 2")),
        (3, 1) => Some(Failure::permanent("at first")),
        _ => None,
    };
    let work = stage("s", &journal, fails).cancel_retry(Retry::constant(1, ms(10)));
    let report = one(work, &[1, 2, 3, 4]);
    assert_eq!(
        journal.all(),
        ["1.1", "1.2", "2.1", "3.1", "4.1", "1.3", "3.2"]
    );
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 4 }
    );
}

#[test]
fn g09_undos_that_are_left_are_listed_in_the_report() {
    let journal = Journal::default();
    let fails = |undo, _| match undo {
        2 => Some(Failure::permanent("gone")),
        3 => Some(Failure::new("busy")),
        _ => None,
    };
    let work = stage("s", &journal, fails).cancel_retry(Retry::constant(1, ms(10)));
    let report = one(work, &[1, 2, 3, 4]);
    assert_eq!(
        journal.all(),
        ["1.1", "2.1", "3.1", "3.2", "4.1", "2.2", "3.3"]
    );
    assert_eq!(
        told(&report.last_failures[0]),
        "failed in s: no; stuck: s: 2 (gone), s: 3 (busy)"
    );
    assert_eq!(report.counts.failed, 1, "stuck is no fifth outcome");
    let [stuck] = &report.stuck[..] else { panic!() };
    assert_eq!((stuck.undos.len(), &stuck.still_running), (2, &None));
    assert!(
        report
            .to_string()
            .contains("task 1: s: 2 (gone), s: 3 (busy)")
    );
}

#[test]
fn g09_the_second_round_follows_the_tasks_order() {
    let journal = Journal::default();
    let fails = |_, attempt| (attempt == 1).then(|| Failure::permanent("at first"));
    let report = still(
        Pipeline::new("lifo rounds")
            .order(Order::Lifo)
            .producer(from_iter([vec![1, 2, 3]]))
            .stage(stage("s", &journal, fails))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(journal.all(), ["3.1", "2.1", "1.1", "3.2", "2.2", "1.2"]);
    assert!(report.stuck.is_empty());
}

#[test]
fn g09_halt_stops_at_the_first_undo_that_fails_for_good() {
    let journal = Journal::default();
    let fails = |undo, _| (undo == 2).then(|| Failure::permanent("gone"));
    let work = stage("s", &journal, fails).on_stuck(OnStuck::Halt);
    let report = one(work, &[1, 2, 3]);
    assert_eq!(journal.all(), ["1.1", "2.1"]);
    assert_eq!(
        told(&report.last_failures[0]),
        "failed in s: no; stuck: s: 2 (gone), s: 3 (not tried)"
    );
}

#[test]
fn g09_an_undo_that_hangs_fails_at_its_timeout() {
    let journal = Journal::default();
    still(async {
        let noted = journal.clone();
        let work = stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(1).await?;
            Err::<u32, _>(Failure::new("no"))
        })
        .cancel_with(async move |_: u32, cancel: &CancelContext<'_>| {
            noted.note(cancel.attempt());
            std::future::pending().await
        })
        .cancel_timeout(ms(100))
        .cancel_retry(Retry::constant(1, ms(10)));
        let handle = Pipeline::new("hangs")
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let began = Instant::now();
        let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert_eq!(
            told(&outcome),
            "failed in s: no; stuck: s: 1 (the cancel took longer than 100ms)"
        );
        // Two attempts with a delay between, and the second round's one.
        assert_eq!(since(began), 310);
    });
    assert_eq!(journal.all(), ["1", "2", "3"]);
}

/// Counts how many of its values exist.
struct Counted {
    alive: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    journal: Journal,
}

impl Counted {
    fn new(alive: &Arc<AtomicU32>, most: &Arc<AtomicU32>, journal: &Journal) -> Self {
        let now = alive.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        Counted {
            alive: alive.clone(),
            most: most.clone(),
            journal: journal.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stage for Counted {
    type Input = Do;
    type Output = Do;
    type Undo = u32;

    async fn run(&mut self, what: Do, task: &TaskContext<'_, u32>) -> Result<Do, Failure> {
        let _ = &self.most;
        task.on_cancel(1).await?;
        act(what).await
    }

    async fn cancel(&mut self, _: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.journal.note("cancel");
        sleep(5).await;
        Ok(())
    }
}

#[test]
fn g09_undos_run_while_every_worker_hangs() {
    let journal = Journal::default();
    still(async {
        let (alive, most) = (Arc::default(), Arc::default());
        let (counted, peak) = (Arc::clone(&alive), Arc::clone(&most));
        let noted = journal.clone();
        let handle = Pipeline::new("hangs")
            .stage(
                Work::with("hangs", move || Counted::new(&counted, &peak, &noted))
                    .workers(3)
                    .capacity(50),
            )
            .stage(crate::kit::acting("fails").capacity(50).workers(9))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // These pass the first stage and will fail in the second, once the first one hangs.
        let mut failing = Vec::new();
        for _ in 0..4 {
            let ticket = handle.submit(Do::Take(10)).timeout(ms(40)).await;
            failing.push(ticket.unwrap());
        }
        sleep(25).await;
        for _ in 0..20 {
            handle.submit(Do::Hang).await.unwrap();
        }
        let again = handle.submit(Do::Fail).await.unwrap();
        sleep(10).await;
        let began = Instant::now();
        assert!(again.cancel());
        for ticket in &failing {
            ticket.outcome().await.unwrap();
        }
        assert!(since(began) < 100);
        assert!(most.load(Ordering::SeqCst) <= 4, "{most:?}");
        assert_eq!(handle.snapshot().stages[0].workers, 3);
        handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
    assert!(journal.all().len() >= 3);
}

#[test]
fn g09_an_undo_runs_before_new_work() {
    let journal = Journal::default();
    still(async {
        let (ran, undid) = (journal.clone(), journal.clone());
        let work = stage_fn("s", async move |n: u32, task: &TaskContext<'_, u32>| {
            ran.note(format!("run {n}"));
            task.on_cancel(n).await?;
            sleep(10).await;
            if n == 0 {
                return Err(Failure::new("no"));
            }
            Ok(n)
        })
        .cancel_with(async move |n: u32, _: &CancelContext<'_>| {
            undid.note(format!("undo {n}"));
            Ok(())
        })
        .capacity(50);
        Pipeline::new("overtakes")
            .producer(from_iter(0..20))
            .stage(work)
            .current_arbiter()
            .run()
            .await
            .unwrap();
    });
    // The worker may have been handed the next task before the reporter answered.
    let undone = journal.all().iter().position(|line| line == "undo 0");
    assert!(undone.unwrap() <= 2, "{:?}", journal.all());
}
