//! Nodes without stages, which only submit.

use std::error::Error as _;

use batrun::{
    TrySubmitError,
    error::AnywhereError,
    journal::JournalError,
    state::{EndKind, TaskId, TaskStatus},
    submit::Submitter,
};

use super::*;

async fn submitter(world: &World) -> Submitter<u32> {
    world.journal().await.submitter("nodes").await.unwrap()
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_what_a_node_without_stages_submits_goes_on_where_there_are_some_on_postgres() {
    let (world, (free, _, mut sees)) = (World::new().await, steps());
    // Before any other one has ever come.
    let submitter = submitter(&world).await;
    let first = submitter.submit(7).key("seven").label("a").await.unwrap();
    assert!(!first.is_known);
    let waits = submitter.outcome_of::<u32>("seven");
    let status = submitter.status("seven").await.unwrap();
    assert!(
        matches!(status, TaskStatus::Queued { task, .. } if task == first.task),
        "{status:?}"
    );
    let node = start(&world, free).await;
    let outcome = tokio::time::timeout(AT_MOST, waits).await.unwrap();
    let outcome = outcome.unwrap().unwrap();
    assert_eq!((outcome.task, outcome.output), (first.task, Some(14)));
    assert_eq!(outcome.label.as_deref(), Some("a"));
    assert_eq!(next(&mut sees).await, Seen::Runs("free", 7, 1, 2));
    // While that one lives.
    for n in 100..300 {
        submitter.submit(n).await.unwrap();
    }
    until(|| node.snapshot().counts.done == 201).await;
    let again = submitter.submit(7).key("seven").await.unwrap();
    assert_eq!((again.task, again.is_known), (first.task, true));
    let conflict = submitter.submit(8).key("seven").await;
    let why = conflict.map(|again| again.task).unwrap_err();
    assert!(
        matches!(why, TrySubmitError::Refused(SubmitError::KeyConflict(8, owner)) if owner == first.task),
        "{why}"
    );
    let nobodys = submitter.outcome_of::<u32>("nobody's").await.unwrap();
    assert!(nobodys.is_none());
    submitter.close();
    let why = submitter.submit(9).await.map(|new| new.task).unwrap_err();
    assert_eq!(why.into_context(), 9);
    end(node).await;
    let lives = "SELECT count(*) FROM @.node WHERE state = 'live'";
    assert_eq!(world.counts(lives).await, 0);
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c4_of_two_without_stages_that_submit_a_key_at_once_one_is_told_of_the_other_on_postgres() {
    let world = World::new().await;
    let (one, two) = (submitter(&world).await, submitter(&world).await);
    for n in 0..40 {
        let key = n.to_string();
        let (one, two) = tokio::join!(
            std::future::IntoFuture::into_future(one.submit(n).key(&*key)),
            std::future::IntoFuture::into_future(two.submit(n).key(&*key))
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.task, two.task, "{n}");
        assert_ne!(one.is_known, two.is_known, "{n}");
    }
    assert_eq!(
        world
            .counts("SELECT count(*) FROM @.task WHERE owner = 0")
            .await,
        40
    );
    one.close();
    two.close();
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_a_node_without_stages_cancels_what_another_one_has_on_postgres() {
    let (world, (_, waiting, mut sees)) = (World::new().await, steps());
    let node = start(&world, waiting).await;
    let submitter = submitter(&world).await;
    let task = submitter.submit(7).key("seven").await.unwrap().task;
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 2));
    let status = submitter.status("seven").await.unwrap();
    assert!(matches!(status, TaskStatus::Running { .. }), "{status:?}");
    assert!(submitter.cancel(task).await.unwrap());
    let outcome = submitter.outcome_of::<u32>("seven").await.unwrap().unwrap();
    assert_eq!(outcome.end.kind(), EndKind::Cancelled);
    let nobodys = TaskId(5);
    let why = submitter.cancel(nobodys).await.unwrap_err();
    assert_eq!(why, AnywhereError::NoSuchTask(nobodys));
    submitter.close();
    end(node).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c2_a_node_without_stages_that_was_buried_comes_back_as_another_one_on_postgres() {
    let world = World::new().await;
    let submitter = submitter(&world).await;
    submitter.submit(1).await.unwrap();
    world.bury(1).await;
    // A commit, or a renewal, is refused first.
    let begin = Instant::now();
    while submitter.submit(2).await.is_ok() {
        assert!(begin.elapsed() < AT_MOST);
    }
    let second = loop {
        assert!(begin.elapsed() < AT_MOST);
        match submitter.submit(3).await {
            Ok(new) => break new.task,
            Err(why) => assert_eq!(why.into_context(), 3),
        }
    };
    assert_eq!(second.0 >> 36, 2);
    submitter.close();
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_no_more_tasks_wait_for_a_node_than_may_on_postgres() {
    let world = World::new().await;
    let journal = world.journal().await;
    let submitter = journal.submitter_with::<u32>("nodes", 3).await.unwrap();
    let begin = Instant::now();
    let full = loop {
        assert!(begin.elapsed() < AT_MOST);
        if let Err(why) = submitter.submit(1).await {
            break why;
        }
    };
    assert!(matches!(full, TrySubmitError::Full(1)), "{full}");
    assert!(full.source().is_none());
    world.does("DELETE FROM @.task").await;
    while submitter.submit(2).await.is_err() {
        assert!(begin.elapsed() < AT_MOST);
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
    submitter.close();
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c7_a_node_without_stages_is_refused_where_another_pipeline_is_on_postgres() {
    let (world, (free, ..)) = (World::new().await, steps());
    end(start(&world, free).await).await;
    let refused = world.journal().await.submitter::<u32>("others").await;
    let why = refused.map(drop).unwrap_err();
    assert!(matches!(&why, JournalError::OtherPipeline { .. }), "{why}");
    let file = tempfile::tempdir().unwrap();
    let file = Journal::open(file.path().join("x.journal")).unwrap();
    let why = file.submitter::<u32>("nodes").await.map(drop).unwrap_err();
    assert!(why.to_string().contains("database"), "{why}");
}
