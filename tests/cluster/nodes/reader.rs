//! The journal as those see it who look after one of its pipelines.

use batrun::report::{
    JournalCluster, JournalKind, JournalNodeState, JournalReader, JournalTakeover, PastCursor,
};

use super::*;

fn reader(handle: &Handle) -> JournalReader {
    handle.control().journal().unwrap().clone()
}

/// All outcomes, so many at once, with their times.
fn all(journal: &JournalReader, limit: usize) -> Vec<(Duration, String)> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = journal.outcomes(before, limit).unwrap();
        assert!(page.corrupt.is_empty());
        assert!(page.outcomes.len() == limit || page.next.is_none());
        let outcomes = page.outcomes.iter();
        all.extend(outcomes.map(|past| {
            let at = past.at.duration_since(std::time::UNIX_EPOCH);
            (at.unwrap(), past.outcome.to_string())
        }));
        let next = page.next.map(|next| next.to_string());
        before = next.map(|next| next.parse::<PastCursor>().unwrap());
        if before.is_none() || all.len() > 1_000 {
            return all;
        }
    }
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn d1_finished_tasks_of_all_nodes_are_read_from_the_newest_on_on_postgres() {
    let (world, (free, _, _sees)) = (World::new().await, steps());
    let first = start(&world, free.clone()).await;
    let second = start(&world, free).await;
    let journal = reader(&first);
    assert_eq!(journal.kind(), JournalKind::Database);
    assert!(journal.place().contains(&world.schema), "{journal:?}");
    assert!(all(&journal, 10).is_empty());
    let mut wanted = 0;
    for n in 20..30 {
        // Now the one, now the other; and several in a commit.
        let node = if n % 2 == 0 { &first } else { &second };
        let ticket = node.submit(n).key(format!("key {n}")).await.unwrap();
        ticket.outcome().await.unwrap();
        let mut tickets = Vec::new();
        for m in 0..10 {
            tickets.push(node.submit(100 * n + m).await.unwrap());
        }
        for ticket in tickets {
            ticket.outcome().await.unwrap();
        }
        wanted += 11;
    }
    let failed = second.submit(13).key("thirteen").await.unwrap();
    failed.outcome().await.unwrap();
    wanted += 1;
    let newest = all(&journal, 200);
    assert_eq!(newest.len(), wanted);
    assert!(newest[0].1.contains("thirteen"), "{newest:?}");
    assert!(newest.is_sorted_by_key(|(at, _)| std::cmp::Reverse(*at)));
    let mut different = newest.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), wanted);
    for limit in [1, 7, 50] {
        assert_eq!(all(&journal, limit), newest, "{limit}");
    }
    // The key of a task of the other node.
    let found = journal.outcome_of("key 21").unwrap().unwrap();
    assert!(found.outcome.is_done());
    assert_eq!(found.outcome.key.as_deref(), Some("key 21"));
    assert_eq!(found.output.as_deref(), Some(&[42][..]));
    assert!(journal.outcome_of("key 1").unwrap().is_none());
    let size = journal.size().unwrap();
    assert_eq!(size.outcomes_kept, wanted as u64);
    assert_eq!(size.nodes_alive, Some(2));
    assert!(size.bytes > 100_000, "{size:?}");
    assert!(journal.commit_times().count() > 10);
    end(first).await;
    end(second).await;
    assert_eq!(all(&journal, 200), newest);
    assert!(journal.lease_left().is_none());
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn d1_who_has_taken_over_whom_is_seen_when_their_tasks_have_ended_too_on_postgres() {
    let (world, (_, waiting, mut sees)) = (World::new().await, steps());
    let gate = waiting.gate.clone().unwrap();
    let first = start(&world, waiting.clone()).await;
    for n in [7, 8] {
        first.submit(n).await.unwrap();
        next(&mut sees).await;
    }
    let second = start(&world, waiting).await;
    second.submit(9).await.unwrap();
    next(&mut sees).await;
    let journal = reader(&second);
    let cluster = journal.cluster().unwrap().unwrap();
    assert_eq!((cluster.this, cluster.waiting), (2, 0));
    let nodes = cluster.nodes.iter();
    let nodes: Vec<_> = nodes
        .map(|node| (node.id, node.state, node.tasks))
        .collect();
    let live = JournalNodeState::Live;
    assert_eq!(nodes, [(1, live, 2), (2, live, 1)]);
    assert!(cluster.takeovers.is_empty() && cluster.stranded.is_empty());
    for left in [cluster.lease_left, journal.lease_left().unwrap()] {
        assert!(!left.is_zero() && left <= LEASE, "{left:?}");
    }
    world.bury(1).await;
    // Each has its interrupted attempt undone, and runs again.
    for _ in 0..4 {
        next(&mut sees).await;
    }
    first.ended().await.unwrap();
    let cluster = journal.cluster().unwrap().unwrap();
    let took = |cluster: &JournalCluster| {
        let [takeover] = &cluster.takeovers[..] else {
            panic!("{cluster:?}")
        };
        let JournalTakeover {
            node,
            from,
            killed,
            tasks,
            ..
        } = *takeover;
        (node, from, killed, tasks)
    };
    assert_eq!(took(&cluster), (2, 1, true, 2));
    assert_eq!(cluster.takeovers[0].name, cluster.nodes[0].name);
    assert_eq!(cluster.nodes.len(), 1, "the first one is forgotten");
    for _ in 0..3 {
        gate.notify_one();
    }
    end(second).await;
    let cluster = journal.cluster().unwrap().unwrap();
    assert_eq!(took(&cluster), (2, 1, true, 2));
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn d1_tasks_of_a_version_that_nobody_has_are_seen_as_stranded_on_postgres() {
    let (world, (free, waiting, mut sees)) = (World::new().await, steps());
    let versioned = async |step: Step, version: u32| {
        let pipeline = Pipeline::new("nodes").journal(world.journal().await);
        let step = step.workers(4).version(version);
        pipeline.stage(step).start().await.unwrap()
    };
    let old = versioned(waiting, 1).await;
    for n in [7, 8] {
        old.submit(n).await.unwrap();
        next(&mut sees).await;
    }
    let new = versioned(free.clone(), 2).await;
    let journal = reader(&new);
    assert!(journal.cluster().unwrap().unwrap().stranded.is_empty());
    old.shutdown(Shutdown::Suspend).await.unwrap();
    let cluster = journal.cluster().unwrap().unwrap();
    let [stranded] = &cluster.stranded[..] else {
        panic!("{cluster:?}")
    };
    assert_eq!((stranded.tasks, stranded.stuck), (2, 0));
    assert_eq!(stranded.stages[0].version, 1);
    let left: Vec<_> = cluster.nodes.iter().map(|node| node.state).collect();
    assert_eq!(left, [JournalNodeState::Left, JournalNodeState::Live]);
    let third = versioned(free, 1).await;
    until_counts(&world, "SELECT count(*) FROM @.task", 0).await;
    assert!(journal.cluster().unwrap().unwrap().stranded.is_empty());
    end(new).await;
    end(third).await;
}
