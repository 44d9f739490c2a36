//! Nodes with other stages, or other versions of them, beside each other.

use batrun::state::EndKind;

use super::*;

/// The pipeline of `start`, with a stage before the others.
async fn start_longer(world: &World, step: Step) -> Handle {
    let pipeline = Pipeline::new("nodes").journal(world.journal().await);
    let check = stage_fn("check", async |n: u32, _: &TaskContext<()>| Ok(n));
    let pipeline = pipeline.keep_undos().stage(check);
    pipeline.stage(step.workers(4)).start().await.unwrap()
}

async fn start_version(world: &World, step: Step, version: u32) -> Handle {
    let pipeline = Pipeline::new("nodes").journal(world.journal().await);
    let step = step.workers(4).version(version);
    pipeline.stage(step).start().await.unwrap()
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c8_old_and_new_nodes_run_side_by_side_and_the_new_ones_go_on_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let old = start(&world, waiting).await;
    old.submit(7).key("seven").await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    // It has all stages of the old one, and another one.
    let new = start_longer(&world, free).await;
    old.shutdown(Shutdown::Suspend).await.unwrap();
    // The interrupted attempt is cleaned up by the stage's new number.
    assert_eq!(next(&mut sees).await, Seen::Undone("free", 7));
    assert_eq!(next(&mut sees).await, Seen::Runs("free", 7, 2, 2));
    let outcome = new.outcome_of("seven").await.unwrap().unwrap();
    assert_eq!(outcome.output, Some(14));
    end(new).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c8_a_task_of_another_version_waits_for_a_node_that_has_it_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let old = start_version(&world, waiting, 1).await;
    let task = old.submit(7).key("seven").await.unwrap().id();
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 7, 1, 1));
    let new = start_version(&world, free.clone(), 2).await;
    old.shutdown(Shutdown::Suspend).await.unwrap();
    // It is not set aside, and its key stays taken.
    new.submit(8).await.unwrap().outcome().await.unwrap();
    let again = new.submit(7).key("seven").await.unwrap();
    assert_eq!((again.id(), again.is_known()), (task, true));
    assert_eq!(new.stuck_anywhere().await.unwrap().len(), 0);
    assert_eq!(next(&mut sees).await, Seen::Runs("free", 8, 1, 1));
    let third = start_version(&world, free, 1).await;
    assert_eq!(next(&mut sees).await, Seen::Undone("free", 7));
    assert_eq!(again.outcome().await.unwrap().output, Some(14));
    end(new).await;
    end(third).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c4_c8_a_done_task_is_taken_back_by_a_node_that_has_the_stages_of_its_undos_on_postgres() {
    let (world, (free, _, mut sees)) = (World::new().await, steps());
    let pipeline = Pipeline::new("nodes").journal(world.journal().await);
    let pipeline = pipeline.keep_undos().stage(free.clone().workers(4));
    let old = pipeline.start().await.unwrap();
    for (n, key) in [(7, "seven"), (8, "eight")] {
        let ticket = old.submit(n).key(key).await.unwrap();
        ticket.outcome().await.unwrap();
        next(&mut sees).await;
    }
    let other = start_version(&world, free.clone(), 2).await;
    let why = other.take_back("seven").await.map(drop).unwrap_err();
    assert!(why.to_string().contains("another version"), "{why}");
    end(other).await;
    end(old).await;
    let new = start_longer(&world, free.clone()).await;
    let taken = new.take_back("seven").await.unwrap();
    let outcome = taken.outcome().await.unwrap();
    assert_eq!(next(&mut sees).await, Seen::Undone("free", 7));
    assert_eq!(outcome.end.kind(), EndKind::TakenBack, "{outcome}");
    end(new).await;
}
