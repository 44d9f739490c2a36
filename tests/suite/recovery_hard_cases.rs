//! Tasks that a restart can't simply resume: late ones, interrupted ones, those of a stage that has changed,
//! and those that wait for a person.

use std::time::Duration;

use batrun::{
    Error, PipelineHandle,
    error::FailureKind,
    policy::Recovery,
    prelude::*,
    state::{End, Key, Rollback, StopCause, TaskId},
    testing::Disk,
};
use serde::{Deserialize, Serialize};

use crate::support::{DRAIN, Notes, on_disk, until};

/// The behaviour of a stage or of its undos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Do {
    Pass,
    Hang,
    Fail,
}

/// Registers an undo that names it, notes its attempt and key, and does as the task says.
#[derive(Clone)]
struct Acts {
    name: String,
    notes: Notes,
    what: Do,
    cancel: Do,
}

impl Stage for Acts {
    type Input = String;
    type Output = String;
    type Undo = String;

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn run(
        &mut self,
        task: String,
        context: &TaskContext<'_, String>,
    ) -> Result<String, Failure> {
        context.on_cancel(format!("{} {task}", self.name)).await?;
        let (attempt, key) = (context.attempt(), without_id(&context.key()));
        self.notes
            .note(format!("{} {task} {attempt} {key}", self.name));
        match self.what {
            Do::Pass => Ok(task),
            Do::Hang => std::future::pending().await,
            Do::Fail => Err(Failure::new("no")),
        }
    }

    async fn cancel(&mut self, undo: String, context: &CancelContext<'_>) -> Result<(), Failure> {
        self.notes
            .note(format!("undo {undo} {}", context.attempt()));
        match self.cancel {
            Do::Pass => Ok(()),
            Do::Hang => std::future::pending().await,
            Do::Fail => Err(Failure::permanent("not now")),
        }
    }
}

/// A key without the journal's random number, which is another one in each test.
fn without_id(key: &Key) -> String {
    let key = key.to_string();
    let (_, rest) = key.split_once('/').unwrap();
    format!("p/{rest}")
}

/// A world over several processes.
struct Scene {
    disk: Disk,
    notes: Notes,
}

type Handle = PipelineHandle<String, String>;

impl Scene {
    fn new() -> Self {
        Scene {
            disk: Disk::new(),
            notes: Notes::default(),
        }
    }

    fn acts(&self, name: &str, what: Do) -> Acts {
        Acts {
            name: name.to_owned(),
            notes: self.notes.clone(),
            what,
            cancel: Do::Pass,
        }
    }

    fn pipeline(&self) -> Pipeline<String, String, batrun::stage::Durable> {
        Pipeline::new("p").journal(on_disk(&self.disk))
    }

    /// A pipeline of `first`, which passes, and `second`, which does this.
    async fn start(&self, what: Do) -> Handle {
        let pipeline = self.pipeline().stage(self.acts("first", Do::Pass));
        pipeline
            .stage(self.acts("second", what))
            .start()
            .await
            .unwrap()
    }

    /// The process ends; what its stages had noted is forgotten.
    async fn kill(&self, handle: Handle) {
        // Changes that nobody waits for are written a little later.
        let mut syncs = u64::MAX;
        while std::mem::replace(&mut syncs, self.disk.syncs()) != syncs {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.disk.kill();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        self.notes.clear();
    }

    /// The process ends for the time of this number: three times on purpose, then it is killed.
    async fn stop(&self, handle: Handle, time: u32) {
        if time > 3 {
            return self.kill(handle).await;
        }
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        self.notes.clear();
    }

    async fn end(&self, handle: Handle) {
        handle.shutdown(DRAIN).await.unwrap();
    }
}

async fn submit(handle: &Handle, task: &str) {
    handle.submit(task.to_owned()).key(task).await.unwrap();
}

#[actix::test]
async fn j3_attempts_count_on_and_the_key_changes_once_an_undo_ran() {
    let scene = Scene::new();
    let handle = scene.start(Do::Hang).await;
    submit(&handle, "a").await;
    until(|| scene.notes.has("second a 1 p/1/second/0")).await;
    scene.kill(handle).await;
    let handle = scene.start(Do::Hang).await;
    until(|| scene.notes.has("second a 2 p/1/second/1")).await;
    assert_eq!(
        scene.notes.all(),
        ["undo second a 1", "second a 2 p/1/second/1"]
    );
    scene.kill(handle).await;
    let handle = scene.start(Do::Pass).await;
    until(|| scene.notes.has("second a 3 p/1/second/2")).await;
    scene.end(handle).await;
}

#[actix::test]
async fn j1_a_task_interrupted_by_three_kills_fails() {
    let scene = Scene::new();
    let mut handle = scene.start(Do::Hang).await;
    submit(&handle, "a").await;
    for end in 1..=6 {
        let started = format!("second a {end} p/1/second/{}", end - 1);
        until(|| scene.notes.has(&started)).await;
        scene.stop(handle, end).await;
        handle = scene.start(Do::Hang).await;
    }
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    let End::Failed { stage, failure } = &outcome.end else {
        panic!("{outcome}")
    };
    assert_eq!(failure.kind(), FailureKind::Interrupted);
    assert_eq!(&**stage, "second");
    // All but the last of the second stage's undos ran between its attempts.
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
    assert_eq!(scene.notes.all(), ["undo first a 1", "undo second a 1"]);
    scene.end(handle).await;
}

#[actix::test]
async fn j1_an_interrupted_attempt_does_not_use_up_a_retry() {
    let scene = Scene::new();
    let start = |what| {
        let retried = scene.acts("first", what).retry(Retry::exponential(1));
        scene.pipeline().stage(retried).start()
    };
    let handle = start(Do::Hang).await.unwrap();
    submit(&handle, "a").await;
    until(|| scene.notes.has("first a 1 p/1/first/0")).await;
    scene.kill(handle).await;
    let handle = start(Do::Fail).await.unwrap();
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(matches!(outcome.end, End::Failed { .. }), "{outcome}");
    let runs: Vec<_> = scene.notes.of("first a ");
    assert_eq!(runs, ["2 p/1/first/1", "3 p/1/first/2"]);
    scene.end(handle).await;
}

#[actix::test]
async fn j1_a_deadline_keeps_running_while_no_process_does() {
    let scene = Scene::new();
    let handle = scene.start(Do::Hang).await;
    for (task, timeout) in [("late", 300), ("in time", 60_000)] {
        let submit = handle.submit(task.to_owned()).key(task);
        submit
            .timeout(Duration::from_millis(timeout))
            .await
            .unwrap();
    }
    until(|| scene.notes.has("second late 1 p/1/second/0")).await;
    scene.kill(handle).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    let handle = scene.start(Do::Pass).await;
    let outcome = handle.outcome_of("late").await.unwrap().unwrap();
    assert!(
        matches!(&outcome.end, End::TimedOut { stage } if &**stage == "second"),
        "{outcome}"
    );
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
    assert!(
        scene.notes.of("second late").is_empty(),
        "{:?}",
        scene.notes.all()
    );
    let outcome = handle.outcome_of("in time").await.unwrap().unwrap();
    assert!(outcome.is_done(), "{outcome}");
    scene.end(handle).await;
}

#[actix::test]
async fn j1_a_work_timeout_starts_with_the_work_even_after_a_restart() {
    let scene = Scene::new();
    let handle = scene.start(Do::Pass).await;
    handle.pause();
    let submit = handle.submit("a".to_owned()).key("a");
    submit
        .work_timeout(Duration::from_millis(300))
        .await
        .unwrap();
    scene.kill(handle).await;
    // It waits for as long as it likes.
    tokio::time::sleep(Duration::from_millis(350)).await;
    let handle = scene.start(Do::Hang).await;
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(matches!(outcome.end, End::TimedOut { .. }), "{outcome}");
    assert!(scene.notes.has("first a 1 p/1/first/0"));
    scene.end(handle).await;
}

#[actix::test]
async fn j1_a_rollback_resumes_at_the_first_undo_not_recorded() {
    let scene = Scene::new();
    let start = |cancel| {
        let mut third = scene.acts("third", Do::Fail);
        third.cancel = Do::Pass;
        let mut second = scene.acts("second", Do::Pass);
        second.cancel = cancel;
        let pipeline = scene.pipeline().stage(scene.acts("first", Do::Pass));
        pipeline.stage(second).stage(third).start()
    };
    for recovery in [Recovery::Resume, Recovery::RollBack] {
        let task = format!("{recovery:?}");
        let handle = start(Do::Hang).await.unwrap();
        submit(&handle, &task).await;
        until(|| scene.notes.has(&format!("undo second {task} 1"))).await;
        assert!(scene.notes.has(&format!("undo first {task} 1")));
        scene.kill(handle).await;
        let handle = start(Do::Pass).await.unwrap();
        let outcome = handle.outcome_of(&task).await.unwrap().unwrap();
        assert!(matches!(&outcome.end, End::Failed { stage, .. } if &**stage == "third"));
        let undone = [
            format!("undo second {task} 2"),
            format!("undo third {task} 1"),
        ];
        assert_eq!(scene.notes.all(), undone);
        scene.end(handle).await;
        scene.notes.clear();
    }
}

#[actix::test]
async fn j1_an_undo_interrupted_by_three_kills_is_left_for_a_person() {
    let scene = Scene::new();
    let start = |cancel| {
        let mut only = scene.acts("only", Do::Fail);
        only.cancel = cancel;
        scene.pipeline().stage(only).start()
    };
    let mut handle = start(Do::Hang).await.unwrap();
    submit(&handle, "a").await;
    for end in 1..=6 {
        until(|| scene.notes.has(&format!("undo only a {end}"))).await;
        scene.stop(handle, end).await;
        handle = start(Do::Hang).await.unwrap();
    }
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(outcome.rollback.is_stuck(), "{outcome}");
    assert_eq!(handle.stuck().len(), 1);
    assert!(scene.notes.all().is_empty());
    scene.end(handle).await;
}

#[actix::test]
async fn j4_tasks_of_a_changed_stage_are_set_aside_and_the_others_go_on() {
    let scene = Scene::new();
    // One in each stage, and one that was rolling back.
    let handle = scene
        .pipeline()
        .stage(scene.acts("first", Do::Pass))
        .stage(scene.acts("second", Do::Pass))
        .stage(scene.acts("third", Do::Hang))
        .start()
        .await
        .unwrap();
    submit(&handle, "in third").await;
    until(|| !scene.notes.of("third in third").is_empty()).await;
    scene.kill(handle).await;
    let handle = scene
        .pipeline()
        .stage(scene.acts("first", Do::Hang))
        .stage(scene.acts("second", Do::Pass))
        .stage(scene.acts("third", Do::Pass))
        .start()
        .await
        .unwrap();
    submit(&handle, "in first").await;
    until(|| !scene.notes.of("first in first").is_empty()).await;
    // `in third` has ended meanwhile.
    handle.outcome_of("in third").await.unwrap().unwrap();
    scene.kill(handle).await;
    // The first one is another version.
    let versions = |version| {
        let first = scene.acts("first", Do::Pass).version(version);
        scene
            .pipeline()
            .stage(first)
            .stage(scene.acts("second", Do::Hang))
            .start()
    };
    let handle = versions(2).await.unwrap();
    let outcome = handle.outcome_of("in first").await.unwrap().unwrap();
    let End::Failed { stage, failure } = &outcome.end else {
        panic!("{outcome}")
    };
    assert_eq!(
        (&**stage, failure.kind()),
        ("first", FailureKind::Quarantined)
    );
    assert_eq!(
        failure.to_string(),
        "the stage first has version 2 now, and this is of version 1"
    );
    let report = handle.snapshot();
    assert_eq!((report.counts.failed, report.stuck), (1, 1));
    // New ones go through it.
    submit(&handle, "new").await;
    until(|| !scene.notes.of("second new").is_empty()).await;
    scene.kill(handle).await;
    // The second stage is gone, with a task in it.
    let first = scene.acts("first", Do::Pass).version(2);
    let handle = scene.pipeline().stage(first).start().await.unwrap();
    let outcome = handle.outcome_of("new").await.unwrap().unwrap();
    assert!(
        outcome
            .to_string()
            .contains("there is no stage second any more"),
        "{outcome}"
    );
    assert_eq!(handle.stuck().len(), 2);
    assert_eq!(handle.snapshot().counts.failed, 1);
    assert!(scene.notes.all().is_empty());
    scene.end(handle).await;
}

#[actix::test]
async fn j4_a_context_that_does_not_decode_is_set_aside() {
    let disk = Disk::new();
    let journal = || on_disk(&disk);
    let hang = stage_fn("s", async |_: String, _: &TaskContext<'_, ()>| {
        std::future::pending::<Result<String, Failure>>().await
    });
    let handle = Pipeline::new("p")
        .journal(journal())
        .stage(hang)
        .start()
        .await
        .unwrap();
    handle.submit("text".to_owned()).key("a").await.unwrap();
    disk.kill();
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    let number = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
    let handle = Pipeline::new("p")
        .journal(journal())
        .stage(number)
        .start()
        .await
        .unwrap();
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(
        outcome.to_string().contains("its context can't be decoded"),
        "{outcome}"
    );
    assert!(
        outcome
            .to_string()
            .ends_with("stuck: it waits for a person"),
        "{outcome}"
    );
    let ticket = handle.submit(7).await.unwrap();
    assert_eq!(ticket.outcome().await.unwrap().output, Some(7));
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_stages_can_be_reordered_between_restarts() {
    let scene = Scene::new();
    let handle = scene
        .pipeline()
        .stage(scene.acts("first", Do::Pass))
        .stage(scene.acts("second", Do::Hang))
        .start()
        .await
        .unwrap();
    submit(&handle, "a").await;
    until(|| !scene.notes.of("second a").is_empty()).await;
    scene.kill(handle).await;
    for what in [Do::Hang, Do::Pass] {
        let handle = scene
            .pipeline()
            .stage(scene.acts("zeroth", Do::Pass))
            .stage(scene.acts("second", Do::Pass))
            .stage(scene.acts("between", what))
            .stage(scene.acts("first", Do::Pass))
            .start()
            .await
            .unwrap();
        if what == Do::Hang {
            until(|| !scene.notes.of("between a").is_empty()).await;
            assert_eq!(scene.notes.all()[0], "undo second a 1");
            scene.kill(handle).await;
        } else {
            assert!(handle.outcome_of("a").await.unwrap().unwrap().is_done());
            assert!(scene.notes.of("zeroth").is_empty());
            scene.end(handle).await;
        }
    }
}

#[actix::test]
async fn j1_stuck_tasks_stay_stuck_over_restarts() {
    let scene = Scene::new();
    let start = || {
        let mut only = scene.acts("only", Do::Fail);
        only.cancel = Do::Fail;
        scene.pipeline().stage(only).max_stuck(2).start()
    };
    let handle = start().await.unwrap();
    for task in ["a", "b"] {
        submit(&handle, task).await;
        handle.outcome_of(task).await.unwrap().unwrap();
    }
    let stuck = handle.stuck();
    assert_eq!(stuck.len(), 2);
    scene.kill(handle).await;
    let handle = start().await.unwrap();
    assert_eq!(handle.stuck(), stuck);
    assert!(scene.notes.all().is_empty());
    // They still fill the list.
    let refused = handle.submit("c".to_owned()).await.map(drop).unwrap_err();
    assert!(
        matches!(refused, batrun::SubmitError::Stuck(_)),
        "{refused}"
    );
    assert!(handle.resolve(TaskId(1)));
    assert!(!handle.resolve(TaskId(1)));
    submit(&handle, "c").await;
    handle.outcome_of("c").await.unwrap().unwrap();
    scene.kill(handle).await;
    let handle = start().await.unwrap();
    let stuck: Vec<_> = handle.stuck().iter().map(|stuck| stuck.task.0).collect();
    assert_eq!(stuck, [2, 3]);
    // A resolved task has its outcome all the same.
    assert!(handle.outcome_of("a").await.unwrap().is_some());
    scene.end(handle).await;
}

#[actix::test]
async fn g07_recovered_tasks_beyond_the_bound_go_on_and_new_ones_wait() {
    let scene = Scene::new();
    let start = |workers, what| {
        let first = scene.acts("first", what).workers(workers).capacity(1_000);
        scene.pipeline().stage(first).max_in_flight(1_000).start()
    };
    let handle = start(300, Do::Hang).await.unwrap();
    for n in 0..1_000 {
        submit(&handle, &n.to_string()).await;
    }
    scene.kill(handle).await;
    let first = scene.acts("first", Do::Pass).workers(2).capacity(10);
    let handle = scene.pipeline().stage(first).start().await.unwrap();
    let last = handle.submit("last".to_owned()).await.unwrap();
    // It has a place once there are fewer than a pipeline of this size may have.
    let snapshot = handle.snapshot();
    assert!(snapshot.in_flight <= 12, "{}", snapshot.in_flight);
    last.outcome().await.unwrap();
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!(report.counts.accepted, 1_001);
    assert_eq!(report.counts.done, 1_001);
    assert_eq!(scene.notes.of("first ").len(), 1_001);
}

#[actix::test]
async fn g11_suspend_stops_tasks_where_they_are_and_the_next_start_resumes_them() {
    let scene = Scene::new();
    let handle = scene.start(Do::Hang).await;
    let ticket = handle.submit("a".to_owned()).key("a").await.unwrap();
    until(|| !scene.notes.of("second a").is_empty()).await;
    let report = handle.shutdown(Shutdown::Suspend).await.unwrap();
    assert_eq!(report.counts.suspended, 1);
    assert!(report.suspended.is_some());
    assert!(matches!(ticket.outcome().await, Err(Error::Suspended(_))));
    let refused = handle.submit("b".to_owned()).await.map(drop).unwrap_err();
    assert!(matches!(refused, batrun::SubmitError::Suspended(_)));
    // No undo has run, and the journal is free again.
    assert!(scene.notes.of("undo").is_empty());
    let handle = scene.start(Do::Pass).await;
    assert!(handle.outcome_of("a").await.unwrap().unwrap().is_done());
    scene.end(handle).await;
}

#[actix::test]
async fn j1_recovery_roll_back_is_named_as_the_cause() {
    let scene = Scene::new();
    let handle = scene.start(Do::Hang).await;
    submit(&handle, "a").await;
    until(|| !scene.notes.of("second a").is_empty()).await;
    scene.kill(handle).await;
    let handle = scene
        .pipeline()
        .recovery(Recovery::RollBack)
        .stage(scene.acts("first", Do::Pass))
        .stage(scene.acts("second", Do::Pass))
        .start()
        .await
        .unwrap();
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(
        matches!(
            &outcome.end,
            End::Cancelled {
                cause: StopCause::Recovery,
                ..
            }
        ),
        "{outcome}"
    );
    assert_eq!(scene.notes.all(), ["undo first a 1", "undo second a 1"]);
    scene.end(handle).await;
}
