//! Tasks that were at work at several kills: any of them may be what kills the process, so they go on one at
//! a time.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use batrun::{
    Error, PipelineHandle,
    error::{BuildError, FailureKind},
    prelude::*,
    stage::Durable,
    state::{End, Rollback, TaskId},
    testing::Disk,
};

use crate::support::{AT_MOST, DRAIN, Notes, on_disk, sleep, until};

type Handle = PipelineHandle<u32, u32>;

/// The tasks that a stage, or an undo, doesn't return from.
#[derive(Clone, Copy)]
enum Hangs {
    No,
    At(u32),
    All,
}

impl Hangs {
    fn at(self, task: u32) -> bool {
        match self {
            Hangs::No => false,
            Hangs::At(at) => at == task,
            Hangs::All => true,
        }
    }
}

#[derive(Clone)]
struct Step {
    notes: Notes,
    registers: bool,
    run: Hangs,
    undo: Hangs,
    let_go: Arc<AtomicBool>,
    at_work: Arc<AtomicUsize>,
    most_at_work: Arc<AtomicUsize>,
}

impl Stage for Step {
    type Input = u32;
    type Output = u32;
    type Undo = u32;

    fn name(&self) -> String {
        "step".to_owned()
    }

    async fn run(&mut self, task: u32, context: &TaskContext<'_, u32>) -> Result<u32, Failure> {
        if self.registers {
            context.on_cancel(task).await?;
        }
        self.notes.note(format!("start {task}"));
        let at_work = 1 + self.at_work.fetch_add(1, Ordering::SeqCst);
        self.most_at_work.fetch_max(at_work, Ordering::SeqCst);
        if self.run.at(task) {
            pending::<()>().await;
        }
        sleep(1).await;
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        Ok(task)
    }

    async fn cancel(&mut self, task: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.notes.note(format!("undo {task}"));
        while self.undo.at(task) && !self.let_go.load(Ordering::SeqCst) {
            sleep(1).await;
        }
        self.notes.note(format!("undone {task}"));
        Ok(())
    }
}

/// A world over several processes.
struct Scene {
    disk: Disk,
    step: Step,
    limit: Option<u32>,
}

impl Scene {
    fn new(registers: bool) -> Self {
        Scene {
            disk: Disk::new(),
            step: Step {
                notes: Notes::default(),
                registers,
                run: Hangs::All,
                undo: Hangs::No,
                let_go: Arc::default(),
                at_work: Arc::default(),
                most_at_work: Arc::default(),
            },
            limit: None,
        }
    }

    fn limit(mut self, kills: u32) -> Self {
        self.limit = Some(kills);
        self
    }

    fn notes(&self) -> &Notes {
        &self.step.notes
    }

    fn pipeline(&self) -> Pipeline<u32, u32, Durable> {
        let pipeline = Pipeline::new("p").journal(on_disk(&self.disk));
        match self.limit {
            Some(limit) => pipeline.crash_limit(limit),
            None => pipeline,
        }
    }

    async fn start(&self, run: Hangs, undo: Hangs) -> Handle {
        self.notes().clear();
        self.step.at_work.store(0, Ordering::SeqCst);
        self.step.most_at_work.store(0, Ordering::SeqCst);
        let step = Step {
            run,
            undo,
            ..self.step.clone()
        };
        self.pipeline()
            .stage(step.workers(10))
            .start()
            .await
            .unwrap()
    }

    /// Starts a pipeline whose tasks all hang, and waits until so many are at work.
    async fn start_hanging(&self, tasks: usize) -> Handle {
        let handle = self.start(Hangs::All, Hangs::No).await;
        until(|| self.notes().of("start ").len() == tasks).await;
        handle
    }

    async fn kill(&self, handle: Handle) {
        // Changes that nobody waits for are written a little later.
        let mut syncs = u64::MAX;
        while std::mem::replace(&mut syncs, self.disk.syncs()) != syncs {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.disk.kill();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
    }

    /// The first process accepts so many tasks and is killed while all are at work.
    async fn kill_at_work(&self, tasks: u32) {
        let handle = self.start(Hangs::All, Hangs::No).await;
        submit(&handle, tasks).await;
        until(|| self.notes().of("start ").len() == tasks as usize).await;
        self.kill(handle).await;
    }

    fn most_at_work(&self) -> usize {
        self.step.most_at_work.load(Ordering::SeqCst)
    }
}

/// Task n has the key n and the number n + 1.
async fn submit(handle: &Handle, tasks: u32) {
    for task in 0..tasks {
        handle.submit(task).key(task.to_string()).await.unwrap();
    }
}

async fn outcome(handle: &Handle, task: u32) -> Outcome<u32> {
    let outcome = handle.outcome_of(&task.to_string()).await.unwrap().unwrap();
    assert_eq!(outcome.task, TaskId(task as u64 + 1));
    outcome
}

fn is_interrupted(outcome: &Outcome<u32>) -> bool {
    matches!(&outcome.end, End::Failed { failure, .. } if failure.kind() == FailureKind::Interrupted)
}

async fn nine_of_ten_are_done(registers: bool) {
    let scene = Scene::new(registers);
    scene.kill_at_work(10).await;
    let handle = scene.start_hanging(10).await;
    scene.kill(handle).await;

    let handle = scene.start(Hangs::At(4), Hangs::No).await;
    until(|| scene.notes().has("start 4")).await;
    scene.kill(handle).await;
    // Each came after the one before was done, and those behind the fifth have not begun.
    assert_eq!(scene.notes().of("start "), ["0", "1", "2", "3", "4"]);
    let undos = if registers { 5 } else { 0 };
    assert_eq!(scene.notes().of("undone ").len(), undos);
    assert_eq!(scene.most_at_work(), 1);

    let handle = scene.start(Hangs::At(4), Hangs::No).await;
    for task in 0..10 {
        let outcome = outcome(&handle, task).await;
        if task == 4 {
            assert!(is_interrupted(&outcome), "{outcome}");
        } else {
            assert!(outcome.is_done(), "{outcome}");
        }
    }
    assert_eq!(scene.notes().of("start "), ["5", "6", "7", "8", "9"]);
    assert_eq!(scene.most_at_work(), 1);
    // Afterwards tasks run side by side as ever.
    let handle = {
        handle.shutdown(DRAIN).await.unwrap();
        scene.start(Hangs::All, Hangs::No).await
    };
    for task in 20..22 {
        handle.submit(task).await.unwrap();
    }
    until(|| scene.most_at_work() == 2).await;
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_d04_one_task_that_kills_the_process_takes_no_other_along() {
    nine_of_ten_are_done(false).await;
}

#[actix::test]
async fn j1_d04_one_task_with_undos_that_kills_the_process_takes_no_other_along() {
    nine_of_ten_are_done(true).await;
}

#[actix::test]
async fn j1_d04_an_undo_that_kills_the_process_takes_no_other_along() {
    let scene = Scene::new(true);
    let handle = scene.start(Hangs::All, Hangs::All).await;
    submit(&handle, 10).await;
    until(|| scene.notes().of("start ").len() == 10).await;
    for task in 1..=10 {
        assert!(handle.cancel(TaskId(task)));
    }
    until(|| scene.notes().of("undo ").len() == 10).await;
    scene.kill(handle).await;
    let handle = scene.start(Hangs::All, Hangs::All).await;
    until(|| scene.notes().of("undo ").len() == 10).await;
    scene.kill(handle).await;

    let handle = scene.start(Hangs::All, Hangs::At(4)).await;
    until(|| scene.notes().has("undo 4")).await;
    scene.kill(handle).await;
    assert_eq!(scene.notes().of("undo "), ["0", "1", "2", "3", "4"]);

    let handle = scene.start(Hangs::All, Hangs::At(4)).await;
    for task in 0..10 {
        let outcome = outcome(&handle, task).await;
        if task == 4 {
            assert!(outcome.rollback.is_stuck(), "{outcome}");
        } else {
            assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
            assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
        }
    }
    assert_eq!(scene.notes().of("undo "), ["5", "6", "7", "8", "9"]);
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_d04_a_suspect_that_waits_can_be_cancelled() {
    let scene = Scene::new(true).limit(2);
    scene.kill_at_work(3).await;
    let handle = scene.start(Hangs::At(0), Hangs::No).await;
    until(|| scene.notes().has("start 0")).await;
    assert!(handle.cancel(TaskId(2)));
    let cancelled = outcome(&handle, 1).await;
    assert!(
        matches!(cancelled.end, End::Cancelled { .. }),
        "{cancelled}"
    );
    assert_eq!(cancelled.rollback, Rollback::Complete { undos: 1 });
    // The first one is still at work, and the third one's turn comes once it has ended.
    assert_eq!(scene.notes().of("start "), ["0"]);
    assert!(handle.cancel(TaskId(1)));
    assert!(outcome(&handle, 2).await.is_done());
    assert_eq!(scene.notes().of("start "), ["0", "2"]);
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_d04_a_suspect_that_waits_runs_into_its_deadline() {
    let scene = Scene::new(true).limit(2);
    let handle = scene.start(Hangs::All, Hangs::No).await;
    submit(&handle, 1).await;
    let late = handle.submit(1).key("1").timeout(Duration::from_secs(2));
    late.await.unwrap();
    until(|| scene.notes().of("start ").len() == 2).await;
    scene.kill(handle).await;
    let handle = scene.start(Hangs::At(0), Hangs::No).await;
    let late = outcome(&handle, 1).await;
    assert!(matches!(late.end, End::TimedOut { .. }), "{late}");
    assert_eq!(late.rollback, Rollback::Complete { undos: 1 });
    assert!(!scene.notes().has("start 1"));
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_d04_a_suspects_undo_waits_for_its_turn_even_if_the_task_is_cancelled() {
    let scene = Scene::new(true);
    scene.kill_at_work(2).await;
    // Their clean-ups are interrupted twice.
    for _ in 0..2 {
        let handle = scene.start(Hangs::All, Hangs::All).await;
        until(|| scene.notes().of("undo ").len() == 2).await;
        scene.kill(handle).await;
    }
    let handle = scene.start(Hangs::No, Hangs::All).await;
    until(|| scene.notes().has("undo 0")).await;
    assert!(handle.cancel(TaskId(2)));
    sleep(20).await;
    assert_eq!(scene.notes().all(), ["undo 0"]);
    scene.step.let_go.store(true, Ordering::SeqCst);
    assert!(outcome(&handle, 0).await.is_done());
    let cancelled = outcome(&handle, 1).await;
    assert!(
        matches!(cancelled.end, End::Cancelled { .. }),
        "{cancelled}"
    );
    assert_eq!(
        scene.notes().all(),
        ["undo 0", "undone 0", "start 0", "undo 1", "undone 1"]
    );
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn g11_d04_a_drain_lets_suspects_finish_one_after_the_other() {
    let scene = Scene::new(false).limit(2);
    scene.kill_at_work(10).await;
    let handle = scene.start(Hangs::No, Hangs::No).await;
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!(report.counts.done, 10);
    assert_eq!(scene.notes().of("start ").len(), 10);
    assert_eq!(scene.most_at_work(), 1);
}

#[actix::test]
async fn g11_d04_an_abort_rolls_back_suspects_that_wait() {
    for registers in [false, true] {
        let scene = Scene::new(registers).limit(2);
        scene.kill_at_work(10).await;
        let handle = scene.start(Hangs::All, Hangs::No).await;
        until(|| scene.notes().has("start 0")).await;
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(report.counts.cancelled, 10);
        assert!(report.stuck.is_empty());
        assert_eq!(scene.notes().of("start "), ["0"]);
        // Those of the first attempts, and the one of the first task's second attempt.
        let undos = if registers { 11 } else { 0 };
        assert_eq!(scene.notes().of("undone ").len(), undos);
    }
}

#[actix::test]
async fn g11_d04_a_suspension_leaves_suspects_where_they_are() {
    let scene = Scene::new(true).limit(2);
    scene.kill_at_work(3).await;
    let handle = scene.start(Hangs::At(0), Hangs::No).await;
    until(|| scene.notes().has("start 0")).await;
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    let handle = scene.start(Hangs::No, Hangs::No).await;
    for task in 0..3 {
        assert!(outcome(&handle, task).await.is_done());
    }
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_d04_a_task_at_work_at_as_many_kills_as_the_limit_fails() {
    for limit in [1, 5] {
        let scene = Scene::new(true).limit(limit);
        scene.kill_at_work(1).await;
        for _ in 1..limit {
            let handle = scene.start_hanging(1).await;
            scene.kill(handle).await;
        }
        let handle = scene.start(Hangs::No, Hangs::No).await;
        let failed = outcome(&handle, 0).await;
        assert!(is_interrupted(&failed), "limit {limit}: {failed}");
        assert!(!scene.notes().has("start 0"));
        handle.shutdown(Shutdown::Drain(AT_MOST)).await.unwrap();
    }
}

#[actix::test]
async fn g13_d04_a_crash_limit_of_zero_is_refused() {
    let scene = Scene::new(false).limit(0);
    let refused = scene.pipeline().stage(scene.step.clone()).start().await;
    let Err(Error::Build(BuildError::ZeroCrashLimit(pipeline))) = refused else {
        panic!("accepted")
    };
    assert_eq!(pipeline, "p");
}
