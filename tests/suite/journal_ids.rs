//! Each journal has a number of its own, so that no two have the same keys.

use std::collections::BTreeSet;

use batrun::{journal::Journal, prelude::*, testing::Disk};

use crate::support::{DRAIN, Notes, journal_path, on_disk, until};

/// The keys that one task sees: that of its stage, and that of its undo if it is cancelled there.
async fn keys(journal: Journal, hangs: bool) -> (Notes, PipelineHandle<u32, u32>) {
    let notes = Notes::default();
    let (ran, undid) = (notes.clone(), notes.clone());
    let stage = stage_fn("s", async move |n: u32, task: &TaskContext<'_, u32>| {
        task.on_cancel(n).await?;
        ran.note(task.key());
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(n)
    });
    let stage = stage.cancel_with(async move |_: u32, cancel: &CancelContext<'_>| {
        undid.note(cancel.key());
        Ok(())
    });
    let pipeline = Pipeline::new("p").journal(journal).stage(stage);
    (notes, pipeline.start().await.unwrap())
}

/// The journal's number in a key.
fn id(key: &str) -> &str {
    let (pipeline, _) = key.split_once('/').unwrap();
    let id = pipeline.strip_prefix("p-").unwrap();
    assert_eq!(id.len(), 13, "{key}");
    id
}

#[actix::test]
async fn j3_a_new_journal_repeats_no_key_of_an_old_one() {
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let (notes, handle) = keys(on_disk(&Disk::new()), false).await;
        handle.submit(7).await.unwrap();
        handle.shutdown(DRAIN).await.unwrap();
        let [key] = &notes.all()[..] else { panic!() };
        assert!(key.ends_with("/1/s/0"), "{key}");
        ids.insert(id(key).to_owned());
    }
    assert_eq!(ids.len(), 20);
}

#[actix::test]
async fn j3_a_journals_keys_stay_the_same_over_restarts() {
    let (_folder, path) = journal_path();
    let (notes, handle) = keys(Journal::open(&path).unwrap(), true).await;
    handle.submit(7).await.unwrap();
    until(|| notes.all().len() == 1).await;
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    let first = notes.all().remove(0);
    // The undo of the interrupted attempt has the key that the attempt had.
    let (notes, handle) = keys(Journal::open(&path).unwrap(), false).await;
    handle.shutdown(DRAIN).await.unwrap();
    let second = format!("p-{}/1/s/1", id(&first));
    assert_eq!(notes.all(), [first, second]);
}

#[actix::test]
async fn j3_a_journal_without_a_number_stays_without() {
    let (_folder, path) = journal_path();
    let (notes, handle) = keys(Journal::open(&path).unwrap(), true).await;
    handle.submit(7).await.unwrap();
    until(|| notes.all().len() == 1).await;
    handle.shutdown(Shutdown::Suspend).await.unwrap();
    // As one that was made before journals had numbers.
    let file = rusqlite::Connection::open(&path).unwrap();
    let deleted = file
        .execute("DELETE FROM word WHERE name = 'id'", [])
        .unwrap();
    assert_eq!(deleted, 1);
    drop(file);
    for (task, expected) in [(1, vec!["p/1/s/0", "p/1/s/1"]), (2, vec!["p/2/s/0"])] {
        let (notes, handle) = keys(Journal::open(&path).unwrap(), false).await;
        if task > 1 {
            handle.submit(7).await.unwrap();
        }
        handle.shutdown(DRAIN).await.unwrap();
        assert_eq!(notes.all(), expected);
    }
}
