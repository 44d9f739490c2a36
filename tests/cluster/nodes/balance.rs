//! Tasks that wait on one node go on on another one that has nothing to do.

use batrun::{policy::Recovery, state::EndKind};

use super::*;

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_what_waits_goes_to_a_node_that_has_nothing_to_do_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting).await;
    let mut tickets = Vec::new();
    for n in 100..120 {
        tickets.push(first.submit(n).key(n.to_string()).await.unwrap());
    }
    for _ in 0..4 {
        let seen = next(&mut sees).await;
        assert!(matches!(seen, Seen::Runs("waiting", ..)), "{seen:?}");
    }
    let second = start(&world, free).await;
    // It begins nothing that has begun elsewhere; a wait for more than half of the 16 would be in vain.
    let mut moved = Vec::new();
    while moved.len() < 8 {
        let Seen::Runs("free", n, 1, 2) = next(&mut sees).await else {
            panic!("something else has run");
        };
        moved.push(n);
    }
    // Those that came last.
    assert!(moved.iter().all(|n| *n >= 104), "{moved:?}");
    until(|| second.snapshot().counts.done >= 8).await;
    // A ticket waits for one all the same.
    let at = usize::try_from(moved[0] - 100).unwrap();
    let outcome = tickets[at].outcome().await.unwrap();
    assert_eq!(outcome.output, Some(2 * moved[0]));
    assert!(!tickets[at].is_known());
    let counts = first.snapshot().counts;
    assert!(counts.released >= 8, "{counts:?}");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    actix_rt::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            gate.notify_waiters();
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for ticket in tickets {
        assert_eq!(ticket.outcome().await.unwrap().end.kind(), EndKind::Done);
    }
    let (first, second) = (end(first).await, end(second).await);
    stop.store(true, Ordering::Relaxed);
    let (one, two) = (first.counts, second.counts);
    assert_eq!(one.accepted - one.released, one.done);
    // A node with nothing left may take one back.
    let released = one.released + two.released;
    assert_eq!(one.done + two.done, 20);
    assert_eq!(one.accepted + two.accepted, 20 + released);
    let text = first.to_string();
    let left = format!("left to other processes {}", one.released);
    assert!(text.contains(&left), "{text}");
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_a_task_whose_ticket_somebody_has_stays_unless_it_has_a_key_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting).await;
    let mut kept = Vec::new();
    for n in 100..110 {
        kept.push(first.submit(n).await.unwrap());
    }
    // Nobody waits for these.
    for n in 110..120 {
        drop(first.submit(n).await.unwrap());
    }
    for _ in 0..4 {
        next(&mut sees).await;
    }
    let second = start(&world, free).await;
    until(|| first.snapshot().counts.released > 0).await;
    let Seen::Runs("free", n, 1, 2) = next(&mut sees).await else {
        panic!("something else has run");
    };
    assert!(n >= 110, "{n}");
    // A drain leaves what it can, too.
    let opens = async {
        loop {
            gate.notify_waiters();
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let report = tokio::select! {
        report = end(first) => report,
        () = opens => unreachable!(),
    };
    for ticket in kept {
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.end.kind(), EndKind::Done);
    }
    assert_eq!(report.counts.done + report.counts.released, 20);
    assert!(report.counts.done >= 10);
    until(|| second.snapshot().counts.done == report.counts.released).await;
    end(second).await;
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_a_drain_leaves_what_waits_to_others_at_once_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting.clone()).await;
    for n in 100..140 {
        first.submit(n).await.unwrap();
    }
    for _ in 0..4 {
        next(&mut sees).await;
    }
    // It has something waiting itself, so nothing comes to it by itself.
    let second = start(&world, waiting).await;
    for n in 200..220 {
        second.submit(n).await.unwrap();
    }
    until_counts(&world, "SELECT count(*) FROM @.node WHERE queued > 0", 2).await;
    let before = first.snapshot().counts.released;
    let ends = first.shutdown(Shutdown::Drain(AT_MOST));
    let third = async {
        until_counts(
            &world,
            "SELECT count(*) FROM @.node WHERE queued = 0 AND id = 1",
            1,
        )
        .await;
        // The four at work.
        loop {
            gate.notify_waiters();
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let report = tokio::select! {
        report = ends => report.unwrap(),
        () = third => unreachable!(),
    };
    let (done, released) = (report.counts.done, report.counts.released);
    assert_eq!(done + released, 40);
    assert!(
        released > before && released >= 30,
        "{released} and {before}"
    );
    drop(free);
    second.shutdown(Shutdown::Suspend).await.unwrap();
}

/// A node that cancels what dead ones had begun.
async fn start_to_roll_back(world: &World, step: Step) -> Handle {
    let pipeline = Pipeline::new("nodes").journal(world.journal().await);
    let pipeline = pipeline.recovery(Recovery::RollBack);
    pipeline.stage(step.workers(4)).start().await.unwrap()
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_what_is_left_to_others_or_only_submitted_is_nothing_to_roll_back_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let submitter = world.journal().await.submitter("nodes").await.unwrap();
    // Before any node is there, and while one is.
    submitter.submit(1).await.unwrap();
    let first = start_to_roll_back(&world, waiting.clone()).await;
    assert_eq!(next(&mut sees).await, Seen::Runs("waiting", 1, 1, 2));
    for n in 100..120 {
        first.submit(n).await.unwrap();
    }
    for _ in 0..3 {
        next(&mut sees).await;
    }
    let second = start_to_roll_back(&world, free).await;
    submitter.submit(2).await.unwrap();
    until(|| second.snapshot().counts.done >= 9).await;
    let gate = waiting.gate.unwrap();
    let ends = first.shutdown(Shutdown::Drain(AT_MOST));
    let opens = async {
        loop {
            gate.notify_waiters();
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first = tokio::select! {
        report = ends => report.unwrap(),
        () = opens => unreachable!(),
    };
    until_counts(&world, "SELECT count(*) FROM @.task", 0).await;
    submitter.close();
    let second = end(second).await;
    let (one, two) = (first.counts, second.counts);
    assert_eq!((one.cancelled, two.cancelled), (0, 0), "{one:?} {two:?}");
    assert_eq!(one.done + two.done, 22);
}
