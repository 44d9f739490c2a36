//! A pipeline's journal as those see it who look after the pipeline: finished tasks, the newest first, and numbers.

use batrun::{
    journal::{Durability, Journal, JournalFile},
    prelude::*,
    report::{JournalKind, PastCursor},
    testing::Disk,
};

use crate::support::{AT_MOST, DRAIN};

fn thirds_fail() -> impl Stage<Input = u32, Output = u32, Undo = u32> + Clone + Send + use<> {
    stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
        task.on_cancel(n).await?;
        match n % 3 {
            0 => Err(Failure::permanent("a third")),
            _ => Ok(10 * n),
        }
    })
    .cancel_with(async |_: u32, _: &CancelContext<'_>| Ok(()))
}

#[actix_rt::test]
async fn d1_a_control_pages_through_the_finished_tasks_of_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
    let handle = pipeline
        .stage(thirds_fail().workers(4))
        .start()
        .await
        .unwrap();
    let control = handle.control();
    let journal = control.journal().unwrap().clone();
    assert_eq!(journal.kind(), JournalKind::File);
    assert!(journal.place().ends_with("/journal"));
    let empty = journal.outcomes(None, 10).unwrap();
    assert!(empty.outcomes.is_empty() && empty.next.is_none());

    // One after the other, and many in a commit.
    for n in 1..=5 {
        let ticket = handle.submit(n).key(format!("key {n}")).await.unwrap();
        ticket.outcome().await.unwrap();
    }
    let mut tickets = Vec::new();
    for n in 6..=200 {
        tickets.push(handle.submit(n).label(format!("label {n}")).await.unwrap());
    }
    for ticket in tickets {
        ticket.outcome().await.unwrap();
    }
    let mut forward = Vec::new();
    let file = JournalFile::look(&path).unwrap();
    file.outcomes(|past| {
        let past = past.unwrap();
        forward.push((past.outcome.to_string(), past.at));
    })
    .unwrap();
    drop(file);
    assert_eq!(forward.len(), 200);
    forward.reverse();
    for limit in [1, 7, 199, 200] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = journal.outcomes(before, limit).unwrap();
            assert!(page.corrupt.is_empty());
            assert!(page.outcomes.len() == limit || page.next.is_none());
            let outcomes = page.outcomes.iter();
            seen.extend(outcomes.map(|past| (past.outcome.to_string(), past.at)));
            // As somebody who has it as a text.
            before = page
                .next
                .map(|next| next.to_string().parse::<PastCursor>().unwrap());
            if before.is_none() || seen.len() > forward.len() {
                break;
            }
        }
        assert!(seen == forward, "{limit}");
    }
    assert_eq!(journal.outcomes(None, 10_000).unwrap().outcomes.len(), 200);

    let found = journal.outcome_of("key 4").unwrap().unwrap();
    assert_eq!(found.outcome.to_string(), "task 4 (key key 4) done");
    assert_eq!(found.output.as_deref(), Some(&[40][..]));
    let failed = journal.outcome_of("key 3").unwrap().unwrap();
    assert!(failed.outcome.to_string().contains("a third") && failed.output.is_none());
    assert!(journal.outcome_of("key").unwrap().is_none());
    assert!(journal.cluster().unwrap().is_none() && journal.lease_left().is_none());
    let size = journal.size().unwrap();
    assert_eq!((size.outcomes_kept, size.nodes_alive), (200, None));
    assert!(size.bytes > 10_000, "{}", size.bytes);
    let commits = journal.commit_times();
    assert!(commits.count() >= 15 && commits.sum_ns() > 0, "{commits:?}");

    // The end: nobody has kept it open, and it can still be read.
    let joined = tokio::time::timeout(AT_MOST, handle.shutdown(DRAIN));
    joined.await.unwrap().unwrap();
    assert_eq!(journal.outcomes(None, 3).unwrap().outcomes.len(), 3);
    // Nothing is left open that keeps another pipeline away, and the next one knows how many there are.
    let pipeline = Pipeline::new("p").journal(Journal::open(&path).unwrap());
    let handle = pipeline.stage(thirds_fail()).start().await.unwrap();
    let size = handle.control().journal().unwrap().size().unwrap();
    assert_eq!(size.outcomes_kept, 200);
    handle.shutdown(DRAIN).await.unwrap();
    folder.close().unwrap();
    let gone = journal.outcomes(None, 3).unwrap_err().to_string();
    assert!(gone.contains("journal"), "{gone}");
}

#[actix_rt::test]
async fn d1_a_pipeline_without_a_journal_that_others_can_open_has_none_to_read() {
    let plain = Pipeline::new("p")
        .stage(thirds_fail())
        .start()
        .await
        .unwrap();
    assert!(plain.control().journal().is_none());
    let disk = Disk::new().journal(Durability::Power).unwrap();
    let pipeline = Pipeline::new("p").journal(disk);
    let handle = pipeline.stage(thirds_fail()).start().await.unwrap();
    assert!(handle.control().journal().is_none());
    handle.shutdown(DRAIN).await.unwrap();
}
