//! A new process waits for the journal that the old one still has.

use std::time::Duration;

use batrun::journal::{Durability, Journal, JournalError};
use batrun::prelude::*;
use futures::FutureExt;

use crate::support::{AT_MOST, DRAIN, echo, echo_hanging_at, journal_path, sleep, until};

#[actix::test]
async fn j4_a_journal_is_opened_once_the_process_before_has_given_it_up() {
    let (_folder, path) = journal_path();
    let old = echo_hanging_at(7, Journal::open(&path).unwrap()).await;
    let ticket = old.submit(7).key("seven").await.unwrap();
    let options = Journal::options().wait_for_lock(AT_MOST);
    let mut opening = std::pin::pin!(options.open(&path));
    // This thread goes on meanwhile, though it is the old pipeline's too.
    assert!(opening.as_mut().now_or_never().is_none());
    sleep(60).await;
    assert!(opening.as_mut().now_or_never().is_none());
    assert!(!ticket.is_known());
    old.shutdown(Shutdown::Suspend).await.unwrap();
    let new = echo(opening.await.unwrap()).await;
    let outcome = new.outcome_of("seven").await.unwrap().unwrap();
    assert_eq!(outcome.output, Some(7));
    new.shutdown(DRAIN).await.unwrap();
}

#[actix::test]
async fn j4_a_journal_that_is_not_given_up_in_time_is_refused() {
    let (_folder, path) = journal_path();
    let held = Journal::open(&path).unwrap();
    for wait in [0, 120] {
        let options = Journal::options().durability(Durability::Process);
        let options = options.wait_for_lock(Duration::from_millis(wait));
        let error = options.open(&path).await.unwrap_err();
        let JournalError::Held { waited, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(waited, Duration::from_millis(wait));
        assert_eq!(error.to_string().contains("waited 0.1 s"), wait > 0);
    }
    let error = Journal::open(&path).unwrap_err();
    assert!(!error.to_string().contains("waited"), "{error}");
    drop(held);
    // Without a wait it is as `open`.
    drop(Journal::options().open(&path).await.unwrap());
}

#[actix::test]
async fn j4_another_error_than_the_lock_is_not_waited_for() {
    let (folder, _) = journal_path();
    let options = Journal::options().wait_for_lock(Duration::MAX);
    let error = options.open(folder.path()).await.unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
}

#[actix::test]
async fn j4_a_wait_for_a_journal_that_is_dropped_takes_no_lock() {
    let (_folder, path) = journal_path();
    let held = Journal::open(&path).unwrap();
    let options = Journal::options().wait_for_lock(Duration::MAX);
    assert!(options.open(&path).now_or_never().is_none());
    drop(held);
    until(|| Journal::open(&path).is_ok()).await;
    let journal = Journal::open(&path);
    sleep(120).await;
    assert!(journal.is_ok());
}
