//! Stuck tasks that are tried again: by a person, all at once, or by themselves.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use batrun::{
    TrySubmitError,
    error::RetryError,
    policy::OnStuck,
    prelude::*,
    state::{Stuck, TaskId},
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::support::{Notes, ms, since, sleep, still, summary};

/// A bank that takes payments at any time, and refunds only while it is open.
#[derive(Clone, Default)]
struct Bank {
    down: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    /// It closes after the next refund.
    closes_soon: Arc<AtomicBool>,
    notes: Notes,
}

impl Bank {
    fn closed() -> Self {
        let bank = Bank::default();
        bank.down.store(true, Ordering::SeqCst);
        bank
    }

    fn opens(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    fn closes(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    fn opens_for_one(&self) {
        self.closes_soon.store(true, Ordering::SeqCst);
        self.opens();
    }

    /// Pays twice, then fails.
    fn pay(&self) -> Work<impl Stage<Input = u32, Output = u32, Undo = String> + use<>> {
        let bank = self.clone();
        stage_fn("pay", async |n: u32, task: &TaskContext<'_, String>| {
            task.on_cancel(format!("first of {n}")).await?;
            task.on_cancel(format!("second of {n}")).await?;
            Err::<u32, _>(Failure::permanent("the order can't be sent"))
        })
        .cancel_with(async move |undo: String, cancel: &CancelContext<'_>| {
            bank.notes.note(format!("{undo}, try {}", cancel.attempt()));
            if bank.hangs.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            match bank.down.load(Ordering::SeqCst) {
                true => Err(Failure::permanent("the bank is closed")),
                false => {
                    let closes = bank.closes_soon.swap(false, Ordering::SeqCst);
                    bank.down.store(closes, Ordering::SeqCst);
                    Ok(())
                }
            }
        })
        .into_work()
    }
}

async fn start(pipeline: Pipeline<u32>, bank: &Bank) -> PipelineHandle<u32, u32> {
    let pipeline = pipeline.stage(bank.pay()).current_arbiter();
    pipeline.start().await.unwrap()
}

async fn outcome(handle: &PipelineHandle<u32, u32>, n: u32) -> String {
    let ticket = handle.submit(n).await.unwrap();
    summary(&ticket.outcome().await.unwrap())
}

#[test]
fn g09_d03_a_stuck_task_is_retried_while_the_pipeline_runs() {
    let bank = Bank::closed();
    still(async {
        let handle = start(Pipeline::new("orders"), &bank).await;
        let stuck = outcome(&handle, 1).await;
        assert!(stuck.contains("stuck"), "{stuck}");
        assert_eq!(handle.stuck().len(), 1);
        bank.opens();
        bank.notes.clear();
        let mut outcomes = handle.outcomes();
        handle.retry(TaskId(1)).unwrap();
        assert!(handle.stuck().is_empty());
        assert_eq!(handle.snapshot().in_flight, 1);
        let again = outcomes.next().await.unwrap().unwrap();
        assert_eq!(
            summary(&again),
            "failed in pay: the order can't be sent; 2 undos taken back"
        );
        // Each undo had two tries before: one, and one in the second round.
        assert_eq!(
            bank.notes.all(),
            ["first of 1, try 3", "second of 1, try 3"]
        );
        assert_eq!(handle.snapshot().in_flight, 0);
        let counts = handle.snapshot().counts;
        assert_eq!((counts.accepted, counts.failed), (2, 2));
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g09_d03_only_what_is_left_runs_again() {
    let bank = Bank::closed();
    still(async {
        let pay = bank.pay().on_stuck(OnStuck::Halt);
        let pipeline = Pipeline::new("orders").order(Order::Lifo).stage(pay);
        let handle = pipeline.current_arbiter().start().await.unwrap();
        outcome(&handle, 1).await;
        // The second runs, then the bank closes again.
        bank.opens_for_one();
        bank.notes.clear();
        let mut outcomes = handle.outcomes();
        handle.retry(TaskId(1)).unwrap();
        let halted = outcomes.next().await.unwrap().unwrap();
        assert!(halted.rollback.is_stuck(), "{halted}");
        assert_eq!(
            bank.notes.all(),
            ["second of 1, try 2", "first of 1, try 1"]
        );
        assert_eq!(handle.stuck()[0].undos.len(), 1);
        bank.opens();
        bank.notes.clear();
        handle.retry(TaskId(1)).unwrap();
        let again = outcomes.next().await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        assert_eq!(bank.notes.all(), ["first of 1, try 2"]);
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g09_d03_a_full_list_of_stuck_tasks_empties_without_a_stop() {
    let bank = Bank::closed();
    still(async {
        let handle = start(Pipeline::new("orders").max_stuck(100), &bank).await;
        for n in 0..100 {
            outcome(&handle, n).await;
        }
        let refused = handle.submit(100).await.map(drop).unwrap_err();
        assert!(matches!(refused, SubmitError::Stuck(100)));
        assert!(refused.to_string().contains("retry_all"), "{refused}");
        bank.opens();
        let mut outcomes = handle.outcomes();
        let even = |stuck: &Stuck| stuck.task.0.is_multiple_of(2);
        let retried = handle.retry_all(even);
        assert_eq!(retried.iter().filter(|retried| retried.is_ok()).count(), 50);
        for _ in 0..50 {
            let again = outcomes.next().await.unwrap().unwrap();
            assert!(matches!(again.rollback, Rollback::Complete { undos: 2 }));
        }
        assert_eq!(handle.stuck().len(), 50);
        // The bank is open, so this one is taken back.
        assert!(outcome(&handle, 100).await.contains("2 undos taken back"));
        handle.shutdown(Shutdown::Drain(ms(1_000))).await.unwrap();
    });
}

#[test]
fn g09_d03_more_tasks_than_places_are_retried_at_once() {
    let bank = Bank::closed();
    still(async {
        let handle = start(Pipeline::new("orders").max_in_flight(2), &bank).await;
        for n in 0..20 {
            outcome(&handle, n).await;
        }
        bank.opens();
        let mut outcomes = handle.outcomes();
        assert!(handle.retry_all(|_| true).iter().all(Result::is_ok));
        for _ in 0..20 {
            outcomes.next().await.unwrap().unwrap();
        }
        // All places are there again, and no more.
        outcome(&handle, 20).await;
        assert_eq!(handle.snapshot().in_flight, 0);
        let closed = bank.clone();
        closed.closes();
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g07_d03_a_retried_task_takes_a_place() {
    let bank = Bank::closed();
    still(async {
        let handle = start(Pipeline::new("orders").max_in_flight(2), &bank).await;
        for n in 1..=2 {
            outcome(&handle, n).await;
        }
        bank.opens();
        bank.notes.clear();
        bank.hangs.store(true, Ordering::SeqCst);
        let mut outcomes = handle.outcomes();
        assert!(handle.retry_all(|_| true).iter().all(Result::is_ok));
        while bank.notes.all().len() < 2 {
            sleep(1).await;
        }
        let full = handle.try_submit(3).map(drop);
        assert!(matches!(full, Err(TrySubmitError::Full(3))), "{full:?}");
        // It gives it back, once.
        bank.hangs.store(false, Ordering::SeqCst);
        for _ in 0..2 {
            outcomes.next().await.unwrap().unwrap();
        }
        bank.notes.clear();
        bank.hangs.store(true, Ordering::SeqCst);
        for n in 4..=5 {
            handle.submit(n).await.unwrap();
        }
        while bank.notes.all().len() < 2 {
            sleep(1).await;
        }
        let full = handle.try_submit(6).map(drop);
        assert!(matches!(full, Err(TrySubmitError::Full(6))), "{full:?}");
        bank.hangs.store(false, Ordering::SeqCst);
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g09_d03_refused_retries_say_why_and_change_nothing() {
    let bank = Bank::closed();
    still(async {
        let handle = start(Pipeline::new("orders"), &bank).await;
        assert_eq!(
            handle.retry(TaskId(1)),
            Err(RetryError::NotStuck(TaskId(1)))
        );
        outcome(&handle, 1).await;
        assert_eq!(
            handle.retry(TaskId(2)),
            Err(RetryError::NotStuck(TaskId(2)))
        );
        handle.retry(TaskId(1)).unwrap();
        // It is on its way already.
        assert_eq!(
            handle.retry(TaskId(1)),
            Err(RetryError::NotStuck(TaskId(1)))
        );
        while handle.stuck().is_empty() {
            sleep(1).await;
        }
        handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(handle.retry(TaskId(1)), Err(RetryError::Closed(TaskId(1))));
        assert_eq!(handle.stuck().len(), 1);
    });
}

#[test]
fn g09_d03_a_resolved_task_is_not_retried() {
    let bank = Bank::closed();
    still(async {
        let retry = Retry::constant(3, ms(1_000));
        let handle = start(Pipeline::new("orders").retry_stuck(retry), &bank).await;
        outcome(&handle, 1).await;
        assert!(handle.resolve(TaskId(1)));
        bank.notes.clear();
        sleep(10_000).await;
        assert!(bank.notes.all().is_empty());
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g09_d03_stuck_tasks_are_retried_on_a_slow_schedule() {
    let bank = Bank::closed();
    still(async {
        let retry = Retry::constant(3, ms(600_000));
        let handle = start(Pipeline::new("orders").retry_stuck(retry), &bank).await;
        let began = Instant::now();
        outcome(&handle, 1).await;
        let mut outcomes = handle.outcomes();
        for round in 1..=3 {
            let again = outcomes.next().await.unwrap().unwrap();
            assert!(again.rollback.is_stuck(), "{again}");
            assert_eq!(since(began) / 600_000, round);
        }
        // Three were allowed, and a person may try again at any time.
        bank.notes.clear();
        sleep(3_600_000).await;
        assert!(bank.notes.all().is_empty());
        bank.opens();
        handle.retry(TaskId(1)).unwrap();
        let again = outcomes.next().await.unwrap().unwrap();
        assert!(!again.rollback.is_stuck(), "{again}");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn g12_d03_a_pipeline_ends_without_waiting_for_retries() {
    let bank = Bank::closed();
    still(async {
        let retry = Retry::constant(3, ms(600_000));
        let handle = start(Pipeline::new("orders").retry_stuck(retry), &bank).await;
        outcome(&handle, 1).await;
        let began = Instant::now();
        let report = handle.shutdown(Shutdown::Drain(ms(60_000_000))).await;
        assert_eq!(report.unwrap().stuck.len(), 1);
        assert!(since(began) < 600_000);
        bank.notes.clear();
        sleep(3_600_000).await;
        assert!(bank.notes.all().is_empty());
    });
}

#[cfg(feature = "journal")]
mod with_a_journal {
    use batrun::{journal::Durability, testing::Disk};

    use super::*;
    use crate::support::until;

    async fn start_on(disk: &Disk, bank: &Bank) -> PipelineHandle<u32, u32> {
        let journal = disk.journal(Durability::Power).unwrap();
        let pipeline = Pipeline::new("orders").journal(journal);
        let pipeline = pipeline.stage(bank.pay()).current_arbiter();
        pipeline.start().await.unwrap()
    }

    async fn kill(disk: &Disk, handle: PipelineHandle<u32, u32>) {
        disk.kill();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
    }

    #[actix::test]
    async fn j1_d03_a_task_of_the_process_before_is_retried() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let handle = start_on(&disk, &bank).await;
        handle.submit(1).key("one").await.unwrap();
        handle.outcome_of("one").await.unwrap().unwrap();
        kill(&disk, handle).await;
        bank.opens();
        bank.notes.clear();
        let handle = start_on(&disk, &bank).await;
        assert_eq!(handle.stuck().len(), 1);
        handle.retry(TaskId(1)).unwrap();
        let again = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        assert_eq!(
            bank.notes.all(),
            ["first of 1, try 3", "second of 1, try 3"]
        );
        // That is its outcome from now on.
        kill(&disk, handle).await;
        let handle = start_on(&disk, &bank).await;
        assert!(handle.stuck().is_empty());
        let kept = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(kept.rollback, Rollback::Complete { undos: 2 }),
            "{kept}"
        );
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn j2_d03_a_retry_goes_on_after_a_kill() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let handle = start_on(&disk, &bank).await;
        handle.submit(1).key("one").await.unwrap();
        handle.outcome_of("one").await.unwrap().unwrap();
        bank.notes.clear();
        bank.hangs.store(true, Ordering::SeqCst);
        handle.retry(TaskId(1)).unwrap();
        until(|| !bank.notes.all().is_empty()).await;
        kill(&disk, handle).await;
        bank.hangs.store(false, Ordering::SeqCst);
        bank.opens();
        bank.notes.clear();
        let handle = start_on(&disk, &bank).await;
        let again = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        assert!(handle.stuck().is_empty());
        // The tries that a retry has made count, and those before it.
        assert_eq!(bank.notes.all()[1], "second of 1, try 3");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn j3_d03_what_ran_before_a_kill_does_not_run_again_in_a_retry() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        bank.opens_for_one();
        let handle = start_on(&disk, &bank).await;
        handle.submit(1).key("one").await.unwrap();
        let stuck = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(stuck.rollback.is_stuck(), "{stuck}");
        kill(&disk, handle).await;
        bank.opens();
        bank.notes.clear();
        let handle = start_on(&disk, &bank).await;
        handle.retry(TaskId(1)).unwrap();
        let again = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        assert_eq!(bank.notes.all(), ["second of 1, try 3"]);
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn j1_d03_the_kills_before_a_retry_do_not_count() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let start = || {
            let journal = disk.journal(Durability::Power).unwrap();
            let pipeline = Pipeline::new("orders").journal(journal).crash_limit(2);
            pipeline.stage(bank.pay()).current_arbiter().start()
        };
        let handle = start().await.unwrap();
        handle.submit(1).key("one").await.unwrap();
        handle.outcome_of("one").await.unwrap().unwrap();
        kill(&disk, handle).await;
        bank.opens();
        // Twice the process is killed while the same undo runs, so that it is left to a person.
        bank.hangs.store(true, Ordering::SeqCst);
        for round in 0..2 {
            bank.notes.clear();
            let handle = start().await.unwrap();
            if round == 0 {
                handle.retry(TaskId(1)).unwrap();
            }
            until(|| !bank.notes.all().is_empty()).await;
            kill(&disk, handle).await;
        }
        bank.notes.clear();
        let handle = start().await.unwrap();
        assert_eq!(handle.stuck().len(), 1);
        handle.retry(TaskId(1)).unwrap();
        until(|| !bank.notes.all().is_empty()).await;
        kill(&disk, handle).await;
        // One more kill is not one too many.
        bank.hangs.store(false, Ordering::SeqCst);
        let handle = start().await.unwrap();
        let again = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn g09_d03_tasks_of_the_process_before_are_retried_on_the_schedule() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let handle = start_on(&disk, &bank).await;
        handle.submit(1).key("one").await.unwrap();
        handle.outcome_of("one").await.unwrap().unwrap();
        kill(&disk, handle).await;
        bank.opens();
        let journal = disk.journal(Durability::Power).unwrap();
        let pipeline = Pipeline::new("orders").journal(journal);
        let pipeline = pipeline.retry_stuck(Retry::constant(1, ms(1)));
        let handle = pipeline.stage(bank.pay()).current_arbiter().start();
        let handle = handle.await.unwrap();
        until(|| handle.stuck().is_empty()).await;
        let again = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(
            matches!(again.rollback, Rollback::Complete { undos: 2 }),
            "{again}"
        );
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn j4_d03_a_retry_that_is_not_recorded_runs_nothing() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let handle = start_on(&disk, &bank).await;
        handle.submit(1).key("one").await.unwrap();
        handle.outcome_of("one").await.unwrap().unwrap();
        bank.notes.clear();
        disk.fail(batrun::testing::DiskFault::Write, 0);
        handle.retry(TaskId(1)).unwrap();
        handle.ended().await.unwrap();
        assert!(bank.notes.all().is_empty());
        let handle = start_on(&disk, &bank).await;
        assert_eq!(handle.stuck().len(), 1);
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }

    #[actix::test]
    async fn j1_a_stuck_task_keeps_its_key_until_it_is_resolved() {
        let (disk, bank) = (Disk::new(), Bank::closed());
        let start = || {
            let journal = disk.journal(Durability::Power).unwrap().keep_most(0);
            let pipeline = Pipeline::new("orders").journal(journal);
            pipeline.stage(bank.pay()).current_arbiter().start()
        };
        let handle = start().await.unwrap();
        let first = handle.submit(1).key("one").await.unwrap();
        first.outcome().await.unwrap();
        // Its outcome is dropped with the next commits.
        for n in 2..4 {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        let second = handle.submit(1).key("one").await.unwrap();
        assert!(second.is_known());
        assert!(second.outcome().await.unwrap().rollback.is_stuck());
        assert!(handle.resolve(TaskId(1)));
        for n in 4..6 {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        let third = handle.submit(1).key("one").await.unwrap();
        assert!(!third.is_known());
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }
}
