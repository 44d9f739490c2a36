//! Everything that an application asks of a task by its key.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use batrun::{
    error::{KeyError, RetryError},
    journal::{Ended, Journal},
    prelude::*,
    state::{EndKind, TaskId, TaskStatus},
    testing::{Disk, DiskFault},
};
use futures::StreamExt;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::support::{AT_MOST, Notes, journal_path, ms, on_disk, summary, until};

/// A stage that books what it gets, waits at a gate, and fails or hangs as it is told.
#[derive(Clone)]
struct Book {
    notes: Notes,
    gate: Arc<Semaphore>,
    /// Undos fail.
    down: Arc<AtomicBool>,
    /// Undos wait for this.
    undo_gate: Arc<Semaphore>,
}

impl Default for Book {
    fn default() -> Self {
        Book {
            notes: Notes::default(),
            gate: Arc::new(Semaphore::new(1_000)),
            down: Arc::default(),
            undo_gate: Arc::new(Semaphore::new(1_000)),
        }
    }
}

impl Book {
    fn closed() -> Self {
        Book {
            gate: Arc::new(Semaphore::new(0)),
            ..Book::default()
        }
    }
}

impl Stage for Book {
    type Input = u32;
    type Output = u32;
    type Undo = (u32, String);

    async fn run(&mut self, n: u32, task: &TaskContext<'_, (u32, String)>) -> Result<u32, Failure> {
        task.on_cancel((n, "seat".into())).await?;
        let withdrawn = task.on_cancel((n, "never".into())).await?;
        withdrawn.withdraw().await?;
        task.on_cancel((n, "meal".into())).await?;
        task.progress(0.5, "waiting");
        self.notes.note(format!("run {n}"));
        self.gate.acquire().await?.forget();
        match n {
            13 => Err(Failure::permanent("thirteen")),
            n => Ok(n * 2),
        }
    }

    async fn cancel(
        &mut self,
        (n, what): (u32, String),
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        self.undo_gate.acquire().await?.forget();
        self.notes.note(format!("undo {what} of {n}"));
        match self.down.load(Ordering::SeqCst) {
            true => Err(Failure::permanent("down")),
            false => Ok(()),
        }
    }
}

async fn start_with(journal: Journal, book: &Book) -> PipelineHandle<u32, u32> {
    let pipeline = Pipeline::new("p").journal(journal).keep_undos();
    let stage = book.clone().into_work().named("book");
    pipeline.stage(stage).start().await.unwrap()
}

async fn start(disk: &Disk, book: &Book) -> PipelineHandle<u32, u32> {
    start_with(on_disk(disk), book).await
}

async fn kill(disk: &Disk, handle: PipelineHandle<u32, u32>) {
    disk.kill();
    handle.shutdown(Shutdown::Suspend).await.unwrap();
}

async fn end(handle: PipelineHandle<u32, u32>) {
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

/// Submits a task and waits for its outcome.
async fn done(handle: &PipelineHandle<u32, u32>, n: u32, key: &str) {
    let ticket = handle.submit(n).key(key).await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
}

fn stage() -> Arc<str> {
    "book".into()
}

const ONE: TaskId = TaskId(1);

#[actix::test]
async fn j1_d05_a_task_is_followed_by_its_key() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::closed()
    };
    let handle = start(&disk, &book).await;
    assert_eq!(handle.status("a"), TaskStatus::Unknown);
    handle.pause();
    handle.submit(1).key("a").await.unwrap();
    let queued = TaskStatus::Queued {
        task: ONE,
        stage: stage(),
        attempt: 1,
    };
    assert_eq!(handle.status("a"), queued);
    handle.resume();
    until(|| book.notes.has("run 1")).await;
    let TaskStatus::Running {
        task: ONE,
        attempt: 1,
        progress: Some(progress),
        ..
    } = handle.status("a")
    else {
        panic!("{:?}", handle.status("a"));
    };
    assert_eq!((progress.fraction, &*progress.text), (0.5, "waiting"));
    assert!(handle.cancel_key("a"));
    assert!(!handle.cancel_key("a"));
    until(|| handle.status("a") == TaskStatus::RollingBack { task: ONE }).await;
    book.undo_gate.add_permits(2);
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert_eq!(summary(&outcome), "cancelled in book; 2 undos taken back");
    let ended = |end| TaskStatus::Ended { task: ONE, end };
    assert_eq!(handle.status("a"), ended(EndKind::Cancelled));
    // In the next process, too.
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    assert_eq!(handle.status("a"), ended(EndKind::Cancelled));
    assert_eq!(handle.status("b"), TaskStatus::Unknown);
    assert!(!handle.cancel_key("a") && !handle.cancel_key("b"));
    end(handle).await;
}

#[actix::test]
async fn j1_d05_a_task_whose_end_is_being_recorded_is_still_known() {
    for n in [1, 13] {
        let (disk, book) = (Disk::new(), Book::closed());
        let handle = start(&disk, &book).await;
        handle.submit(n).key("a").await.unwrap();
        until(|| book.notes.has(&format!("run {n}"))).await;
        disk.stop();
        book.gate.add_permits(1);
        until(|| disk.is_waiting()).await;
        for _ in 0..200 {
            let status = handle.status("a");
            assert_eq!(status.task(), Some(ONE), "{status:?}");
            assert!(!matches!(status, TaskStatus::Ended { .. }), "{status:?}");
            tokio::time::sleep(ms(0)).await;
        }
        disk.go_on();
        handle.outcome_of("a").await.unwrap().unwrap();
        assert!(matches!(handle.status("a"), TaskStatus::Ended { .. }));
        end(handle).await;
    }
}

#[actix::test]
async fn j1_d05_restored_and_stuck_tasks_are_found_by_their_keys() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::closed()
    };
    let handle = start(&disk, &book).await;
    handle.submit(1).key("a").await.unwrap();
    until(|| book.notes.has("run 1")).await;
    kill(&disk, handle).await;
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    let cleaning_up = TaskStatus::CleaningUp {
        task: ONE,
        stage: stage(),
        attempt: 1,
    };
    assert_eq!(handle.status("a"), cleaning_up);
    book.undo_gate.add_permits(1_000);
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(outcome.rollback.is_stuck(), "{outcome}");
    assert_eq!(handle.status("a"), TaskStatus::Stuck { task: ONE });
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    assert_eq!(handle.status("a"), TaskStatus::Stuck { task: ONE });
    assert!(handle.resolve(ONE));
    let failed = TaskStatus::Ended {
        task: ONE,
        end: EndKind::Failed,
    };
    assert_eq!(handle.status("a"), failed);
    end(handle).await;
}

#[actix::test]
async fn j1_d05_a_resolved_task_has_ended() {
    let (disk, book) = (Disk::new(), Book::default());
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    let stuck = handle.submit(13).key("a").await.unwrap();
    assert!(stuck.outcome().await.unwrap().rollback.is_stuck());
    // Its outcome is kept, though nothing was written since.
    assert!(handle.resolve(ONE));
    let failed = TaskStatus::Ended {
        task: ONE,
        end: EndKind::Failed,
    };
    assert_eq!(handle.status("a"), failed);
    end(handle).await;
}

#[actix::test]
async fn j1_d05_a_task_that_a_restart_has_set_aside_is_found_by_its_key() {
    let (disk, book) = (Disk::new(), Book::closed());
    let handle = start(&disk, &book).await;
    handle.submit(1).key("a").await.unwrap();
    until(|| book.notes.has("run 1")).await;
    kill(&disk, handle).await;
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
    let later = book.clone().into_work().named("book").version(2);
    let handle = pipeline.stage(later).start().await.unwrap();
    assert_eq!(handle.status("a"), TaskStatus::Stuck { task: ONE });
    assert!(handle.resolve(ONE));
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert_eq!(outcome.task, ONE);
    let failed = TaskStatus::Ended {
        task: ONE,
        end: EndKind::Failed,
    };
    assert_eq!(handle.status("a"), failed);
    end(handle).await;
}

#[actix::test]
async fn j1_d05_a_retried_task_is_found_by_its_key() {
    let (disk, book) = (Disk::new(), Book::default());
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    let stuck = handle.submit(13).key("a").await.unwrap();
    assert!(stuck.outcome().await.unwrap().rollback.is_stuck());
    book.down.store(false, Ordering::SeqCst);
    book.undo_gate.forget_permits(1_000_000);
    handle.retry(ONE).unwrap();
    assert_eq!(handle.status("a"), TaskStatus::RollingBack { task: ONE });
    assert!(!handle.cancel_key("a"));
    book.undo_gate.add_permits(2);
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert!(!outcome.rollback.is_stuck(), "{outcome}");
    let failed = TaskStatus::Ended {
        task: ONE,
        end: EndKind::Failed,
    };
    assert_eq!(handle.status("a"), failed);
    end(handle).await;
}

#[actix::test]
async fn j5_d05_a_task_that_gets_stuck_is_found_all_the_while() {
    let (disk, book) = (Disk::new(), Book::default());
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    for round in 0..50 {
        let key = format!("a{round}");
        let ticket = handle.submit(13).key(&*key).await.unwrap();
        let task = ticket.id();
        let began = Instant::now();
        loop {
            match handle.status(&key) {
                TaskStatus::Stuck { task: stuck } if stuck == task => break,
                status => {
                    let is_in_flight = !matches!(status, TaskStatus::Ended { .. });
                    assert!(status.task() == Some(task) && is_in_flight, "{status:?}");
                }
            }
            assert!(began.elapsed() < AT_MOST, "it doesn't get stuck");
            tokio::task::yield_now().await;
        }
    }
    end(handle).await;
}

#[actix::test]
async fn j5_d05_a_task_that_is_retried_as_soon_as_it_is_stuck_is_found_by_its_key() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::default()
    };
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    for round in 0..50 {
        let key = format!("a{round}");
        let ticket = handle.submit(13).key(&*key).await.unwrap();
        let task = ticket.id();
        // Two undos, in two rounds.
        book.undo_gate.add_permits(4);
        let began = Instant::now();
        while handle.retry(task).is_err() {
            assert!(began.elapsed() < AT_MOST, "it doesn't get stuck");
        }
        // By then the pipeline is through with the first rollback.
        ticket.outcome().await.unwrap();
        assert_eq!(handle.status(&key), TaskStatus::RollingBack { task });
        book.undo_gate.add_permits(4);
        until(|| handle.status(&key) == TaskStatus::Stuck { task }).await;
    }
    end(handle).await;
}

#[actix::test]
async fn j1_the_same_key_with_another_context_is_refused() {
    let (disk, book) = (Disk::new(), Book::closed());
    let handle = start(&disk, &book).await;
    handle.submit(1).key("a").await.unwrap();
    let conflict = async |handle: &PipelineHandle<u32, u32>| {
        let refused = handle.submit(2).key("a").await.map(drop).unwrap_err();
        assert!(
            matches!(refused, SubmitError::KeyConflict(2, ONE)),
            "{refused}"
        );
    };
    // In flight, ended, and in the next process.
    conflict(&handle).await;
    assert!(handle.submit(1).key("a").await.unwrap().is_known());
    book.gate.add_permits(1_000);
    handle.outcome_of("a").await.unwrap().unwrap();
    conflict(&handle).await;
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    conflict(&handle).await;
    assert!(handle.submit(1).key("a").await.unwrap().is_known());
    end(handle).await;
    // By choice it is the first one's.
    let handle = start_with(on_disk(&disk).compare_contexts(false), &book).await;
    let known = handle.submit(2).key("a").await.unwrap();
    assert!(known.is_known());
    assert_eq!(known.outcome().await.unwrap().output, Some(2));
    assert_eq!(book.notes.of("run").len(), 1);
    end(handle).await;
}

#[actix::test]
async fn j1_failed_tasks_give_their_keys_back_by_choice() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start_with(on_disk(&disk).key_for(Ended::Done), &book).await;
    done(&handle, 1, "a").await;
    assert!(handle.submit(1).key("a").await.unwrap().is_known());
    let failed = handle.submit(13).key("b").await.unwrap();
    assert!(!failed.outcome().await.unwrap().is_done());
    // It is known until another one has the key.
    let kept = handle.outcome_of("b").await.unwrap().unwrap();
    assert_eq!(kept.task, failed.id());
    let second = handle.submit(2).key("b").await.unwrap();
    assert!(!second.is_known());
    assert!(second.outcome().await.unwrap().is_done());
    let id = second.id();
    assert_eq!(handle.outcome_of("b").await.unwrap().unwrap().task, id);
    // A stuck one keeps its key.
    book.down.store(true, Ordering::SeqCst);
    let stuck = handle.submit(13).key("c").await.unwrap();
    assert!(stuck.outcome().await.unwrap().rollback.is_stuck());
    assert!(handle.submit(13).key("c").await.unwrap().is_known());
    end(handle).await;
}

#[actix::test]
async fn j1_a_forgotten_key_is_free_again() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    assert_eq!(handle.forget("a").await, Ok(false));
    done(&handle, 1, "a").await;
    assert_eq!(handle.forget("a").await, Ok(true));
    assert_eq!(handle.forget("a").await, Ok(false));
    assert_eq!(handle.status("a"), TaskStatus::Unknown);
    assert!(handle.outcome_of("a").await.unwrap().is_none());
    let unknown = handle.take_back("a").await.map(drop).unwrap_err();
    assert_eq!(unknown, KeyError::Unknown("a".into()));
    // Another context, too.
    done(&handle, 2, "a").await;
    assert_eq!(handle.forget("a").await, Ok(true));
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    assert_eq!(handle.status("a"), TaskStatus::Unknown);
    done(&handle, 3, "a").await;
    // The undos of the third are the ones that are kept.
    book.notes.clear();
    let ticket = handle.take_back("a").await.unwrap();
    ticket.outcome().await.unwrap();
    assert_eq!(book.notes.all(), ["undo seat of 3", "undo meal of 3"]);
    end(handle).await;
}

#[actix::test]
async fn j1_a_key_is_forgotten_with_an_end_that_is_not_written_yet() {
    let (disk, book) = (Disk::new(), Book::closed());
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
    let stage = book.clone().into_work().named("book");
    let handle = pipeline.stage(stage).current_arbiter().start();
    let handle = handle.await.unwrap();
    handle.submit(1).key("a").await.unwrap();
    until(|| book.notes.has("run 1")).await;
    // The writer waits for the disk, and takes nothing in meanwhile.
    disk.stop();
    let another = handle.submit(2).key("b").now().unwrap();
    until(|| disk.is_waiting()).await;
    book.gate.add_permits(1_000);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut forget = Box::pin(handle.forget("a"));
    assert!(futures::poll!(&mut forget).is_pending());
    disk.go_on();
    assert_eq!(forget.await, Ok(true));
    until(|| handle.status("a") == TaskStatus::Unknown).await;
    assert!(another.outcome().await.unwrap().is_done());
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    assert!(handle.outcome_of("a").await.unwrap().is_none());
    end(handle).await;
}

#[actix::test]
async fn j1_what_a_dropped_future_asked_for_is_done() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    // The answer needs a write, and the disk waits.
    disk.stop();
    let mut take_back = Box::pin(handle.take_back("a"));
    assert!(futures::poll!(&mut take_back).is_pending());
    drop(take_back);
    disk.go_on();
    let taken_back = TaskStatus::Ended {
        task: ONE,
        end: EndKind::TakenBack,
    };
    until(|| handle.status("a") == taken_back).await;
    disk.stop();
    let mut forget = Box::pin(handle.forget("a"));
    assert!(futures::poll!(&mut forget).is_pending());
    drop(forget);
    disk.go_on();
    until(|| handle.status("a") == TaskStatus::Unknown).await;
    end(handle).await;
}

#[actix::test]
async fn j1_what_is_in_flight_or_stuck_is_not_forgotten() {
    let (disk, book) = (Disk::new(), Book::closed());
    book.down.store(true, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    handle.submit(13).key("a").await.unwrap();
    let key = || Box::<str>::from("a");
    let in_flight = KeyError::InFlight {
        key: key(),
        task: ONE,
    };
    assert_eq!(handle.forget("a").await, Err(in_flight.clone()));
    assert_eq!(handle.take_back("a").await.map(drop), Err(in_flight));
    book.gate.add_permits(1_000);
    handle.outcome_of("a").await.unwrap().unwrap();
    let stuck = KeyError::Stuck {
        key: key(),
        task: ONE,
    };
    assert_eq!(handle.forget("a").await, Err(stuck.clone()));
    assert_eq!(handle.take_back("a").await.map(drop), Err(stuck));
    end(handle).await;
}

#[actix::test]
async fn g03_a_done_task_is_taken_back() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.notes.clear();
    let mut outcomes = handle.outcomes();
    let ticket = handle.take_back("a").await.unwrap();
    let outcome = ticket.outcome().await.unwrap();
    assert_eq!(
        outcome.to_string(),
        "task 1 (key a) done, then taken back; 2 undos taken back"
    );
    assert_eq!(book.notes.all(), ["undo seat of 1", "undo meal of 1"]);
    let told = outcomes.next().await.unwrap().unwrap();
    assert_eq!(told.end.kind(), EndKind::TakenBack);
    let taken_back = TaskStatus::Ended {
        task: ONE,
        end: EndKind::TakenBack,
    };
    assert_eq!(handle.status("a"), taken_back);
    // Once: whoever asks again has that outcome, in the next process, too.
    book.notes.clear();
    let again = handle.take_back("a").await.unwrap();
    assert_eq!(
        again.outcome().await.unwrap().end.kind(),
        EndKind::TakenBack
    );
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    assert_eq!(handle.status("a"), taken_back);
    let again = handle.take_back("a").await.unwrap();
    assert_eq!(
        again.outcome().await.unwrap().end.kind(),
        EndKind::TakenBack
    );
    assert!(book.notes.all().is_empty());
    // Its key is still taken.
    assert!(handle.submit(1).key("a").await.unwrap().is_known());
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(report.counts.taken_back, 0);
}

#[actix::test]
async fn j2_d05_a_task_is_being_taken_back_once_that_is_recorded() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.notes.clear();
    disk.stop();
    let taking_back = {
        let handle = handle.clone();
        actix::spawn(async move { handle.take_back("a").await.unwrap() })
    };
    until(|| disk.is_waiting()).await;
    // After a kill it would be done.
    let done = TaskStatus::Ended {
        task: ONE,
        end: EndKind::Done,
    };
    assert_eq!(handle.status("a"), done);
    assert!(book.notes.all().is_empty());
    disk.go_on();
    let ticket = taking_back.await.unwrap();
    let outcome = ticket.outcome().await.unwrap();
    assert_eq!(outcome.end.kind(), EndKind::TakenBack);
    end(handle).await;
}

#[actix::test]
async fn j1_d08_a_task_that_is_taken_back_keeps_its_context_and_its_names() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::default()
    };
    let handle = start(&disk, &book).await;
    let ticket = handle.submit(1).key("a").label("Ada").await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    let conflict = async |handle: &PipelineHandle<u32, u32>| {
        let refused = handle.submit(2).key("a").await.map(drop).unwrap_err();
        assert!(
            matches!(refused, SubmitError::KeyConflict(2, ONE)),
            "{refused}"
        );
        assert!(handle.submit(1).key("a").await.unwrap().is_known());
    };
    let mut outcomes = handle.outcomes();
    let ticket = handle.take_back("a").await.unwrap();
    conflict(&handle).await;
    book.undo_gate.add_permits(2);
    let names = |outcome: &Outcome<()>| (outcome.key.clone(), outcome.label.clone());
    let own = (Some("a".into()), Some("Ada".into()));
    assert_eq!(names(&outcomes.next().await.unwrap().unwrap()), own);
    let outcome = ticket.outcome().await.unwrap();
    assert_eq!((outcome.key, outcome.label), own);
    conflict(&handle).await;
    kill(&disk, handle).await;
    let handle = start(&disk, &book).await;
    conflict(&handle).await;
    end(handle).await;
}

#[actix::test]
async fn g03_a_task_of_the_process_before_is_taken_back_in_the_pipelines_order() {
    let (disk, book) = (Disk::new(), Book::default());
    let start = || {
        let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
        let pipeline = pipeline.order(Order::Lifo);
        pipeline
            .stage(book.clone().into_work().named("book"))
            .start()
    };
    let handle = start().await.unwrap();
    done(&handle, 1, "a").await;
    kill(&disk, handle).await;
    let handle = start().await.unwrap();
    book.notes.clear();
    let ticket = handle.take_back("a").await.unwrap();
    ticket.outcome().await.unwrap();
    assert_eq!(book.notes.all(), ["undo meal of 1", "undo seat of 1"]);
    let counts = handle.snapshot().counts;
    assert_eq!((counts.accepted, counts.taken_back), (1, 1));
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    assert!(report.to_string().contains("taken back 1"), "{report}");
}

#[actix::test]
async fn j2_taking_back_goes_on_after_a_kill() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(1)),
        ..Book::default()
    };
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.notes.clear();
    let ticket = handle.take_back("a").await.unwrap();
    until(|| book.notes.has("undo seat of 1")).await;
    // Meanwhile a second one is the first one's.
    let second = handle.take_back("a").await.unwrap();
    assert_eq!(handle.status("a"), TaskStatus::RollingBack { task: ONE });
    kill(&disk, handle).await;
    assert!(ticket.outcome().await.is_err() && second.outcome().await.is_err());
    book.notes.clear();
    book.undo_gate.add_permits(1_000);
    let handle = start(&disk, &book).await;
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert_eq!(
        summary(&outcome),
        "done, then taken back; 2 undos taken back"
    );
    assert!(book.notes.has("undo meal of 1"));
    end(handle).await;
}

#[actix::test]
async fn g09_taking_back_may_get_stuck_and_is_retried() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.down.store(true, Ordering::SeqCst);
    let ticket = handle.take_back("a").await.unwrap();
    assert!(ticket.outcome().await.unwrap().rollback.is_stuck());
    assert_eq!(handle.status("a"), TaskStatus::Stuck { task: ONE });
    kill(&disk, handle).await;
    book.down.store(false, Ordering::SeqCst);
    let handle = start(&disk, &book).await;
    handle.retry(ONE).unwrap();
    let outcome = handle.outcome_of("a").await.unwrap().unwrap();
    assert_eq!(
        summary(&outcome),
        "done, then taken back; 2 undos taken back"
    );
    end(handle).await;
}

#[actix::test]
async fn j1_tasks_that_cannot_be_taken_back_say_why() {
    let (disk, book) = (Disk::new(), Book::default());
    let not_kept = Pipeline::new("p").journal(on_disk(&disk));
    let stage = book.clone().into_work().named("book");
    let handle = not_kept.stage(stage).start().await.unwrap();
    done(&handle, 1, "a").await;
    let key = |key: &str| Box::<str>::from(key);
    let refused = handle.take_back("a").await.map(drop).unwrap_err();
    assert_eq!(
        refused,
        KeyError::NotKept {
            key: key("a"),
            task: ONE
        }
    );
    assert!(refused.to_string().contains(".keep_undos()"), "{refused}");
    end(handle).await;

    let handle = start(&disk, &book).await;
    let failed = handle.submit(13).key("b").await.unwrap();
    failed.outcome().await.unwrap();
    let refused = handle.take_back("b").await.map(drop).unwrap_err();
    let not_done = KeyError::NotDone {
        key: key("b"),
        task: TaskId(2),
        end: EndKind::Failed,
    };
    assert_eq!(refused, not_done);
    done(&handle, 3, "c").await;
    end(handle).await;

    // Its stage has another version by now.
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
    let later = book.clone().into_work().named("book").version(2);
    let handle = pipeline.stage(later).start().await.unwrap();
    let refused = handle.take_back("c").await.map(drop).unwrap_err();
    assert!(matches!(refused, KeyError::Undecodable { .. }), "{refused}");
    assert_eq!(handle.snapshot().in_flight, 0);
    end(handle).await;

    // And back, with another stage before it.
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
    let first = stage_fn("first", async |n: u32, _: &TaskContext<()>| Ok(n));
    let pipeline = pipeline.stage(first);
    let stage = book.clone().into_work().named("book");
    let handle = pipeline.stage(stage).start().await.unwrap();
    book.notes.clear();
    let ticket = handle.take_back("c").await.unwrap();
    ticket.outcome().await.unwrap();
    assert_eq!(book.notes.all(), ["undo seat of 3", "undo meal of 3"]);
    end(handle).await;
}

#[actix::test]
async fn j4_taking_back_that_is_not_recorded_runs_nothing() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.notes.clear();
    disk.fail(DiskFault::Write, 0);
    let refused = handle.take_back("a").await.map(drop).unwrap_err();
    assert_eq!(refused, KeyError::Suspended);
    handle.ended().await.unwrap();
    assert!(book.notes.all().is_empty());
    let handle = start(&disk, &book).await;
    let ticket = handle.take_back("a").await.unwrap();
    assert_eq!(
        ticket.outcome().await.unwrap().end.kind(),
        EndKind::TakenBack
    );
    end(handle).await;
    let closed = start(&disk, &book).await;
    let handle = closed.clone();
    end(closed).await;
    assert_eq!(handle.take_back("a").await.map(drop), Err(KeyError::Closed));
    assert_eq!(handle.forget("a").await, Err(KeyError::Closed));
}

#[actix::test]
async fn j4_taking_back_that_cannot_be_recorded_during_a_drain_suspends_the_pipeline() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.notes.clear();
    disk.stop();
    let taking_back = {
        let handle = handle.clone();
        actix::spawn(async move { handle.take_back("a").await.map(drop) })
    };
    until(|| disk.is_waiting()).await;
    let ending = {
        let handle = handle.clone();
        actix::spawn(async move { handle.shutdown(Shutdown::Drain(ms(86_400_000))).await })
    };
    let closed = Err(RetryError::Closed(TaskId(9)));
    until(|| handle.retry(TaskId(9)) == closed).await;
    disk.fail(DiskFault::Write, 0);
    disk.go_on();
    assert_eq!(taking_back.await.unwrap(), Err(KeyError::Suspended));
    let report = ending.await.unwrap().unwrap();
    assert!(report.suspended.is_some(), "{report}");
    assert!(book.notes.all().is_empty());
    assert_eq!(handle.take_back("a").await.map(drop), Err(KeyError::Closed));
}

#[actix::test]
async fn j1_many_that_take_the_same_task_back_do_so_once() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    for round in 0..20 {
        let key = format!("a{round}");
        done(&handle, 100 + round, &key).await;
        let callers = (0..8).map(|_| async { handle.take_back(&key).await.unwrap() });
        for ticket in futures::future::join_all(callers).await {
            assert_eq!(
                ticket.outcome().await.unwrap().end.kind(),
                EndKind::TakenBack
            );
        }
    }
    assert_eq!(book.notes.of("undo seat").len(), 20);
    let counts = handle.snapshot().counts;
    assert_eq!(
        (counts.accepted, counts.done, counts.taken_back),
        (40, 20, 20)
    );
    assert_eq!(handle.snapshot().in_flight, 0);
    end(handle).await;
}

#[actix::test]
async fn j5_d05_a_task_that_many_take_back_at_once_is_found_by_its_key() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::default()
    };
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    let callers = (0..8).map(|_| async {
        let ticket = handle.take_back("a").await.unwrap();
        assert_eq!(handle.status("a"), TaskStatus::RollingBack { task: ONE });
        ticket
    });
    let tickets = futures::future::join_all(callers).await;
    assert_eq!(handle.status("a"), TaskStatus::RollingBack { task: ONE });
    book.undo_gate.add_permits(1_000);
    for ticket in tickets {
        ticket.outcome().await.unwrap();
    }
    let taken_back = TaskStatus::Ended {
        task: ONE,
        end: EndKind::TakenBack,
    };
    assert_eq!(handle.status("a"), taken_back);
    end(handle).await;
}

#[actix::test]
async fn j5_d05_a_take_back_that_comes_too_late_leaves_the_next_task_with_the_key_alone() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    for round in 0..200 {
        let key = format!("a{round}");
        done(&handle, 1, &key).await;
        book.gate.forget_permits(1_000_000);
        let next = async {
            match handle.forget(&key).await {
                Ok(true) => Some(handle.submit(2).key(&*key).await.unwrap()),
                _ => None,
            }
        };
        let (taken_back, next) = futures::join!(handle.take_back(&key), next);
        if let Some(next) = &next {
            // Nobody else is there, whichever was quicker.
            let status = handle.status(&key);
            let own = matches!(
                status,
                TaskStatus::Queued { task, .. } | TaskStatus::Running { task, .. }
                    if task == next.id()
            );
            assert!(own, "{status:?}");
        }
        book.gate.add_permits(1_000);
        let ticket = match (taken_back, next) {
            // The first one may have been taken back, and forgotten after that.
            (_, Some(ticket)) | (Ok(ticket), None) => ticket,
            (Err(why), None) => panic!("{why}"),
        };
        ticket.outcome().await.unwrap();
    }
    end(handle).await;
}

/// An undo that takes its time to drop, if it has these: whether that has begun, and whether it may end.
#[derive(Debug, Serialize, Deserialize)]
struct SlowToDrop(#[serde(skip)] Option<[Arc<AtomicBool>; 2]>);

impl Clone for SlowToDrop {
    fn clone(&self) -> Self {
        SlowToDrop(None)
    }
}

impl Drop for SlowToDrop {
    fn drop(&mut self) {
        let Some([begun, may_end]) = &self.0 else {
            return;
        };
        begun.store(true, Ordering::SeqCst);
        let since = Instant::now();
        while !may_end.load(Ordering::SeqCst) && since.elapsed() < AT_MOST {
            std::thread::sleep(ms(1));
        }
    }
}

#[actix::test]
async fn j1_d05_the_next_task_with_a_forgotten_key_is_found_while_the_first_one_leaves() {
    let disk = Disk::new();
    let [begun, may_end] = [Arc::<AtomicBool>::default(), Arc::default()];
    let drops = [begun.clone(), may_end.clone()];
    let gate = Arc::new(Semaphore::new(0));
    let stage = {
        let gate = gate.clone();
        stage_fn(
            "book",
            async move |n: u32, task: &TaskContext<'_, SlowToDrop>| {
                match n {
                    1 => {
                        task.on_cancel(SlowToDrop(Some(drops.clone()))).await?;
                    }
                    _ => gate.acquire().await?.forget(),
                }
                Ok(n)
            },
        )
    };
    let stage = stage.cancel_with(async |_: SlowToDrop, _: &CancelContext<'_>| Ok(()));
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).stage(stage);
    let handle = pipeline.start().await.unwrap();
    let first = handle.submit(1).key("a").await.unwrap();
    // Its end is written by then, and the pipeline is not through with it.
    until(|| begun.load(Ordering::SeqCst)).await;
    let forgetting = {
        let handle = handle.clone();
        actix::spawn(async move { handle.forget("a").await })
    };
    let next = loop {
        match handle.submit(2).key("a").await {
            Ok(next) => break next,
            Err(SubmitError::KeyConflict(..)) => {}
            Err(why) => panic!("{why}"),
        }
    };
    let is_next = || {
        let status = handle.status("a");
        let in_stage = matches!(
            status,
            TaskStatus::Queued { .. } | TaskStatus::Running { .. }
        );
        assert!(in_stage && status.task() == Some(next.id()), "{status:?}");
    };
    is_next();
    may_end.store(true, Ordering::SeqCst);
    assert_eq!(forgetting.await.unwrap(), Ok(true));
    assert!(first.outcome().await.unwrap().is_done());
    is_next();
    gate.add_permits(1);
    assert!(next.outcome().await.unwrap().is_done());
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn g12_a_drain_waits_for_what_is_being_taken_back() {
    let disk = Disk::new();
    let book = Book {
        undo_gate: Arc::new(Semaphore::new(0)),
        ..Book::default()
    };
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    let ticket = handle.take_back("a").await.unwrap();
    let ending = actix::spawn(handle.clone().shutdown_by(ms(60_000)));
    until(|| handle.submit_is_closed()).await;
    book.undo_gate.add_permits(2);
    let outcome = ticket.outcome().await.unwrap();
    assert_eq!(outcome.end.kind(), EndKind::TakenBack);
    ending.await.unwrap();
}

#[actix::test]
async fn g11_nothing_is_taken_back_once_the_pipeline_is_to_end() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    book.gate.forget_permits(1_000_000);
    handle.submit(2).key("b").await.unwrap();
    until(|| book.notes.has("run 2")).await;
    let ending = actix::spawn(handle.clone().shutdown_by(ms(60_000)));
    until(|| handle.submit_is_closed()).await;
    let refused = handle.take_back("a").await.map(drop);
    assert_eq!(refused, Err(KeyError::Closed));
    book.gate.add_permits(1_000);
    ending.await.unwrap();
    assert!(book.notes.of("undo").is_empty());
}

#[actix::test]
async fn g12_a_pipeline_ends_when_the_last_take_back_comes_too_late() {
    let (disk, book) = (Disk::new(), Book::default());
    let pipeline = Pipeline::new("p").journal(on_disk(&disk)).keep_undos();
    let stage = book.clone().into_work().named("book");
    let handle = pipeline.stage(stage).current_arbiter().start();
    let handle = handle.await.unwrap();
    for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
        done(&handle, n, key).await;
    }
    book.notes.clear();
    // While the writer waits for the disk it takes nothing in: each request waits for the one before.
    disk.stop();
    let mut first = Box::pin(handle.forget("b"));
    assert!(futures::poll!(&mut first).is_pending());
    until(|| disk.is_waiting()).await;
    let mut take_back = Box::pin(handle.take_back("a"));
    assert!(futures::poll!(&mut take_back).is_pending());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut forget = Box::pin(handle.forget("a"));
    assert!(futures::poll!(&mut forget).is_pending());
    disk.step();
    assert_eq!(first.await, Ok(true));
    until(|| disk.is_waiting()).await;
    let mut last = Box::pin(handle.forget("c"));
    assert!(futures::poll!(&mut last).is_pending());
    disk.step();
    assert_eq!(forget.await, Ok(true));
    // It has seen a task that is done, and learns that it is gone only after the last request.
    until(|| handle.snapshot().in_flight == 1).await;
    drop((take_back, last));
    let ended = actix::spawn(handle.join());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ended.is_finished());
    disk.go_on();
    ended.await.unwrap().unwrap();
    assert!(book.notes.all().is_empty());
}

/// The kept undos of a task take part in what a restart does to stages, and go with their outcomes.
#[actix::test]
async fn j1_kept_undos_go_with_their_outcomes() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start_with(on_disk(&disk).keep_most(3), &book).await;
    for n in 0..10 {
        done(&handle, 100 + n, &format!("k{n}")).await;
    }
    let known: BTreeMap<u32, bool> = (0..10)
        .map(|n| (n, handle.status(&format!("k{n}")) != TaskStatus::Unknown))
        .collect();
    assert!(!known[&0] && known[&9], "{known:?}");
    let gone = handle.take_back("k0").await.map(drop).unwrap_err();
    assert_eq!(gone, KeyError::Unknown("k0".into()));
    let ticket = handle.take_back("k9").await.unwrap();
    ticket.outcome().await.unwrap();
    end(handle).await;
}

#[actix::test]
async fn j1_only_the_undos_of_done_tasks_are_kept() {
    let (_folder, path) = journal_path();
    let book = Book::default();
    let handle = start_with(Journal::open(&path).unwrap(), &book).await;
    done(&handle, 1, "a").await;
    let failed = handle.submit(13).key("b").await.unwrap();
    assert!(!failed.outcome().await.unwrap().is_done());
    end(handle).await;
    let file = Connection::open(&path).unwrap();
    let kept = |sql: &str| -> Vec<u32> {
        let mut query = file.prepare(sql).unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let of_tasks = "SELECT task FROM kept WHERE undos IS NOT NULL";
    assert_eq!(kept(of_tasks), [1]);
    assert_eq!(kept("SELECT DISTINCT task FROM kept_undo"), [1]);
    // The one that was withdrawn among them.
    assert_eq!(kept("SELECT undo FROM kept_undo ORDER BY undo"), [0, 1, 2]);
}

trait Ends {
    async fn shutdown_by(self, grace: std::time::Duration);
    fn submit_is_closed(&self) -> bool;
}

impl Ends for PipelineHandle<u32, u32> {
    async fn shutdown_by(self, grace: std::time::Duration) {
        self.shutdown(Shutdown::Drain(grace)).await.unwrap();
    }

    fn submit_is_closed(&self) -> bool {
        matches!(
            self.try_submit(0),
            Err(batrun::TrySubmitError::Refused(SubmitError::Closed(_)))
        )
    }
}

#[actix::test]
async fn g12_a_pipeline_ends_when_the_last_submit_turns_out_to_be_known() {
    let (disk, book) = (Disk::new(), Book::default());
    let handle = start(&disk, &book).await;
    done(&handle, 1, "a").await;
    done(&handle, 2, "b").await;
    // The writer waits for the disk, and answers nothing meanwhile.
    disk.stop();
    let mut forget = Box::pin(handle.forget("b"));
    assert!(futures::poll!(&mut forget).is_pending());
    until(|| disk.is_waiting()).await;
    drop(forget);
    let mut submit = Box::pin(handle.submit(1).key("a"));
    assert!(futures::poll!(&mut submit).is_pending());
    // It goes on by itself, and is the last thing that the pipeline waits for.
    drop(submit);
    let ended = actix::spawn(handle.join());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    disk.go_on();
    ended.await.unwrap().unwrap();
}
