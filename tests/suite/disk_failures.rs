//! A disk that fails, a loss of power, and commits that are held up: nothing is lost, and nothing goes on too
//! early.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use batrun::{
    Error, PipelineHandle, SubmitError,
    journal::Durability,
    prelude::*,
    testing::{Disk, DiskFault},
};

use crate::support::{DRAIN, Notes, on_disk, sleep, until};

/// The world besides the pipeline: the effects of its stages.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeSet<String>>>);

/// Puts its name and the task's number there, in the order in which one has to.
#[derive(Clone)]
struct Put {
    name: &'static str,
    world: World,
    notes: Notes,
}

impl Stage for Put {
    type Input = u32;
    type Output = u32;
    type Undo = String;

    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn run(&mut self, n: u32, task: &TaskContext<'_, String>) -> Result<u32, Failure> {
        let what = format!("{} {n}", self.name);
        self.notes.note(format!("start {what}"));
        task.on_cancel(what.clone()).await?;
        self.notes.note(&what);
        self.world.0.lock().unwrap().insert(what);
        if self.name == "last" && n.is_multiple_of(3) {
            return Err(Failure::permanent("no"));
        }
        Ok(n)
    }

    async fn cancel(&mut self, what: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.world.0.lock().unwrap().remove(&what);
        Ok(())
    }
}

struct Scene {
    disk: Disk,
    world: World,
    notes: Notes,
}

impl Scene {
    fn new() -> Self {
        Scene {
            disk: Disk::new(),
            world: World::default(),
            notes: Notes::default(),
        }
    }

    async fn start(&self, durability: Durability) -> Result<PipelineHandle<u32, u32>, Error> {
        let put = |name| Put {
            name,
            world: self.world.clone(),
            notes: self.notes.clone(),
        };
        Pipeline::new("p")
            .journal(self.disk.journal(durability)?)
            .stage(put("first"))
            .stage(put("last"))
            .start()
            .await
    }

    /// Starts on the same disk again and lets everything end; then the world is whole.
    async fn recover(&self, durability: Durability) {
        let handle = self.start(durability).await.unwrap();
        let report = handle.shutdown(DRAIN);
        let report = report.await.unwrap();
        assert_eq!(report.counts.in_flight(), 0);
        let world = self.world.0.lock().unwrap().clone();
        for n in 0..20 {
            let there = |name: &str| world.contains(&format!("{name} {n}"));
            assert_eq!(there("first"), there("last"), "task {n}: {world:?}");
            assert!(n % 3 != 0 || !there("first"), "task {n}: {world:?}");
        }
    }

    /// The first so many were accepted, and are known to have ended.
    async fn knows(&self, durability: Durability, accepted: usize, when: &str) {
        let handle = self.start(durability).await.unwrap();
        for n in 0..accepted {
            let kept = handle.outcome_of(&n.to_string()).await.unwrap();
            assert!(kept.is_some(), "{when}: task {n}");
        }
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }
}

/// Submits until that doesn't work any more; the tickets of what was accepted.
async fn submit_all(handle: &PipelineHandle<u32, u32>) -> Vec<Ticket<u32>> {
    let mut tickets = Vec::new();
    for n in 0..6 {
        match handle.submit(n).key(n.to_string()).await {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => {
                let suspended = matches!(error, SubmitError::Suspended(_));
                assert!(
                    suspended || matches!(error, SubmitError::Closed(_)),
                    "{error}"
                );
                break;
            }
        }
    }
    tickets
}

#[actix::test]
async fn j4_a_failing_disk_stops_everything_and_loses_nothing() {
    for fault in [DiskFault::Write, DiskFault::Full, DiskFault::Sync] {
        for after in 0..20 {
            let scene = Scene::new();
            let handle = scene.start(Durability::Power).await.unwrap();
            scene.disk.fail(fault, after);
            let tickets = submit_all(&handle).await;
            let mut suspended = 0;
            for ticket in &tickets {
                match ticket.outcome().await {
                    Ok(_) => {}
                    Err(Error::Suspended(why)) => {
                        suspended += 1;
                        assert!(!why.is_empty());
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            let report = handle.shutdown(Shutdown::Abort).await.unwrap();
            if suspended > 0 {
                assert!(report.suspended.is_some());
                // One may have been about to be accepted.
                let counted = report.counts.suspended;
                assert!((suspended..=suspended + 1).contains(&counted), "{counted}");
            }
            assert_eq!(scene.disk.writes_after_failure(), 0, "{fault:?} {after}");
            scene.disk.kill();
            scene.recover(Durability::Power).await;
            let when = format!("{fault:?} {after}");
            scene.knows(Durability::Power, tickets.len(), &when).await;
        }
    }
}

#[actix::test]
async fn j1_a_power_loss_at_any_commit_loses_no_task() {
    for commits in 0..40 {
        let scene = Scene::new();
        let handle = scene.start(Durability::Power).await.unwrap();
        scene.disk.cut_after(commits);
        let accepted = submit_all(&handle).await.len();
        if accepted == 6 {
            // It may have been quicker than the power.
            let all = async {
                while handle.snapshot().in_flight > 0 && !is_cut(&handle) {
                    tokio::task::yield_now().await
                }
            };
            all.await;
        }
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        scene.disk.cut();
        scene.recover(Durability::Power).await;
        let when = format!("cut after {commits}");
        scene.knows(Durability::Power, accepted, &when).await;
    }
}

fn is_cut(handle: &PipelineHandle<u32, u32>) -> bool {
    handle.snapshot().counts.suspended > 0
}

#[actix::test]
async fn j5_durability_process_survives_a_kill() {
    for tenths in 0..20 {
        let scene = Scene::new();
        let handle = scene.start(Durability::Process).await.unwrap();
        let disk = scene.disk.clone();
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_micros(tenths * 100));
            disk.kill();
        });
        let accepted = submit_all(&handle).await.len();
        killer.join().unwrap();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        assert_eq!(scene.disk.syncs(), 0);
        scene.recover(Durability::Process).await;
        let when = format!("killed after {tenths} tenths");
        scene.knows(Durability::Process, accepted, &when).await;
    }
}

#[actix::test]
async fn j5_durability_process_may_lose_the_last_commits_at_a_power_loss() {
    let scene = Scene::new();
    let handle = scene.start(Durability::Process).await.unwrap();
    let ticket = handle.submit(1).key("1").await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    scene.disk.cut();
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    let handle = scene.start(Durability::Process).await.unwrap();
    assert!(handle.outcome_of("1").await.unwrap().is_none());
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j2_nothing_goes_on_before_its_commit_is_synced() {
    let scene = Scene::new();
    let handle = scene.start(Durability::Power).await.unwrap();
    let disk = &scene.disk;
    disk.stop();
    let submitter = handle.clone();
    let submitted = actix_rt::spawn(async move { submitter.submit(1).await.unwrap() });
    let mut expected = Vec::new();
    for next in ["start first 1", "first 1", "start last 1", "last 1"] {
        // The start of a stage is written too, before or along with the change that is waited for.
        let mut steps = 0;
        while !scene.notes.has(next) {
            until(|| disk.is_waiting() || scene.notes.has(next)).await;
            // It gets the time to do what it must not do.
            sleep(10).await;
            if scene.notes.has(next) {
                break;
            }
            assert_eq!(scene.notes.all(), expected);
            assert_eq!(submitted.is_finished(), !expected.is_empty());
            let before = disk.syncs();
            disk.step();
            steps += 1;
            let written = before + 1;
            until(|| disk.syncs() >= written || scene.notes.has(next)).await;
        }
        assert!((1..=2).contains(&steps), "{steps} syncs before {next}");
        expected.push(next.to_owned());
    }
    let ticket = submitted.await.unwrap();
    until(|| disk.is_waiting()).await;
    sleep(10).await;
    assert_eq!(handle.snapshot().counts.done, 0);
    disk.go_on();
    assert!(ticket.outcome().await.unwrap().is_done());
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

/// Lets a stopped disk make one commit, and waits until it has.
async fn step(disk: &Disk) {
    until(|| disk.is_waiting()).await;
    let before = disk.syncs();
    disk.step();
    until(|| disk.syncs() > before).await;
}

#[actix::test]
async fn j1_a_shutdown_does_not_abandon_a_task_whose_end_is_being_written() {
    // The shutdown's patience ends at each of the commits that follow the cancel.
    for commits in 0..4 {
        let disk = Disk::new();
        let undone = Arc::new(AtomicBool::new(false));
        let fails = stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(n).await?;
            Err::<u32, _>(Failure::permanent("no"))
        });
        let done = undone.clone();
        let fails = fails.cancel_with(async move |_: u32, _: &CancelContext<'_>| {
            done.store(true, Ordering::SeqCst);
            Ok(())
        });
        let journal = || on_disk(&disk);
        let pipeline = Pipeline::new("p").journal(journal());
        let pipeline = pipeline.abandon_after(Duration::from_millis(100));
        let handle = pipeline.stage(fails).start().await.unwrap();
        let ticket = handle.submit(1).key("one").await.unwrap();
        disk.stop();
        while !undone.load(Ordering::SeqCst) {
            if disk.is_waiting() {
                step(&disk).await;
            }
            sleep(5).await;
        }
        for _ in 0..commits {
            sleep(20).await;
            if disk.is_waiting() {
                step(&disk).await;
            }
        }
        let ending = handle.clone();
        let ended = actix_rt::spawn(async move { ending.shutdown(Shutdown::Abort).await });
        sleep(250).await;
        disk.go_on();
        let report = ended.await.unwrap().unwrap();
        let told = ticket.outcome().await.unwrap();
        let pass = stage_fn("s", async |n: u32, _: &TaskContext<'_, u32>| Ok(n));
        let pipeline = Pipeline::new("p").journal(journal());
        let handle = pipeline.stage(pass).start().await.unwrap();
        let kept = handle.outcome_of("one").await.unwrap().unwrap();
        assert_eq!(told.rollback, kept.rollback, "after {commits} commits");
        assert_eq!(report.stuck, handle.stuck(), "after {commits} commits");
        handle.shutdown(Shutdown::Abort).await.unwrap();
    }
}

#[actix::test]
async fn j1_no_undo_runs_before_the_failure_is_recorded() {
    let disk = Disk::new();
    let (failed, undone) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (fails, undoes) = (failed.clone(), undone.clone());
    let stage = stage_fn("s", async move |n: u32, task: &TaskContext<'_, u32>| {
        task.on_cancel(n).await?;
        fails.store(true, Ordering::SeqCst);
        Err::<u32, _>(Failure::permanent("no"))
    });
    let stage = stage.cancel_with(async move |_: u32, _: &CancelContext<'_>| {
        undoes.store(true, Ordering::SeqCst);
        Ok(())
    });
    let pipeline = Pipeline::new("p").journal(on_disk(&disk));
    let handle = pipeline.stage(stage).start().await.unwrap();
    disk.stop();
    let submitter = handle.clone();
    let submitted = actix_rt::spawn(async move { submitter.submit(1).await.unwrap() });
    loop {
        until(|| disk.is_waiting() || failed.load(Ordering::SeqCst)).await;
        if failed.load(Ordering::SeqCst) {
            break;
        }
        step(&disk).await;
    }
    until(|| disk.is_waiting()).await;
    // It gets the time to do what it must not do.
    sleep(20).await;
    assert!(!undone.load(Ordering::SeqCst));
    disk.go_on();
    let outcome = submitted.await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.rollback.to_string(), "1 undo taken back");
    assert!(undone.load(Ordering::SeqCst));
    handle.shutdown(Shutdown::Abort).await.unwrap();
}
