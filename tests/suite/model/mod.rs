//! The model test: random pipelines, random scripts for every task and stage, and a model that says
//! what must have happened to each task.
//!
//! `BATRUN_CASES` sets how many cases are played; seeds of failures are kept in
//! `proptest-regressions`.

mod oracle;
mod script;
mod world;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use batrun::{Outcome, policy::OnStuck, prelude::*, report::Snapshot};
use futures::StreamExt;
use proptest::{prelude::*, test_runner::TestCaseError};

use self::{
    oracle::{Facts, check, end_is_due},
    script::{CANCEL_BACKOFF_MS, CANCEL_TIMEOUT_MS, EndScript, LATE_MS, cases},
    world::{Context, Entry, Event, Scripted, World},
};
use crate::support::{live, ms, quietly, sleep, still};

/// The outcomes of the tasks of a case, and how they came about.
#[derive(Default)]
struct Fates {
    accepted_ms: HashMap<usize, f64>,
    /// More than one if it was stuck, and tried again.
    outcomes: HashMap<usize, Vec<Outcome>>,
    cancel_took: HashMap<usize, bool>,
    /// Number of times that stuck tasks were tried again.
    retried: u64,
    /// Each with the number of those by then.
    snapshots: Vec<(Snapshot, u64)>,
}

/// Tries again what is left of a task, if it is stuck, as its script says.
async fn retry(
    world: &World,
    handle: &PipelineHandle<Context, Context>,
    fates: &Mutex<Fates>,
    (task, mut last): (usize, Outcome),
    scale: u64,
) {
    for after_ms in &world.case.tasks[task].retries_ms {
        if !last.rollback.is_stuck() {
            return;
        }
        sleep(after_ms / scale).await;
        let mut outcomes = handle.outcomes();
        // Before its outcome may be there.
        fates.lock().unwrap().retried += 1;
        if handle.retry(last.task).is_err() {
            // The pipeline takes nothing up any more.
            fates.lock().unwrap().retried -= 1;
            return;
        }
        last = loop {
            let outcome = outcomes.next().await.unwrap().unwrap();
            if outcome.task == last.task {
                break outcome;
            }
        };
        let mut fates = fates.lock().unwrap();
        fates.outcomes.entry(task).or_default().push(last.clone());
    }
}

fn build(world: &Arc<World>, blocking: bool) -> Pipeline<Context> {
    let case = &world.case;
    let mut pipeline = Pipeline::new("model")
        .order(if case.lifo { Order::Lifo } else { Order::Fifo })
        .abandon_after(ms(10 * LATE_MS));
    if let Some(most) = case.max_in_flight {
        pipeline = pipeline.max_in_flight(most);
    }
    for (stage, script) in case.stages.iter().enumerate() {
        let mut work = Scripted {
            world: world.clone(),
            stage,
        }
        .workers(script.workers)
        .capacity(script.capacity)
        .retry(Retry::constant(script.retries, ms(script.backoff_ms)))
        .cancel_retry(Retry::constant(
            script.cancel_retries,
            ms(CANCEL_BACKOFF_MS),
        ))
        .cancel_timeout(ms(CANCEL_TIMEOUT_MS))
        .on_stuck(if script.halt {
            OnStuck::Halt
        } else {
            OnStuck::Continue
        });
        if let Some(timeout) = script.timeout_ms {
            work = work.timeout(ms(timeout));
        }
        pipeline = pipeline.stage(if blocking { work.blocking() } else { work });
    }
    pipeline
}

async fn play(world: Arc<World>, pipeline: Pipeline<Context>, scale: u64) -> (Fates, Report) {
    let handle = pipeline.start().await.unwrap();
    let fates = Arc::new(Mutex::new(Fates::default()));
    let mut watchers = Vec::new();
    let submitting = {
        let (world, handle, fates) = (world.clone(), handle.clone(), fates.clone());
        actix_rt::spawn(async move {
            for (task, script) in world.case.tasks.iter().enumerate() {
                if script.after_ms > 0 {
                    sleep(script.after_ms / scale).await;
                }
                let mut submit = handle.submit(Context(task));
                if let Some(timeout) = script.timeout_ms {
                    submit = submit.timeout(ms(timeout / scale));
                }
                let Ok(ticket) = submit.await else { break };
                fates
                    .lock()
                    .unwrap()
                    .accepted_ms
                    .insert(task, world.now_ms());
                let cancel_ms = script.cancel_ms;
                let (world, handle, fates) = (world.clone(), handle.clone(), fates.clone());
                watchers.push(actix_rt::spawn(async move {
                    let mut early = None;
                    if let Some(at) = cancel_ms {
                        tokio::select! {
                            biased;
                            outcome = ticket.outcome() => early = Some(outcome),
                            () = sleep(at / scale) => {
                                let took = ticket.cancel();
                                fates.lock().unwrap().cancel_took.insert(task, took);
                            }
                        }
                    }
                    let outcome = strip(match early {
                        Some(outcome) => outcome,
                        None => ticket.outcome().await,
                    });
                    let first = vec![outcome.clone()];
                    fates.lock().unwrap().outcomes.insert(task, first);
                    retry(&world, &handle, &fates, (task, outcome), scale).await;
                }));
            }
            watchers
        })
    };
    let sampling = {
        let (handle, fates) = (handle.clone(), fates.clone());
        actix_rt::spawn(async move {
            for _ in 0..50 {
                let snapshot = handle.snapshot();
                {
                    let mut fates = fates.lock().unwrap();
                    let retried = fates.retried;
                    fates.snapshots.push((snapshot, retried));
                }
                sleep(7).await;
            }
        })
    };
    let report = match world.case.ending {
        EndScript::Late => {
            // Hangs need a shutdown to end; in real time there are none.
            if scale == 1 {
                sleep(LATE_MS).await;
                handle.shutdown(Shutdown::Abort).await.unwrap()
            } else {
                handle.shutdown(Shutdown::Drain(ms(LATE_MS))).await.unwrap()
            }
        }
        EndScript::Abort { at_ms } => {
            sleep(at_ms / scale).await;
            handle.shutdown(Shutdown::Abort).await.unwrap()
        }
        EndScript::Drain { at_ms, grace_ms } => {
            sleep(at_ms / scale).await;
            let how = Shutdown::Drain(ms(grace_ms / scale));
            handle.shutdown(how).await.unwrap()
        }
    };
    sampling.abort();
    for watcher in submitting.await.unwrap() {
        watcher.await.unwrap();
    }
    let fates = std::mem::take(&mut *fates.lock().unwrap());
    (fates, report)
}

fn strip(outcome: Result<Outcome<Context>, batrun::Error>) -> Outcome {
    let outcome = outcome.unwrap();
    assert!(!outcome.is_done() || outcome.output.is_some());
    let outcome = outcome.map(|_| ());
    serde_json::to_string(&outcome).unwrap();
    outcome
}

fn verify(world: &World, fates: &Fates, report: &Report, timed: bool) -> Result<(), TestCaseError> {
    let case = &world.case;
    let fail = |why: String| Err(TestCaseError::fail(why));
    // G1: each accepted task has one outcome, and the counts say so.
    let counts = report.counts;
    prop_assert_eq!(counts.in_flight(), 0);
    // G9: one more for each time that a stuck one was tried again.
    let accepted = fates.accepted_ms.len() as u64 + fates.retried;
    prop_assert_eq!(counts.accepted, accepted);
    prop_assert_eq!(counts.taken_back, 0);
    let stuck = |outcomes: &&Vec<Outcome>| outcomes.last().unwrap().rollback.is_stuck();
    let stuck = fates.outcomes.values().filter(stuck).count();
    prop_assert_eq!(report.stuck.len(), stuck);
    prop_assert_eq!(fates.outcomes.len(), fates.accepted_ms.len());
    let count = |which: fn(&batrun::state::End) -> bool| {
        fates
            .outcomes
            .values()
            .flatten()
            .filter(|outcome| which(&outcome.end))
            .count() as u64
    };
    prop_assert_eq!(
        counts.done,
        count(|end| matches!(end, batrun::state::End::Done))
    );
    prop_assert_eq!(
        counts.failed,
        count(|end| matches!(end, batrun::state::End::Failed { .. }))
    );
    prop_assert_eq!(
        counts.timed_out,
        count(|end| matches!(end, batrun::state::End::TimedOut { .. }))
    );
    prop_assert_eq!(
        counts.cancelled,
        count(|end| matches!(end, batrun::state::End::Cancelled { .. }))
    );
    for (snapshot, retried) in &fates.snapshots {
        prop_assert_eq!(snapshot.in_flight, snapshot.counts.in_flight());
        if let Some(most) = case.max_in_flight {
            // A task that is tried again doesn't wait for a place.
            prop_assert!(snapshot.in_flight <= most as u64 + retried);
        }
    }
    let log = world.log();
    let shut_down = timed || !matches!(case.ending, EndScript::Late);
    for (task, outcomes) in &fates.outcomes {
        let events: Vec<(f64, Event)> = log
            .iter()
            .filter(|e| e.task == *task)
            .map(|e| (e.at_ms, e.event))
            .collect();
        let deadline_ms = case.tasks[*task]
            .timeout_ms
            .map(|timeout| fates.accepted_ms[task] + timeout as f64);
        let facts = Facts {
            events: &events,
            outcome: &outcomes[0],
            again: &outcomes[1..],
            deadline_ms,
            timed,
        };
        check(case, &case.tasks[*task], &facts)
            .and_then(|()| end_is_due(&facts, fates.cancel_took.get(task).copied(), shut_down))
            .or_else(|why| fail(format!("task {task}: {why}")))?;
    }
    // A task that was not accepted never started.
    for entry in &log {
        prop_assert!(fates.accepted_ms.contains_key(&entry.task));
    }
    // Each attempt is counted once, at its start and at its end.
    for (stage, counted) in report.stages.iter().enumerate() {
        let is_start =
            |entry: &&Entry| matches!(entry.event, Event::Start { stage: at, .. } if at == stage);
        let counts = counted.counts;
        prop_assert_eq!(counts.started, log.iter().filter(is_start).count() as u64);
        let ended = counts.finished + counts.failed + counts.stopped;
        prop_assert_eq!(counts.started, ended, "stage {}: {:?}", stage, counts);
    }
    // G7: no more at work than workers.
    for (stage, script) in case.stages.iter().enumerate() {
        prop_assert!(world.running[stage].1.load(Ordering::SeqCst) <= script.workers);
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("BATRUN_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(cases);
    ProptestConfig {
        cases,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    /// G1 to G6, G9 to G11, exactly: one arbiter, and a clock that stands still.
    #[test]
    fn g01_g06_g09_g11_every_task_does_what_the_model_says(case in cases(true)) {
        quietly();
        let (world, (fates, report)) = still(async {
            let world = World::new(case, false);
            let pipeline = build(&world, false).current_arbiter();
            let played = play(world.clone(), pipeline, 1).await;
            (world, played)
        });
        verify(&world, &fates, &report, true)?;
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// The same invariants in real time, on two arbiters, with stages that block.
    #[test]
    fn g02_g05_g07_invariants_hold_on_threads(case in cases(false)) {
        quietly();
        let (world, (fates, report)) = live(async {
            let world = World::new(case, true);
            let pipeline = build(&world, true).arbiters(2);
            let played = play(world.clone(), pipeline, 8).await;
            (world, played)
        });
        verify(&world, &fates, &report, false)?;
    }
}
