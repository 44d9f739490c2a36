//! Attempts to break a pipeline with a journal: locks taken away, values that panic, errors and wakers that
//! misbehave, calls at the wrong time.

use std::{
    fs,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use batrun::{
    Error, SubmitError,
    journal::{Durability, Journal, JournalError},
    policy::Recovery,
    prelude::*,
    state::{End, TaskId},
    testing::Disk,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::timeout;

use crate::support::{DRAIN, echo, echo_hanging_at, gate, journal_path, on_disk, until};

/// Registers undos from two threads at once.
struct Split;

impl actix::Actor for Split {
    type Context = actix::Context<Self>;
}

impl actix::Handler<TaskMsg<u32, Reply<u32, u64>>> for Split {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<u32, Reply<u32, u64>>, _: &mut Self::Context) {
        let (n, reply) = message.into_parts();
        thread::spawn(move || {
            thread::scope(|scope| {
                for first in [0, 1_000] {
                    let reply = &reply;
                    scope.spawn(move || {
                        for undo in first..first + 50 {
                            let registered = reply.on_cancel(undo);
                            futures::executor::block_on(registered).map(drop).unwrap();
                        }
                    });
                }
            });
            reply.done(n);
        });
    }
}

impl actix::Handler<Cancel<u64>> for Split {
    type Result = ();

    fn handle(&mut self, message: Cancel<u64>, _: &mut Self::Context) {
        message.into_parts().1.done();
    }
}

#[actix::test]
async fn j2_threads_of_an_actor_can_register_undos_concurrently() {
    use actix::Actor;
    let disk = Disk::new();
    let pipeline = Pipeline::new("p").journal(on_disk(&disk));
    let handle = pipeline
        .actor("split", Split.start())
        .start()
        .await
        .unwrap();
    for n in 0..10 {
        let ticket = handle.submit(n).await.unwrap();
        assert!(ticket.outcome().await.unwrap().is_done());
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!(report.suspended, None);
}

#[actix::test]
async fn j1_the_ticket_of_a_forgotten_key_never_shows_another_task() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk).keep_most(2)).await;
    let first = handle.submit(1).key("k").await.unwrap();
    first.outcome().await.unwrap();
    let old = handle.submit(1).key("k").await.unwrap();
    for n in 20..30 {
        handle.submit(n).await.unwrap().outcome().await.unwrap();
    }
    let new = handle.submit(2).key("k").await.unwrap();
    new.outcome().await.unwrap();
    assert_ne!(old.id(), new.id());
    assert!(matches!(old.outcome().await, Err(Error::Gone)));
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_resolving_a_stuck_task_after_the_shutdown_has_no_effect() {
    let disk = Disk::new();
    let start = || {
        let fails = stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(1).await?;
            Err::<u32, _>(Failure::permanent("no"))
        });
        let stuck =
            fails.cancel_with(async |_: u32, _: &CancelContext<'_>| Err(Failure::permanent("no")));
        Pipeline::new("p")
            .journal(on_disk(&disk))
            .stage(stuck)
            .start()
    };
    let handle = start().await.unwrap();
    let ticket = handle.submit(1).await.unwrap();
    ticket.outcome().await.unwrap();
    handle.shutdown(DRAIN).await.unwrap();
    assert!(!handle.resolve(ticket.id()));
    assert_eq!(handle.stuck().len(), 1);
    let handle = start().await.unwrap();
    assert_eq!(handle.stuck().len(), 1);
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_a_deliberate_suspension_does_not_count_as_a_kill() {
    let disk = Disk::new();
    for _ in 0..4 {
        let handle = echo_hanging_at(13, on_disk(&disk)).await;
        handle.submit(13).key("k").await.unwrap();
        until(|| handle.snapshot().stages[0].counts.started > 0).await;
        handle.shutdown(Shutdown::Suspend).await.unwrap();
    }
    let handle = echo_hanging_at(13, on_disk(&disk)).await;
    let outcome = timeout(Duration::from_millis(100), handle.outcome_of("k")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[test]
fn j4_a_journal_opened_through_a_link_is_locked_too() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    let held = Journal::open(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let other = Journal::open(&link).map(drop);
    assert!(matches!(other, Err(JournalError::Held { .. })), "{other:?}");
    drop(held);
    Journal::open(&link).map(drop).unwrap();
    // SQLite's own name for a file that it deletes.
    Journal::open("").map(drop).unwrap_err();
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of mine");
    }
}

#[actix::test]
async fn g06_a_waker_that_panics_stops_no_other_task() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    disk.stop();
    let waker = Waker::from(Arc::new(Panics));
    let mut plain = handle.submit(1);
    let mut keyed = handle.submit(1).key("k");
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut plain).poll(&mut cx).is_pending());
    assert!(Pin::new(&mut keyed).poll(&mut cx).is_pending());
    until(|| disk.is_waiting()).await;
    disk.go_on();
    let next = timeout(Duration::from_secs(5), handle.submit(2)).await;
    next.unwrap().unwrap().outcome().await.unwrap();
    drop((plain, keyed));
    handle.shutdown(DRAIN).await.unwrap();
}

/// An error that looks where it is shown and dropped.
#[derive(Debug)]
struct Spy(Arc<AtomicBool>);

impl Spy {
    fn look(&self) {
        if thread::current().name() == Some("batrun-journal") {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Display for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.look();
        f.write_str(&"long ".repeat(1 << 20))
    }
}

impl std::error::Error for Spy {}

impl Drop for Spy {
    fn drop(&mut self) {
        self.look();
    }
}

#[actix::test]
async fn g06_the_writer_thread_neither_prints_nor_drops_an_error() {
    let disk = Disk::new();
    let seen = Arc::new(AtomicBool::new(false));
    let spied = seen.clone();
    let fails = stage_fn("s", async move |_: u32, task: &TaskContext<'_, u32>| {
        task.on_cancel(1).await?;
        Err::<u32, _>(Failure::permanent(Spy(spied.clone())))
    });
    let spied = seen.clone();
    let fails = fails.cancel_with(async move |_: u32, _: &CancelContext<'_>| {
        Err(Failure::permanent(Spy(spied.clone())))
    });
    let pipeline = Pipeline::new("p").journal(on_disk(&disk));
    let handle = pipeline.stage(fails).start().await.unwrap();
    let ticket = handle.submit(0).key("k").await.unwrap();
    drop(ticket.outcome().await.unwrap());
    let kept = handle.outcome_of("k").await.unwrap().unwrap();
    // Not all of the two texts that are megabytes long.
    assert!(kept.rollback.is_stuck());
    assert!(kept.to_string().len() < 200_000);
    handle.shutdown(DRAIN).await.unwrap();
    assert!(!seen.load(Ordering::SeqCst));
}

#[actix::test]
async fn g01_setting_a_key_after_the_first_poll_loses_no_task() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    disk.stop();
    let mut submit = handle.submit(1);
    assert!(futures::poll!(&mut submit).is_pending());
    disk.go_on();
    let ticket = submit.key("k").await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    until(|| handle.snapshot().in_flight == 0).await;
    handle.shutdown(DRAIN).await.unwrap();
}

type Cancels = Mutex<Option<Box<dyn Fn() -> bool + Send>>>;
static CANCELS: Cancels = Mutex::new(None);

/// Its task is cancelled while it is encoded.
#[derive(Clone, Debug, Deserialize)]
struct Slow(u32);

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(cancel) = CANCELS.lock().unwrap().take() {
            assert!(cancel());
        }
        to.serialize_newtype_struct("Slow", &self.0)
    }
}

#[actix::test]
async fn j3_an_output_that_came_after_a_cancel_is_not_kept() {
    let disk = Disk::new();
    let slow = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(Slow(n)));
    let pipeline = Pipeline::new("p").journal(on_disk(&disk));
    let handle = pipeline.stage(slow).start().await.unwrap();
    let canceller = handle.clone();
    *CANCELS.lock().unwrap() = Some(Box::new(move || canceller.cancel(TaskId(1))));
    let ticket = handle.submit(7).key("k").await.unwrap();
    let outcome = ticket.outcome().await.unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    let kept = handle.outcome_of("k").await.unwrap().unwrap();
    assert!(kept.output.is_none());
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_threads_that_submit_the_same_key_get_the_same_task() {
    let (_folder, path) = journal_path();
    let journal = Journal::open_with(path, Durability::Process).unwrap();
    let handle = echo(journal).await;
    for key in [" ", "a\0b", "a\0c", "a", &"k".repeat(1024)] {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (handle, key) = (handle.clone(), key.to_owned());
                thread::spawn(move || {
                    futures::executor::block_on(async {
                        let ticket = handle.submit(1).key(key).await.unwrap();
                        ticket.outcome().await.unwrap().task
                    })
                })
            })
            .collect();
        let tasks: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(tasks.iter().all(|task| *task == tasks[0]), "{tasks:?}");
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.done), (5, 5));
}

#[actix::test]
async fn j1_a_key_longer_than_the_limit_is_refused() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    match handle.submit(1).key("k".repeat(1025)).await {
        Err(refused @ SubmitError::Unrecorded(1, _)) => {
            assert!(refused.to_string().contains("1025 bytes"), "{refused}");
        }
        other => panic!("{:?}", other.map(|ticket| ticket.id())),
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.suspended), (0, None));
}

#[actix::test]
async fn j1_a_dropped_submit_does_not_use_up_its_key() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    disk.stop();
    let mut submit = Box::pin(handle.submit(7).key("k"));
    assert!(futures::poll!(&mut submit).is_pending());
    drop(submit);
    disk.go_on();
    let ticket = handle.submit(7).key("k").await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.done), (1, 1));
}

#[actix::test]
async fn j4_a_pipeline_that_lost_its_lock_stops_writing() {
    let (folder, path) = journal_path();
    let first = echo(Journal::open(&path).unwrap()).await;
    first.submit(1).await.unwrap().outcome().await.unwrap();
    fs::remove_file(folder.path().join("journal-lock")).unwrap();
    let second = echo(Journal::open(&path).unwrap()).await;
    let ticket = second.submit(2).await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    let refused = first.submit(3).await.map(drop);
    assert!(
        matches!(refused, Err(SubmitError::Suspended(3))),
        "{refused:?}"
    );
    let why = first.ended().await.unwrap().suspended.unwrap();
    assert!(why.contains("another program has written"), "{why}");
    second.shutdown(DRAIN).await.unwrap();
}

#[test]
fn j4_a_file_with_several_hard_links_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    drop(Journal::open(&one).unwrap());
    fs::hard_link(&one, &other).unwrap();
    for name in [&one, &other] {
        let refused = Journal::open(name).map(drop).unwrap_err().to_string();
        assert!(refused.contains("several names"), "{refused}");
    }
    fs::remove_file(&other).unwrap();
    drop(Journal::open(&one).unwrap());
}

#[test]
fn j4_a_handle_that_outlives_its_runtime_does_not_lock_the_journal() {
    let (_folder, path) = journal_path();
    let handle = actix_rt::System::new().block_on(async {
        let hangs = stage_fn("echo", async |n: u32, _: &TaskContext<'_, ()>| {
            std::future::pending::<()>().await;
            Ok(n)
        });
        let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
        let pipeline = pipeline.stage(hangs).current_arbiter();
        let handle = pipeline.start().await.unwrap();
        handle.submit(13).await.unwrap();
        handle
    });
    actix_rt::System::new().block_on(async {
        until(|| Journal::open(&path).is_ok()).await;
        let next = echo(Journal::open(&path).unwrap()).await;
        assert_eq!(next.snapshot().counts.accepted, 1);
        next.shutdown(Shutdown::Abort).await.unwrap();
    });
    drop(handle);
}

/// Set when the program comes back with another version of the type, which can't read all values.
static IS_ANOTHER_VERSION: AtomicBool = AtomicBool::new(false);

/// Panics when it is dropped; another version can't read 667.
#[derive(Clone, Debug, Serialize)]
struct Bomb(u32);

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Bomb")]
        struct Plain(u32);
        match Plain::deserialize(from)?.0 {
            667 if IS_ANOTHER_VERSION.load(Ordering::SeqCst) => {
                Err(serde::de::Error::custom("it can't be read"))
            }
            n => Ok(Bomb(n)),
        }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 == 666 && !thread::panicking() {
            panic!("it panics when it is dropped");
        }
    }
}

#[actix::test]
async fn g06_a_value_that_panics_when_dropped_does_not_stop_a_restart() {
    let hangs = |undos: &'static [u32]| {
        let hangs = stage_fn("s", async move |_: Bomb, task: &TaskContext<'_, Bomb>| {
            for undo in undos {
                task.on_cancel(Bomb(*undo)).await?;
            }
            std::future::pending::<()>().await;
            Ok(())
        });
        hangs.cancel_with(async |_: Bomb, _: &CancelContext<'_>| Ok(()))
    };
    let cases = [
        (Recovery::RollBack, 666, &[][..]),
        (Recovery::Resume, 1, &[666, 666, 667][..]),
        (Recovery::Resume, 667, &[666][..]),
    ];
    for (recovery, context, undos) in cases {
        let disk = Disk::new();
        let start = |undos| {
            let pipeline = Pipeline::new("p")
                .journal(on_disk(&disk))
                .recovery(recovery);
            pipeline.stage(hangs(undos)).start()
        };
        let handle = start(undos).await.unwrap();
        drop(handle.submit(Bomb(context)).await);
        let stage = || handle.snapshot().stages[0].counts.started;
        until(|| stage() > 0).await;
        // Its undos are recorded before that.
        handle.submit(Bomb(1)).await.map(drop).unwrap();
        handle.shutdown(Shutdown::Suspend).await.unwrap();
        IS_ANOTHER_VERSION.store(true, Ordering::SeqCst);
        let handle = start(&[]).await.unwrap();
        IS_ANOTHER_VERSION.store(false, Ordering::SeqCst);
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(report.counts.accepted, 2, "{report}");
        assert_eq!(report.suspended, None);
    }
}

#[test]
fn g05_a_blocking_call_holds_the_journal_after_its_runtime_ended() {
    let folder = tempfile::tempdir().unwrap();
    for (name, own) in [("current", false), ("own", true)] {
        let path = folder.path().join(name);
        let (gate, keeper) = gate();
        let system = actix_rt::System::new();
        let handle = system.block_on(async {
            let blocks = stage_fn("s", async move |n: u32, _: &TaskContext<'_, ()>| {
                gate.pass();
                Ok(n)
            });
            let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
            let pipeline = pipeline.stage(blocks.blocking());
            let pipeline = if own {
                pipeline
            } else {
                pipeline.current_arbiter()
            };
            let handle = pipeline.start().await.unwrap();
            handle.submit(1).await.unwrap();
            until(|| keeper.has_call()).await;
            actix_rt::System::current().stop();
            handle
        });
        system.run().unwrap();
        thread::sleep(Duration::from_millis(100));
        let held = Journal::open(&path).map(drop);
        assert!(
            matches!(held, Err(JournalError::Held { .. })),
            "{name}: {held:?}"
        );
        keeper.release();
        actix_rt::System::new().block_on(until(|| Journal::open(&path).is_ok()));
        drop(handle);
    }
}
