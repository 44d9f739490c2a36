//! A submit without a wait, on pipelines that record: the ticket comes first, the record later.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::{
    Error, SubmitError, TrySubmitError,
    journal::Journal,
    ledger::{Change, Ledger, LedgerError, Recorded, Transition},
    prelude::*,
    state::{End, TaskId},
    testing::{Disk, DiskFault},
};
use tokio::sync::oneshot;

use crate::support::{DRAIN, Notes, echo, echo_hanging_at, on_disk, quietly, until};

const TASKS: u32 = 1_000;

type Handle = PipelineHandle<u32, u32>;

async fn echo_with_room(journal: Journal, notes: &Notes) -> Handle {
    let notes = notes.clone();
    let echo = stage_fn("echo", async move |n: u32, _: &TaskContext<'_, ()>| {
        notes.note(n);
        Ok(n)
    });
    let pipeline = Pipeline::new("p").journal(journal);
    let stage = echo.workers(4).capacity(TASKS as usize);
    let pipeline = pipeline.stage(stage).max_in_flight(TASKS as usize);
    pipeline.start().await.unwrap()
}

#[actix::test]
async fn g07_d06_as_many_as_fit_are_accepted_without_a_wait() {
    let (disk, notes) = (Disk::new(), Notes::default());
    let handle = echo_with_room(on_disk(&disk), &notes).await;
    // Nothing is recorded meanwhile, so nothing gets on.
    disk.stop();
    let submit = |n| handle.submit(n).key(n.to_string()).now();
    let tickets: Vec<_> = (0..TASKS).map(|n| submit(n).unwrap()).collect();
    for key in [None, Some("more")] {
        let more = handle.submit(TASKS);
        let more = match key {
            Some(key) => more.key(key),
            None => more,
        };
        assert!(matches!(more.now(), Err(TrySubmitError::Full(TASKS))));
    }
    assert_eq!(handle.snapshot().in_flight, u64::from(TASKS));
    disk.go_on();
    for (n, ticket) in (0..TASKS).zip(&tickets) {
        ticket.recorded().await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert!(outcome.is_done(), "{outcome}");
        assert_eq!(outcome.output, Some(n));
        assert!(!ticket.is_known());
    }
    // A task that found no room has left nothing behind.
    assert!(handle.outcome_of("more").await.unwrap().is_none());
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!(report.counts.accepted, u64::from(TASKS));
    assert_eq!(notes.all().len(), TASKS as usize);
    let handle = echo(on_disk(&disk)).await;
    let kept = handle.outcome_of("999").await.unwrap().unwrap();
    assert_eq!(kept.output, Some(999));
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn g01_d06_a_task_does_not_begin_before_it_is_recorded() {
    let (disk, notes) = (Disk::new(), Notes::default());
    let handle = echo_with_room(on_disk(&disk), &notes).await;
    disk.stop();
    let ticket = handle.try_submit(7).unwrap();
    until(|| disk.is_waiting()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(notes.all().is_empty());
    let waiting = tokio::time::timeout(Duration::from_millis(1), ticket.recorded());
    assert!(waiting.await.is_err());
    disk.go_on();
    assert_eq!(ticket.outcome().await.unwrap().output, Some(7));
    ticket.recorded().await.unwrap();
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j1_d06_a_ticket_becomes_that_of_the_task_with_its_key() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    let first = handle.submit(1).key("k").now().unwrap();
    let second = handle.submit(1).key("k").now().unwrap();
    assert_eq!(second.outcome().await.unwrap().output, Some(1));
    second.recorded().await.unwrap();
    assert!(second.is_known() && !first.is_known());
    assert_eq!(second.id(), first.id());
    // Once it has its outcome, too.
    let third = handle.submit(1).key("k").now().unwrap();
    third.recorded().await.unwrap();
    assert!(third.is_known());
    assert_eq!(third.outcome().await.unwrap().task, first.id());
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.done), (1, 1));
}

#[actix::test]
async fn j1_d06_a_ticket_of_a_known_key_cancels_that_task() {
    let disk = Disk::new();
    let handle = echo_hanging_at(1, on_disk(&disk)).await;
    let first = handle.submit(1).key("k").await.unwrap();
    let second = handle.submit(1).key("k").now().unwrap();
    second.recorded().await.unwrap();
    assert!(second.cancel());
    let outcome = first.outcome().await.unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn g01_d06_a_task_is_cancelled_while_it_is_recorded() {
    let (disk, notes) = (Disk::new(), Notes::default());
    let handle = echo_with_room(on_disk(&disk), &notes).await;
    disk.stop();
    let ticket = handle.submit(7).key("k").now().unwrap();
    assert!(ticket.cancel());
    disk.go_on();
    let outcome = ticket.outcome().await.unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.cancelled), (1, 1));
    assert!(notes.all().is_empty());
}

#[actix::test]
async fn g07_d06_a_key_that_is_refused_gives_the_context_back() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    for key in [String::new(), "x".repeat(1_025)] {
        let refused = handle.submit(7).key(key).now().map(drop).unwrap_err();
        assert!(
            matches!(
                refused,
                TrySubmitError::Refused(SubmitError::Unrecorded(7, _))
            ),
            "{refused}"
        );
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!(report.counts.accepted, 0);
    let echo = stage_fn("echo", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
    let handle = Pipeline::new("p").stage(echo).start().await.unwrap();
    let refused = handle.submit(7).key("k").now().map(drop).unwrap_err();
    assert!(
        matches!(
            refused,
            TrySubmitError::Refused(SubmitError::Unrecorded(7, _))
        ),
        "{refused}"
    );
    // There is no record to wait for.
    let ticket = handle.try_submit(7).unwrap();
    ticket.recorded().await.unwrap();
    handle.shutdown(DRAIN).await.unwrap();
}

/// Accepts a task once the test says so, or refuses it.
#[derive(Clone, Default)]
struct Asks(Arc<Mutex<Vec<ReplyTo>>>);

type ReplyTo = oneshot::Sender<Result<(), LedgerError>>;

impl Ledger for Asks {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        if !matches!(transition.change, Change::Accepted { .. }) {
            return Recorded::now();
        }
        let (answer, asked) = oneshot::channel();
        self.0.lock().unwrap().push(answer);
        Recorded::later(async move { asked.await.unwrap() })
    }
}

impl Asks {
    fn answer(&self, result: Result<(), LedgerError>) {
        let answer = self.0.lock().unwrap().remove(0);
        answer.send(result).unwrap();
    }
}

/// A context whose drop panics.
struct Hostile;

impl Drop for Hostile {
    fn drop(&mut self) {
        std::panic::panic_any(17);
    }
}

#[actix::test]
async fn g06_d06_a_task_that_is_refused_later_answers_its_ticket_and_harms_nobody() {
    quietly();
    let asks = Asks::default();
    let stage = stage_fn("s", async |_: Hostile, _: &TaskContext<'_, ()>| Ok(()));
    let pipeline = Pipeline::new("p")
        .ledger(asks.clone())
        .stage(stage.capacity(1));
    let handle = pipeline.max_in_flight(1).start().await.unwrap();
    // Its place and room are free again each time.
    for _ in 0..3 {
        let ticket = handle.try_submit(Hostile).map_err(drop).unwrap();
        asks.answer(Err(LedgerError::refused("not this one")));
        let Err(Error::Unrecorded(why)) = ticket.outcome().await else {
            panic!("it has an outcome")
        };
        assert_eq!(&*why, "not this one");
        assert!(matches!(ticket.recorded().await, Err(Error::Unrecorded(_))));
        assert!(!ticket.cancel());
        assert_eq!(handle.snapshot().counts.accepted, 0);
    }
    // One that is cancelled before it is refused stays cancelled.
    let ticket = handle.try_submit(Hostile).map_err(drop).unwrap();
    assert!(ticket.cancel());
    let outcome = ticket.outcome().await.unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    asks.answer(Err(LedgerError::refused("not this one")));
    assert_eq!(handle.snapshot().counts.cancelled, 1);
    // One that is being recorded when the ledger breaks, and whose ticket is dropped.
    until(|| match handle.try_submit(Hostile) {
        Ok(_ticket) => true,
        Err(full) => {
            std::mem::forget(full.into_context());
            false
        }
    })
    .await;
    asks.answer(Err(LedgerError::new("gone")));
    let report = handle.ended().await.unwrap();
    assert_eq!(report.suspended.as_deref(), Some("gone"));
}

#[actix::test]
async fn j4_d06_a_disk_that_breaks_suspends_tasks_that_are_being_recorded() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    disk.fail(DiskFault::Write, 0);
    let ticket = handle.submit(7).key("k").now().unwrap();
    let (recorded, outcome) = futures::join!(ticket.recorded(), ticket.outcome());
    assert!(matches!(recorded, Err(Error::Suspended(_))), "{recorded:?}");
    assert!(matches!(outcome, Err(Error::Suspended(_))), "{outcome:?}");
    handle.ended().await.unwrap();
    let handle = echo(on_disk(&disk)).await;
    assert!(handle.outcome_of("k").await.unwrap().is_none());
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn g01_d06_a_task_whose_ticket_is_dropped_at_once_goes_on() {
    let disk = Disk::new();
    let handle = echo(on_disk(&disk)).await;
    for n in 0..100 {
        drop(handle.submit(n).key(n.to_string()).now().unwrap());
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.done), (100, 100));
    let handle = echo(on_disk(&disk)).await;
    assert!(handle.outcome_of("99").await.unwrap().unwrap().is_done());
    handle.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn g11_d06_a_shutdown_knows_of_tasks_that_are_being_recorded() {
    for how in [DRAIN, Shutdown::Abort, Shutdown::Suspend] {
        let disk = Disk::new();
        let handle = echo(on_disk(&disk)).await;
        let tickets: Vec<_> = (0..100)
            .map(|n| handle.submit(n).key(n.to_string()).now().unwrap())
            .collect();
        let report = handle.shutdown(how).await.unwrap();
        assert_eq!(report.counts.accepted, 100);
        for ticket in &tickets {
            match ticket.outcome().await {
                Ok(_) => ticket.recorded().await.unwrap(),
                Err(Error::Suspended(_)) => {
                    assert_eq!(how, Shutdown::Suspend);
                    ticket.recorded().await.unwrap_err();
                }
                Err(other) => panic!("{other}"),
            }
        }
        if how == DRAIN {
            assert_eq!(report.counts.done, 100);
        }
    }
}

#[actix::test]
async fn j1_d06_a_kill_loses_no_task_that_was_recorded() {
    let disk = Disk::new();
    let handle = echo_hanging_at(7, on_disk(&disk)).await;
    let recorded = handle.submit(7).key("recorded").now().unwrap();
    recorded.recorded().await.unwrap();
    disk.stop();
    let lost = handle.submit(8).key("lost").now().unwrap();
    until(|| disk.is_waiting()).await;
    disk.cut();
    let refused = lost.recorded().await;
    assert!(matches!(refused, Err(Error::Suspended(_))), "{refused:?}");
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    disk.go_on();
    let handle = echo(on_disk(&disk)).await;
    let outcome = handle.outcome_of("recorded").await.unwrap().unwrap();
    assert_eq!((outcome.task, outcome.output), (TaskId(1), Some(7)));
    assert!(handle.outcome_of("lost").await.unwrap().is_none());
    handle.shutdown(DRAIN).await.unwrap();
}
