//! Decisions about tasks of another node.

use batrun::{
    error::AnywhereError,
    state::{EndKind, TaskId, TaskStatus},
};

use super::*;

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_a_task_is_cancelled_from_another_node_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let first = start(&world, waiting).await;
    let second = start(&world, free).await;
    let task = first.submit(7).key("seven").await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    let status = second.status_anywhere("seven").await.unwrap();
    let TaskStatus::Running {
        task: id, attempt, ..
    } = status
    else {
        panic!("{status:?}");
    };
    assert_eq!((id, attempt), (task.id(), 1));
    assert_eq!(second.status("seven"), TaskStatus::Unknown);
    assert!(second.cancel_anywhere(id).await.unwrap());
    assert_eq!(next(&mut sees).await, Seen::Undone("waiting", 7));
    let outcome = task.outcome().await.unwrap();
    assert_eq!(outcome.end.kind(), EndKind::Cancelled);
    let status = second.status_anywhere("seven").await.unwrap();
    let ended = TaskStatus::Ended {
        task: id,
        end: EndKind::Cancelled,
    };
    assert_eq!(status, ended);
    // It has ended.
    let why = second.cancel_anywhere(id).await.unwrap_err();
    assert_eq!(why, AnywhereError::NoSuchTask(id));
    assert!(why.to_string().contains("has ended"), "{why}");
    assert!(!second.cancel_key_anywhere("seven").await.unwrap());
    assert!(!second.cancel_key_anywhere("nobody's").await.unwrap());
    let nobodys = TaskId(1 << 50);
    let why = first.cancel_anywhere(nobodys).await.unwrap_err();
    assert_eq!(why, AnywhereError::NoSuchTask(nobodys));
    end(first).await;
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_a_task_is_cancelled_by_its_key_on_any_node_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let first = start(&world, waiting).await;
    let second = start(&world, free).await;
    let task = first.submit(7).key("seven").await.unwrap();
    let own = first.submit(8).key("eight").await.unwrap();
    for _ in 0..2 {
        next(&mut sees).await;
    }
    assert!(second.cancel_key_anywhere("seven").await.unwrap());
    assert!(first.cancel_key_anywhere("eight").await.unwrap());
    for ticket in [task, own] {
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.end.kind(), EndKind::Cancelled);
    }
    end(first).await;
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_a_decision_outlives_the_node_that_was_to_carry_it_out_on_postgres() {
    let (world, (_, waiting, mut sees)) = (World::new().await, steps());
    let first = start(&world, waiting.clone()).await;
    let task = first.submit(7).key("seven").await.unwrap().id();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    // As if a node had left it and gone, and this one was buried before it looked.
    world
        .does(&format!(
            "UPDATE @.node SET state = 'dead' WHERE id = 1; SELECT @.tell(5, {task}, 'cancel')"
        ))
        .await;
    let second = start(&world, waiting).await;
    let outcome = second.outcome_of("seven").await.unwrap().unwrap();
    assert_eq!(outcome.end.kind(), EndKind::Cancelled);
    until_counts(
        &world,
        "SELECT count(*) FROM @.command WHERE answer IS NOT NULL",
        1,
    )
    .await;
    assert!(first.ended().await.unwrap().suspended.is_some());
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_stuck_tasks_are_listed_retried_and_resolved_on_any_node_on_postgres() {
    let (world, (free, mut stuck, _sees)) = (World::new().await, steps());
    (stuck.gate, stuck.undo_fails) = (None, true);
    let first = start(&world, stuck).await;
    let second = start(&world, free).await;
    let mut tasks = Vec::new();
    // Thirteen fails, and so does its undo.
    for key in ["a", "b"] {
        let ticket = first.submit(13).key(key).await.unwrap();
        assert!(ticket.outcome().await.unwrap().rollback.is_stuck());
        tasks.push(ticket.id());
    }
    assert!(second.stuck().is_empty());
    let listed = second.stuck_anywhere().await.unwrap();
    let ids: Vec<_> = listed.iter().map(|stuck| stuck.task).collect();
    assert_eq!(ids, tasks);
    assert_eq!(listed[0].undos.len(), 1);
    assert_eq!(listed, first.stuck_anywhere().await.unwrap());
    let status = second.status_anywhere("a").await.unwrap();
    assert_eq!(status, TaskStatus::Stuck { task: tasks[0] });
    // It gets stuck again.
    second.retry_anywhere(tasks[0]).await.unwrap();
    until(|| first.snapshot().counts.failed == 3).await;
    until(|| first.snapshot().stuck == 2).await;
    second.resolve_anywhere(tasks[0]).await.unwrap();
    first.resolve_anywhere(tasks[1]).await.unwrap();
    assert!(first.stuck().is_empty());
    until_counts(&world, "SELECT count(*) FROM @.task", 0).await;
    assert!(second.stuck_anywhere().await.unwrap().is_empty());
    let why = second.retry_anywhere(tasks[0]).await.unwrap_err();
    assert_eq!(why, AnywhereError::NoSuchTask(tasks[0]));
    end(first).await;
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c5_a_task_that_is_not_stuck_is_not_retried_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting).await;
    let second = start(&world, free).await;
    let task = first.submit(7).await.unwrap().id();
    next(&mut sees).await;
    for why in [
        second.retry_anywhere(task).await.unwrap_err(),
        second.resolve_anywhere(task).await.unwrap_err(),
        first.retry_anywhere(task).await.unwrap_err(),
    ] {
        assert!(matches!(why, AnywhereError::Refused(_)), "{why:?}");
        assert_eq!(why.to_string(), format!("task {task} isn't stuck"));
    }
    gate.notify_one();
    end(first).await;
    end(second).await;
}
