//! Undos that fail, hang, or meet a pool whose workers all hang.

use batrun::{policy::OnStuck, prelude::*, state::Rollback};
use tokio::time::Instant;

use crate::support::{Do, Gauge, Held, Notes, act, acting, ms, since, sleep, still, summary};

/// Registers the undos it is given and fails; `fails(undo, attempt)` says which undos fail.
fn stage(
    name: &str,
    notes: &Notes,
    fails: fn(u32, u32) -> Option<Failure>,
) -> impl Stage<Input = Vec<u32>, Output = Vec<u32>, Undo = u32> + Clone + Send + use<> {
    let notes = notes.clone();
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
        notes.note(format!("{undo}.{}", cancel.attempt()));
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
    let notes = Notes::default();
    let fails = |undo, attempt| (undo == 1 && attempt < 3).then(|| Failure::new("busy"));
    let work = stage("s", &notes, fails).cancel_retry(Retry::constant(2, ms(50)));
    let began = std::time::Instant::now();
    let report = one(work, &[1, 2]);
    assert_eq!(notes.all(), ["1.1", "1.2", "1.3", "2.1"]);
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in s: no; 2 undos taken back"
    );
    assert!(report.stuck.is_empty());
    // The clock of the pipeline waited; nobody else did.
    assert!(report.elapsed >= ms(100), "{:?}", report.elapsed);
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn g09_failed_undos_get_a_second_round_after_the_rest() {
    let notes = Notes::default();
    let fails = |undo, attempt| match (undo, attempt) {
        (1, ..3) => Some(Failure::new("blocked by 2")),
        (3, 1) => Some(Failure::permanent("at first")),
        _ => None,
    };
    let work = stage("s", &notes, fails).cancel_retry(Retry::constant(1, ms(10)));
    let report = one(work, &[1, 2, 3, 4]);
    assert_eq!(
        notes.all(),
        ["1.1", "1.2", "2.1", "3.1", "4.1", "1.3", "3.2"]
    );
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 4 }
    );
}

#[test]
fn g09_undos_that_are_left_are_listed_in_the_report() {
    let notes = Notes::default();
    let fails = |undo, _| match undo {
        2 => Some(Failure::permanent("gone")),
        3 => Some(Failure::new("busy")),
        _ => None,
    };
    let work = stage("s", &notes, fails).cancel_retry(Retry::constant(1, ms(10)));
    let report = one(work, &[1, 2, 3, 4]);
    assert_eq!(
        notes.all(),
        ["1.1", "2.1", "3.1", "3.2", "4.1", "2.2", "3.3"]
    );
    assert_eq!(
        summary(&report.last_failures[0]),
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
    let notes = Notes::default();
    let fails = |_, attempt| (attempt == 1).then(|| Failure::permanent("at first"));
    let report = still(
        Pipeline::new("lifo rounds")
            .order(Order::Lifo)
            .producer(from_iter([vec![1, 2, 3]]))
            .stage(stage("s", &notes, fails))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(notes.all(), ["3.1", "2.1", "1.1", "3.2", "2.2", "1.2"]);
    assert!(report.stuck.is_empty());
}

#[test]
fn g09_halt_stops_at_the_first_undo_that_fails_for_good() {
    let notes = Notes::default();
    let fails = |undo, _| (undo == 2).then(|| Failure::permanent("gone"));
    let work = stage("s", &notes, fails).on_stuck(OnStuck::Halt);
    let report = one(work, &[1, 2, 3]);
    assert_eq!(notes.all(), ["1.1", "2.1"]);
    assert_eq!(
        summary(&report.last_failures[0]),
        "failed in s: no; stuck: s: 2 (gone), s: 3 (not tried)"
    );
}

#[test]
fn g09_an_undo_that_hangs_fails_at_its_timeout() {
    let notes = Notes::default();
    still(async {
        let noted = notes.clone();
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
            summary(&outcome),
            "failed in s: no; stuck: s: 1 (the cancel took longer than 100ms)"
        );
        // Two attempts with a delay between, and the second round's one.
        assert_eq!(since(began), 310);
    });
    assert_eq!(notes.all(), ["1", "2", "3"]);
}

/// A stage value that is counted while it exists.
struct Counted {
    _held: Held,
    notes: Notes,
}

impl Stage for Counted {
    type Input = Do;
    type Output = Do;
    type Undo = u32;

    async fn run(&mut self, what: Do, task: &TaskContext<'_, u32>) -> Result<Do, Failure> {
        task.on_cancel(1).await?;
        act(what).await
    }

    async fn cancel(&mut self, _: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.notes.note("cancel");
        sleep(5).await;
        Ok(())
    }
}

#[test]
fn g09_undos_run_while_every_worker_hangs() {
    let notes = Notes::default();
    still(async {
        let values = Gauge::default();
        let (counted, noted) = (values.clone(), notes.clone());
        let handle = Pipeline::new("hangs")
            .stage(
                Work::with("hangs", move || Counted {
                    _held: counted.hold(),
                    notes: noted.clone(),
                })
                .workers(3)
                .capacity(50),
            )
            .stage(acting("fails").capacity(50).workers(9))
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
        assert!(values.most() <= 4, "{}", values.most());
        assert_eq!(handle.snapshot().stages[0].workers, 3);
        handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(values.alive(), 0);
    });
    assert!(notes.all().len() >= 3);
}

#[test]
fn g09_an_undo_runs_before_new_work() {
    let notes = Notes::default();
    still(async {
        let (ran, undid) = (notes.clone(), notes.clone());
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
    let undone = notes.all().iter().position(|line| line == "undo 0");
    assert!(undone.unwrap() <= 2, "{:?}", notes.all());
}
