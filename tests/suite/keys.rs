//! Keys: a journal keeps outcomes, and finds a task by its key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use batrun::{
    Error, PipelineHandle, SubmitError, TrySubmitError, error::FailureKind, journal::Journal,
    prelude::*, stage::UndoError, state::End, testing::Disk,
};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::Notify;

use crate::support::on_disk;

/// Counts how often it runs, and waits until it may go on.
#[derive(Clone, Default)]
struct Counted {
    runs: Arc<AtomicU32>,
    gate: Option<Arc<Notify>>,
}

impl Stage for Counted {
    type Input = u32;
    type Output = u32;
    type Undo = ();

    async fn run(&mut self, n: u32, _: &TaskContext<'_, ()>) -> Result<u32, Failure> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        if n == 13 {
            return Err(Failure::permanent("thirteen"));
        }
        Ok(n * 2)
    }
}

async fn start(journal: Journal, stage: &Counted) -> PipelineHandle<u32, u32> {
    let pipeline = Pipeline::new("p").journal(journal);
    pipeline.stage(stage.clone()).start().await.unwrap()
}

#[actix::test]
async fn j1_a_key_stands_for_one_task() {
    let disk = Disk::new();
    let gate = Arc::new(Notify::new());
    let stage = Counted {
        gate: Some(gate.clone()),
        ..Counted::default()
    };
    let handle = start(on_disk(&disk), &stage).await;
    let first = handle.submit(7).key("seven").await.unwrap();
    // While it is in flight.
    let second = handle.submit(7).key("seven").await.unwrap();
    assert_eq!((first.is_known(), second.is_known()), (false, true));
    assert_eq!(second.id(), first.id());
    assert_eq!(handle.snapshot().counts.accepted, 1);
    gate.notify_one();
    assert_eq!(first.outcome().await.unwrap().output, Some(14));
    assert_eq!(second.outcome().await.unwrap().output, Some(14));
    // Once it has its outcome; as often as one likes.
    let third = handle.submit(7).key("seven").await.unwrap();
    assert_eq!(third.outcome().await.unwrap().output, Some(14));
    assert_eq!(third.outcome().await.unwrap().output, Some(14));
    assert!(!third.cancel());
    handle.shutdown(Shutdown::Abort).await.unwrap();
    // In another process.
    let handle = start(on_disk(&disk), &stage).await;
    let fourth = handle.submit(7).key("seven").await.unwrap();
    assert_eq!(fourth.id(), first.id());
    assert_eq!(fourth.outcome().await.unwrap().output, Some(14));
    assert_eq!(handle.snapshot().counts.accepted, 0);
    assert_eq!(stage.runs.load(Ordering::SeqCst), 1);
    assert!(handle.outcome_of("eight").await.unwrap().is_none());
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_a_second_ticket_of_a_key_cancels_the_same_task() {
    let disk = Disk::new();
    let stage = Counted {
        gate: Some(Arc::default()),
        ..Counted::default()
    };
    let handle = start(on_disk(&disk), &stage).await;
    handle.submit(7).key("seven").await.unwrap();
    let second = handle.submit(7).key("seven").await.unwrap();
    assert!(second.cancel());
    let outcome = second.outcome().await.unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_a_failure_is_kept_unchanged() {
    let disk = Disk::new();
    let stage = Counted::default();
    let handle = start(on_disk(&disk), &stage).await;
    let ticket = handle.submit(13).key("thirteen").await.unwrap();
    let first = ticket.outcome().await.unwrap();
    handle.shutdown(Shutdown::Abort).await.unwrap();
    let handle = start(on_disk(&disk), &stage).await;
    let kept = handle.outcome_of("thirteen").await.unwrap().unwrap();
    assert_eq!(kept.to_string(), first.to_string());
    let End::Failed { failure, .. } = kept.end else {
        panic!("{kept}")
    };
    assert_eq!(failure.kind(), FailureKind::Permanent);
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_the_oldest_outcomes_are_forgotten() {
    let disk = Disk::new();
    let stage = Counted::default();
    let journal = || on_disk(&disk);
    let handle = start(journal().keep_most(5), &stage).await;
    for n in 0..12 {
        let ticket = handle.submit(n).key(n.to_string()).await.unwrap();
        ticket.outcome().await.unwrap();
    }
    // Outcomes beyond the limit go with the next commit.
    handle.submit(20).await.unwrap().outcome().await.unwrap();
    let mut kept = Vec::new();
    for n in 0..12 {
        if handle.outcome_of(&n.to_string()).await.unwrap().is_some() {
            kept.push(n);
        }
    }
    assert!(kept.contains(&11) && !kept.contains(&0), "{kept:?}");
    assert!((3..=6).contains(&kept.len()), "{kept:?}");
    handle.shutdown(Shutdown::Abort).await.unwrap();

    let handle = start(journal().keep_for(Duration::ZERO), &stage).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    for n in 30..33 {
        handle.submit(n).await.unwrap().outcome().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(handle.outcome_of("11").await.unwrap().is_none());
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn g13_a_key_needs_a_journal() {
    let handle = Pipeline::new("p")
        .stage(Counted::default())
        .start()
        .await
        .unwrap();
    let error = handle.submit(7).key("seven").await.map(drop).unwrap_err();
    assert!(matches!(error, SubmitError::Unrecorded(7, _)), "{error}");
    assert!(handle.outcome_of("seven").await.unwrap().is_none());
    // Its room is free again.
    for n in 0..1_000 {
        handle.submit(n).await.unwrap();
    }
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn g07_if_room_waits_for_the_record_but_not_for_room() {
    let disk = Disk::new();
    let gate = Arc::new(Notify::new());
    let stage = Counted {
        gate: Some(gate.clone()),
        ..Counted::default()
    };
    let handle = Pipeline::new("p")
        .journal(on_disk(&disk))
        .stage(stage.capacity(1))
        .max_in_flight(2)
        .start()
        .await
        .unwrap();
    handle.submit(1).if_room().await.unwrap();
    let mut accepted = 1;
    // The first one has to have left the queue.
    while accepted < 2 {
        match handle.submit(2).if_room().await {
            Ok(_) => accepted += 1,
            Err(TrySubmitError::Full(2)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    let full = handle.submit(3).key("three").if_room().await.map(drop);
    assert!(matches!(full, Err(TrySubmitError::Full(3))), "{full:?}");
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

/// Can't be encoded above a hundred.
#[derive(Clone, Debug, Deserialize)]
struct Picky(u32);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0..=100 => to.serialize_u32(self.0),
            200 => panic!("two hundred"),
            _ => Err(serde::ser::Error::custom("too large for me")),
        }
    }
}

#[actix::test]
async fn j4_a_value_that_cannot_be_encoded_fails_alone() {
    let disk = Disk::new();
    let stage = stage_fn(
        "s",
        async |Picky(n): Picky, task: &TaskContext<'_, Picky>| match n {
            1 => Ok(Picky(101)),
            2 => match task.on_cancel(Picky(102)).await {
                Err(UndoError::Unrecorded(why)) => Err(Failure::permanent(why.to_string())),
                _ => panic!("it was recorded"),
            },
            n => Ok(Picky(n)),
        },
    );
    let next = stage_fn("t", async |n: Picky, _: &TaskContext<'_, ()>| Ok(n));
    let handle = Pipeline::new("p")
        .journal(on_disk(&disk))
        .stage(stage)
        .stage(next)
        .start()
        .await
        .unwrap();
    for n in [150, 200] {
        let refused = handle.submit(Picky(n)).await.map(drop).unwrap_err();
        let SubmitError::Unrecorded(Picky(back), why) = refused else {
            panic!("{refused}")
        };
        assert_eq!(back, n);
        assert!(why.contains("the context can't be encoded"), "{why}");
    }
    for (n, what) in [(1, "the output"), (2, "an undo")] {
        let ticket = handle.submit(Picky(n)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap().to_string();
        assert!(outcome.contains("failed in s"), "{outcome}");
        assert!(
            outcome.contains(&format!("{what} can't be encoded: too large for me")),
            "{outcome}"
        );
    }
    let ticket = handle.submit(Picky(3)).await.unwrap();
    assert!(ticket.outcome().await.unwrap().is_done());
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(report.suspended, None);
}

#[actix::test]
async fn g13_a_pipeline_has_a_journal_or_a_ledger_but_not_both() {
    struct None;
    impl batrun::ledger::Ledger for None {
        fn record(&self, _: batrun::ledger::Transition<'_>) -> batrun::ledger::Recorded {
            batrun::ledger::Recorded::now()
        }
    }
    let disk = Disk::new();
    let journal = on_disk(&disk);
    let both = Pipeline::new("p").ledger(None).journal(journal);
    let error = both.stage(Counted::default()).start().await.map(drop);
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pipeline \"p\" has a ledger and a journal; it can have one of them"
    );
    assert!(matches!(error, Error::Build(_)));
}

#[actix::test]
async fn j4_the_journal_of_another_pipeline_is_refused() {
    let disk = Disk::new();
    let stage = Counted::default();
    let handle = start(on_disk(&disk), &stage).await;
    handle.shutdown(Shutdown::Abort).await.unwrap();
    let other = Pipeline::new("q").journal(on_disk(&disk));
    let error = other
        .stage(stage.clone())
        .start()
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "(a disk in memory): this is the journal of the pipeline \"p\", not of \"q\"; \
         give each pipeline a file or a schema of its own"
    );
    // It is free again.
    let handle = start(on_disk(&disk), &stage).await;
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_an_empty_key_is_refused() {
    let handle = start(on_disk(&Disk::new()), &Counted::default()).await;
    match handle.submit(7).key("").await {
        Err(SubmitError::Unrecorded(7, why)) => assert!(why.contains("the key is empty"), "{why}"),
        _ => panic!("it was accepted"),
    }
    // Nothing else is refused for that.
    handle.submit(7).await.unwrap().outcome().await.unwrap();
    let report = handle.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!((report.counts.accepted, report.suspended), (1, None));
}
