//! Random pipelines of which a second node takes the tasks over, at a random moment and in several ways, against
//! rules that the log of both has to keep.
//!
//! `BATRUN_CASES` is the number of cases, `BATRUN_SEED` the first one's seed.

mod oracle;
mod script;
mod world;

use std::{collections::HashMap, sync::Mutex};

use batrun::{Outcome, error::AnywhereError, state::TaskStatus};
use futures::{StreamExt, future::join_all, stream};

use self::{
    oracle::{Fate, check},
    script::{Case, Handover},
    world::{Event, Log, Scripted},
};
use super::*;

/// The number of cases that run at once: most of their time is spent waiting for a node's next look.
const AT_ONCE: usize = 8;

async fn start_node(world: &World, log: &Arc<Log>, node: u32) -> Handle {
    let case = &log.case;
    let order = if case.lifo { Order::Lifo } else { Order::Fifo };
    let mut pipeline = Pipeline::new("model")
        .arbiters(1)
        .order(order)
        .journal(world.journal().await);
    for (stage, script) in case.stages.iter().enumerate() {
        let log = log.clone();
        let backoff = Duration::from_millis(5);
        let mut work = Scripted { log, node, stage }
            .workers(script.workers)
            .capacity(32)
            .retry(Retry::constant(script.retries, backoff))
            .cancel_retry(Retry::constant(3, backoff));
        if let Some(timeout) = script.timeout_ms {
            work = work.timeout(Duration::from_millis(timeout));
        }
        pipeline = pipeline.stage(work);
    }
    pipeline.start().await.unwrap()
}

/// The result of a future, which has to come in time.
async fn within<T>(log: &Log, what: &str, future: impl Future<Output = T>) -> T {
    let case = &log.case;
    match tokio::time::timeout(AT_MOST, future).await {
        Ok(got) => got,
        Err(_) => panic!(
            "{what} takes too long, {:?} at {} ms: {:?}",
            case.handover,
            case.at_ms,
            log.entries()
        ),
    }
}

async fn pause(ms: u64) {
    actix_rt::time::sleep(Duration::from_millis(ms)).await;
}

/// Has a task cancelled by a node that need not have it. True if it says so.
async fn cancel(node: &Handle, key: &str) -> bool {
    let begin = Instant::now();
    loop {
        match node.cancel_key_anywhere(key).await {
            // A task that is not there yet may still be submitted.
            Ok(false)
                if !matches!(
                    node.status_anywhere(key).await,
                    Ok(TaskStatus::Ended { .. })
                ) => {}
            Ok(took) => return took,
            Err(AnywhereError::NoSuchTask(_)) => return false,
            Err(why) => panic!("{key}: {why}"),
        }
        assert!(begin.elapsed() < AT_MOST, "{key} can't be cancelled");
        pause(20).await;
    }
}

/// Submits each task to the first node, or to the second one once that is refused. Says what tickets answered.
async fn submit_all(
    log: &Log,
    first: &Handle,
    second: &tokio::sync::watch::Receiver<Option<Handle>>,
) -> HashMap<usize, Outcome<u32>> {
    let told = Mutex::new(HashMap::new());
    let mut waits = Vec::new();
    for (task, script) in log.case.tasks.iter().enumerate() {
        let timeout = script.timeout_ms.map(Duration::from_millis);
        let key = task.to_string();
        let submit = first.submit(task as u32).key(&*key).timeout(timeout);
        let ticket = match submit.await {
            Ok(ticket) => ticket,
            Err(_) => {
                let mut second = second.clone();
                let second = second.wait_for(Option::is_some).await.unwrap().clone();
                let second = second.unwrap();
                let submit = second.submit(task as u32).key(&*key);
                submit.timeout(timeout).await.unwrap()
            }
        };
        let told = &told;
        waits.push(async move {
            let what = format!("the outcome of task {task}");
            if let Ok(outcome) = within(log, &what, ticket.outcome()).await {
                told.lock().unwrap().insert(task, outcome);
            }
        });
        if task % 4 == 3 {
            pause(10).await;
        }
    }
    join_all(waits).await;
    told.into_inner().unwrap()
}

async fn play(seed: u64) -> Result<(), String> {
    let (world, log) = (World::new().await, Log::new(Case::of_seed(seed)));
    let handover = log.case.handover;
    let first = start_node(&world, &log, 1).await;
    let (tell, second) = tokio::sync::watch::channel(None);
    let takes_over = async {
        pause(log.case.at_ms).await;
        let (second, report) = match handover {
            Handover::Bury { is_alone: true } => {
                world.bury(1).await;
                (start_node(&world, &log, 2).await, None)
            }
            Handover::Suspend { is_alone: true } => {
                let report = first.shutdown(Shutdown::Suspend).await.unwrap();
                log.note(1, usize::MAX, Event::Suspended);
                (start_node(&world, &log, 2).await, Some(report))
            }
            _ => (start_node(&world, &log, 2).await, None),
        };
        tell.send_replace(Some(second.clone()));
        let ends = async {
            match handover {
                _ if report.is_some() => report,
                Handover::Bury { is_alone } => {
                    if !is_alone {
                        world.bury(1).await;
                    }
                    let report = within(&log, "the end", first.ended()).await.unwrap();
                    log.note(1, usize::MAX, Event::Suspended);
                    Some(report)
                }
                Handover::Suspend { .. } => {
                    let report = first.shutdown(Shutdown::Suspend).await.unwrap();
                    log.note(1, usize::MAX, Event::Suspended);
                    Some(report)
                }
                Handover::Drain => Some(end(first.clone()).await),
                Handover::Beside => None,
            }
        };
        let cancels = log.case.tasks.iter().enumerate().map(|(task, script)| {
            let (second, log) = (&second, &log);
            async move {
                pause(script.cancel_ms?).await;
                let key = task.to_string();
                let what = format!("a cancel of {key}");
                let cancelled = within(log, &what, cancel(second, &key));
                Some((task, cancelled.await))
            }
        });
        let (report, cancelled) = tokio::join!(ends, join_all(cancels));
        let cancelled: HashMap<usize, bool> = cancelled.into_iter().flatten().collect();
        (second, report, cancelled)
    };
    let ((second, report, cancelled), told) =
        tokio::join!(takes_over, submit_all(&log, &first, &second));
    let mut fates = Vec::new();
    for task in 0..log.case.tasks.len() {
        let key = task.to_string();
        let outcome = tokio::time::timeout(AT_MOST, second.outcome_of(&key)).await;
        let outcome = outcome.map_err(|_| format!("seed {seed}: task {task} has no outcome"))?;
        let outcome = outcome.map_err(|why| format!("seed {seed}: task {task}: {why}"))?;
        fates.push(Fate {
            outcome,
            told: told.get(&task).cloned(),
            cancelled: cancelled.get(&task).copied(),
        });
    }
    let first = match report {
        Some(report) => report,
        None => end(first).await,
    };
    let second = end(second).await;
    let left = world.counts("SELECT count(*) FROM @.task").await;
    let is_killed = first.suspended.is_some() && !matches!(handover, Handover::Suspend { .. });
    let entries = log.entries();
    check(&log.case, &entries, &fates, [&first, &second], is_killed)
        .and_then(|()| match left {
            0 => Ok(()),
            left => Err(format!("{left} tasks are left in the database")),
        })
        .map_err(|why| format!("seed {seed}, {handover:?}: {why}"))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c1_c2_c3_random_pipelines_go_on_in_a_second_node_on_postgres() {
    let cases = number("BATRUN_CASES").unwrap_or(30);
    let first = number("BATRUN_SEED").unwrap_or(1);
    let plays = stream::iter(first..first + cases).map(|seed| async move {
        let played = tokio::time::timeout(2 * AT_MOST, play(seed)).await;
        played.unwrap_or_else(|_| Err(format!("seed {seed}: it doesn't end")))
    });
    let wrong: Vec<String> = plays
        .buffer_unordered(AT_ONCE)
        .filter_map(|played| async { played.err() })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
