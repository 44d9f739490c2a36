//! A restart finds the tasks that a kill interrupted, and resumes them or rolls them back.

use std::time::Duration;

use batrun::{
    journal::{Journal, JournalFile},
    policy::Recovery,
    prelude::*,
    state::{End, Rollback, TaskId},
    testing::Disk,
};
use serde::{Deserialize, Serialize};

use crate::support::{Notes, journal_path, on_disk, until};

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Order {
    number: u32,
    item: String,
}

fn order(number: u32) -> Order {
    Order {
        number,
        item: format!("item {number}"),
    }
}

/// Registers an undo, notes what it does, and hangs at the orders that it is told to hang at.
#[derive(Clone)]
struct Step {
    name: &'static str,
    notes: Notes,
    hangs_at: Option<u32>,
}

impl Step {
    fn new(name: &'static str, notes: &Notes) -> Self {
        Step {
            name,
            notes: notes.clone(),
            hangs_at: None,
        }
    }

    fn hanging_at(self, number: u32) -> Self {
        Step {
            hangs_at: Some(number),
            ..self
        }
    }
}

impl Stage for Step {
    type Input = Order;
    type Output = Order;
    type Undo = String;

    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn run(
        &mut self,
        order: Order,
        task: &TaskContext<'_, String>,
    ) -> Result<Order, Failure> {
        let name = self.name;
        task.on_cancel(format!("{name} {}", order.number)).await?;
        self.notes.note(format!("{name} {}", order.number));
        if self.hangs_at == Some(order.number) {
            std::future::pending::<()>().await;
        }
        Ok(order)
    }

    async fn cancel(&mut self, undo: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.notes.note(format!("undo {undo}"));
        Ok(())
    }
}

#[actix::test]
async fn j1_tasks_resume_where_they_were() {
    let disk = Disk::new();
    let notes = Notes::default();
    let start = |hangs: bool| {
        let second = Step::new("second", &notes);
        Pipeline::new("orders")
            .journal(on_disk(&disk))
            .stage(Step::new("first", &notes))
            .stage(if hangs { second.hanging_at(1) } else { second })
            .start()
    };
    let handle = start(true).await.unwrap();
    let ticket = handle.submit(order(1)).key("one").await.unwrap();
    until(|| notes.has("second 1")).await;
    disk.kill();
    drop(ticket);
    handle.shutdown(Shutdown::Suspend).await.unwrap();

    notes.clear();
    let handle = start(false).await.unwrap();
    let outcome = handle.outcome_of("one").await.unwrap().unwrap();
    assert!(outcome.is_done(), "{outcome}");
    assert_eq!(outcome.output, Some(order(1)));
    assert_eq!(outcome.task, TaskId(1));
    // The undo of the interrupted attempt runs, and the first stage doesn't run again.
    assert_eq!(notes.all(), ["undo second 1", "second 1"]);
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(report.counts.accepted, 1);
    assert_eq!(report.counts.done, 1);
}

#[actix::test]
async fn j1_a_journal_in_a_file_keeps_outcomes_over_restarts() {
    let (_folder, path) = journal_path();
    let notes = Notes::default();
    for run in 0..3 {
        let handle = Pipeline::new("orders")
            .journal(Journal::open(&path).unwrap())
            .stage(Step::new("first", &notes))
            .start()
            .await
            .unwrap();
        for number in 0..10 {
            let key = format!("{run} {number}");
            let ticket = handle.submit(order(number)).key(key).await.unwrap();
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        if run > 0 {
            let kept = handle.outcome_of("0 7").await.unwrap().unwrap();
            assert_eq!(kept.output, Some(order(7)));
            assert_eq!(kept.task, TaskId(8));
        }
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }
}

#[actix::test]
async fn j1_recovery_roll_back_runs_the_undos_of_every_task() {
    let disk = Disk::new();
    let notes = Notes::default();
    let start = |recovery| {
        Pipeline::new("orders")
            .journal(on_disk(&disk))
            .recovery(recovery)
            .stage(Step::new("first", &notes))
            .stage(Step::new("second", &notes).hanging_at(1))
            .start()
    };
    let handle = start(Recovery::Resume).await.unwrap();
    handle.submit(order(1)).key("one").await.unwrap();
    until(|| notes.has("second 1")).await;
    disk.kill();
    handle.shutdown(Shutdown::Suspend).await.unwrap();

    notes.clear();
    let handle = start(Recovery::RollBack).await.unwrap();
    let outcome = handle.outcome_of("one").await.unwrap().unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
    assert_eq!(notes.all(), ["undo first 1", "undo second 1"]);
    handle
        .shutdown(Shutdown::Drain(Duration::from_secs(5)))
        .await
        .unwrap();
}

/// Fails its first attempt, then for good, and its later undos hang if told so.
#[derive(Clone)]
struct Fails {
    hangs: bool,
}

impl Stage for Fails {
    type Input = Order;
    type Output = Order;
    type Undo = u32;

    async fn run(&mut self, _: Order, task: &TaskContext<'_, u32>) -> Result<Order, Failure> {
        task.on_cancel(task.attempt()).await?;
        Err(match task.attempt() {
            1 => Failure::new("once"),
            _ => Failure::permanent("again"),
        })
    }

    async fn cancel(&mut self, undo: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
        if undo > 1 && self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[actix::test]
async fn j1_an_outcome_counts_the_undos_that_ran_before_the_kill() {
    let disk = Disk::new();
    let notes = Notes::default();
    let start = |hangs| {
        let retry = Retry::constant(1, Duration::from_millis(1));
        Pipeline::new("orders")
            .journal(on_disk(&disk))
            .stage(Step::new("first", &notes))
            .stage(Fails { hangs }.retry(retry))
            .start()
    };
    let handle = start(true).await.unwrap();
    handle.submit(order(1)).key("one").await.unwrap();
    // The second undo runs once the first one is recorded.
    until(|| {
        let stages = handle.snapshot().stages;
        stages[0].counts.cancelled == 1 && stages[1].counts.failed == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    disk.kill();
    handle.shutdown(Shutdown::Suspend).await.unwrap();

    let handle = start(false).await.unwrap();
    let outcome = handle.outcome_of("one").await.unwrap().unwrap();
    // The one that ran between the two attempts doesn't count.
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j4_a_task_set_aside_keeps_its_stage_version() {
    let (_folder, path) = journal_path();
    let notes = Notes::default();
    let start = |version| {
        Pipeline::new("orders")
            .journal(Journal::open(&path).unwrap())
            .stage(
                Step::new("first", &notes)
                    .version(version)
                    .retry(Retry::none()),
            )
            .start()
    };
    let stop = async |handle: PipelineHandle<Order, Order>| {
        handle.shutdown(Shutdown::Suspend).await.unwrap();
    };
    // Paused, so that the task stays in the queue.
    let handle = start(1).await.unwrap();
    handle.pause();
    handle.submit(order(1)).key("one").await.unwrap();
    stop(handle).await;

    // It never passes for the other version's, however often somebody has it tried again.
    for _ in 0..3 {
        let handle = start(2).await.unwrap();
        let outcome = handle.outcome_of("one").await.unwrap().unwrap();
        assert!(outcome.rollback.is_stuck(), "{outcome}");
        assert!(
            outcome.to_string().contains("this is of version 1"),
            "{outcome}"
        );
        stop(handle).await;
        JournalFile::edit(&path)
            .unwrap()
            .retry(&[TaskId(1)])
            .unwrap();
    }
    let handle = start(1).await.unwrap();
    let outcome = handle.outcome_of("one").await.unwrap().unwrap();
    assert!(outcome.is_done(), "{outcome}");
    stop(handle).await;
    assert_eq!(notes.all(), ["first 1"]);
}
