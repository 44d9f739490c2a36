//! The test kit of the feature `testing`: a harness shows what a stage did, faults happen where they were
//! set, and an undo or a run that can't happen twice is found.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::{
    Error,
    error::{BuildError, FailureKind},
    prelude::*,
    state::{Rollback, TaskId},
    testing::{
        Act, Entry, Fault, Harness, Recorder, Repeat, What, assert_repeatable, live, paused,
        produced, scripted, tree,
    },
};

use crate::support::ms;

const SECOND: Duration = Duration::from_secs(1);

fn passing(name: &str, world: &Recorder) -> Work<batrun::testing::Scripted<u32>> {
    // A worker for each task, so that one that hangs holds up no other.
    scripted(name, world, |_: &u32, _| Act::Pass)
        .retry(Retry::none())
        .workers(3)
}

fn two(world: &Recorder) -> Pipeline<u32> {
    Pipeline::new("two")
        .producer(from_iter(1..=3).timeout(SECOND))
        .stage(passing("first", world))
        .stage(passing("second", world))
        .current_arbiter()
}

#[test]
fn a_script_decides_by_input_and_attempt() {
    paused(async {
        let world = Recorder::new();
        let stage = scripted("act", &world, |input: &u32, attempt| {
            match (input, attempt) {
                (1, 1) => Act::Fail,
                (2, _) => Act::FailForGood,
                (3, _) => Act::Panic,
                (4, _) => Act::Hang,
                (5, _) => Act::Slow(SECOND),
                _ => Act::Pass,
            }
        });
        let stage = Harness::new(stage.retry(Retry::exponential(3))).await;
        assert!(stage.run(1).await.is_done());
        let effect = (What::Effect, "act".to_owned());
        let cancel = (What::Cancel, "act".to_owned());
        let twice = [effect.clone(), cancel.clone(), effect.clone()];
        assert_eq!(world.of(TaskId(1)), twice);
        let kind = |outcome: batrun::Outcome<u32>| match outcome.end {
            End::Failed { failure, .. } => failure.kind(),
            end => panic!("{end}"),
        };
        assert_eq!(kind(stage.run(2).await), FailureKind::Permanent);
        assert_eq!(kind(stage.run(3).await), FailureKind::Panic);
        let late = stage.drop_after(ms(10), 4).await;
        assert_eq!(late.end.to_string(), "timed out in act");
        assert!(stage.run(5).await.is_done());
        assert!(!stage.drop_after(ms(999), 5).await.is_done());
        let report = stage.end().await;
        assert_eq!((report.counts.done, report.counts.timed_out), (2, 2));
        assert_eq!(world.left().len(), 2, "{world:?}");
    });
}

#[test]
fn a_script_can_make_undos_fail() {
    paused(async {
        let world = Recorder::new();
        let stage =
            scripted("act", &world, |_: &u32, _| Act::Pass).cancels(|attempt| match attempt {
                1 => Act::Fail,
                2 => Act::Panic,
                _ => Act::Pass,
            });
        let stage = Harness::new(stage).await;
        let outcome = stage.take_back(1).await;
        assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
        let effect = "task 1 act: effect act";
        assert_eq!(world.lines(), [effect, "task 1 act: cancel act"]);
        assert!(world.left().is_empty());
    });
}

#[test]
fn a_harness_shows_what_a_stage_leaves_behind() {
    paused(async {
        let world = Recorder::new();
        let note = world.clone();
        let stage = stage_fn(
            "forgets",
            async move |n: u32, task: &TaskContext<'_, ()>| {
                note.effect(task, n);
                Ok(n)
            },
        );
        let stage = Harness::new(stage).await;
        let outcome = stage.take_back(7).await;
        assert_eq!(outcome.rollback, Rollback::None);
        assert_eq!(world.left(), [(TaskId(1), "7".to_owned())]);
    });
}

#[test]
fn each_fault_happens_where_it_was_set() {
    let faults = Fault::every(&["first", "second"]);
    assert_eq!(faults.len(), 12);
    for fault in faults {
        let fault = fault.task(2);
        let world = Recorder::new();
        let report = paused(two(&world).inject(fault.clone()).run()).unwrap();
        assert_eq!(fault.happened(), 1, "{fault}");
        assert_eq!(report.counts.done, 2, "{fault}: {report}");
        let text = fault.to_string();
        let failure = &report.last_failures[0];
        assert_eq!(failure.task, TaskId(2), "{fault}");
        if text.contains("hang") {
            assert_eq!(report.counts.timed_out, 1, "{fault}");
        } else {
            assert_eq!(report.counts.failed, 1, "{fault}");
            assert!(failure.to_string().contains(&text), "{fault}: {failure}");
        }
        // An effect for each stage that it passed, and the faulty one's if the fault came after it.
        let effects = usize::from(text.contains("second")) + usize::from(text.contains("after"));
        let undos = match &failure.rollback {
            Rollback::None => 0,
            Rollback::Complete { undos } => *undos,
            stuck => panic!("{fault}: {stuck}"),
        };
        assert_eq!(undos, effects, "{fault}");
        assert_eq!(world.of(TaskId(2)).len(), 2 * effects, "{fault}: {world:?}");
        assert_eq!(world.left().len(), 4, "{fault}: {world:?}");
    }
}

#[test]
fn a_fault_can_hit_a_later_attempt_or_an_undo() {
    let world = Recorder::new();
    let retried = Fault::fail("first");
    let again = Fault::fail("first").attempt(2).task(3);
    let cancel = Fault::fail_for_good("first").in_cancel().every_attempt();
    let late = Fault::fail_for_good("second").task(1);
    let pipeline = Pipeline::new("two")
        .producer(from_iter(1..=3))
        .stage(passing("first", &world).retry(Retry::constant(2, ms(1))))
        .stage(passing("second", &world))
        .current_arbiter()
        .inject(retried.clone())
        .inject(again.clone())
        .inject(cancel.clone())
        .inject(late.clone());
    let report = paused(pipeline.run()).unwrap();
    assert_eq!((retried.happened(), again.happened()), (3, 1));
    // The round of the rollback, and the second one.
    assert_eq!((late.happened(), cancel.happened()), (1, 2));
    assert_eq!((report.counts.done, report.counts.failed), (2, 1));
    assert!(matches!(
        report.last_failures[0].rollback,
        Rollback::Stuck(_)
    ));
    assert_eq!(report.stages[0].counts.retried, 4);
}

#[test]
fn a_fault_for_an_unknown_stage_is_refused() {
    let world = Recorder::new();
    let refused = paused(two(&world).inject(Fault::panic("third")).run());
    let Err(Error::Build(refused)) = refused else {
        panic!("it ran");
    };
    assert_eq!(refused, BuildError::FaultWithoutStage("third".to_owned()));
}

#[test]
fn a_run_that_cannot_be_repeated_is_refused() {
    let world = Recorder::new();
    let pipeline = Pipeline::new("one").stage(scripted("only", &world, |_: &u32, _| Act::Pass));
    let Err(Error::Build(refused)) = paused(pipeline.repeat(Repeat::runs()).run()) else {
        panic!("it ran");
    };
    assert_eq!(refused, BuildError::NotRepeatable("only".to_owned()));
}

#[test]
fn repeat_both_runs_stages_and_undos_twice() {
    let world = Recorder::new();
    let fault = Fault::fail_for_good("second").every_attempt().task(2);
    let pipeline = two(&world).repeat(Repeat::both()).inject(fault);
    let report = paused(pipeline.run()).unwrap();
    assert_eq!((report.counts.done, report.counts.failed), (2, 1));
    let (effect, cancel) = (What::Effect, What::Cancel);
    let whats = |task| {
        let its: Vec<_> = world.of(TaskId(task)).into_iter().collect();
        its.into_iter()
            .filter(|(_, thing)| thing == "first")
            .map(|(what, _)| what)
            .collect::<Vec<_>>()
    };
    // Run, taken back twice, run again.
    assert_eq!(whats(1), [effect, cancel, cancel, effect]);
    // And in the end taken back, twice again.
    assert_eq!(whats(2), [effect, cancel, cancel, effect, cancel, cancel]);
}

/// A stock that a stage takes from. A naive undo puts back one more each time it runs.
fn stock(naive: bool, repeat: Repeat) -> impl Future<Output = i32> {
    let stock = Arc::new(Mutex::new((10, Vec::new())));
    let (take, give) = (stock.clone(), stock.clone());
    let stage = stage_fn("take", async move |n: i32, task: &TaskContext<'_, u64>| {
        task.on_cancel(task.task_id().0).await?;
        let mut stock = take.lock().unwrap();
        stock.0 -= n;
        stock.1.push(task.task_id().0);
        Ok(n)
    })
    .cancel_with(async move |id: u64, _: &CancelContext<'_>| {
        let mut stock = give.lock().unwrap();
        let held = stock.1.iter().position(|held| *held == id);
        if let Some(held) = held {
            stock.1.remove(held);
        }
        if naive || held.is_some() {
            stock.0 += 1;
        }
        Ok(())
    });
    async move {
        Pipeline::new("stock")
            .producer(from_iter([1, 1, 1]))
            .stage(stage.retry(Retry::none()))
            .stage(
                stage_fn(
                    "odd",
                    async |n: i32, task: &TaskContext<'_, ()>| match task.task_id().0 {
                        2 => Err(Failure::permanent("no")),
                        _ => Ok(n),
                    },
                )
                .retry(Retry::none()),
            )
            .current_arbiter()
            .repeat(repeat)
            .run()
            .await
            .unwrap();
        stock.lock().unwrap().0
    }
}

#[test]
fn an_undo_that_can_run_twice_is_repeatable() {
    paused(assert_repeatable(async |repeat| stock(false, repeat).await));
}

#[test]
fn an_undo_that_cannot_run_twice_is_found() {
    let checked = AssertUnwindSafe(|| {
        paused(assert_repeatable(async |repeat| stock(true, repeat).await));
    });
    let caught = catch_unwind(checked).unwrap_err();
    let text = caught.downcast_ref::<String>().unwrap();
    assert!(text.contains("with every cancel repeated"), "{text}");
    assert!(
        text.contains("once: 8") && text.contains("then: 9"),
        "{text}"
    );
}

#[test]
fn produced_returns_what_a_producer_submits() {
    paused(async {
        assert_eq!(produced(from_iter(1..=3)).await.0, [1, 2, 3]);
        let broken = |tasks: Intake<u32>| async move {
            tasks.submit(1).await?;
            Err(Failure::new("no more"))
        };
        let (made, error) = produced(broken).await;
        assert_eq!(made, [1]);
        assert_eq!(error.unwrap().failure.to_string(), "no more");
    });
}

#[test]
fn a_tree_lists_everything_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/.hidden"), "x").unwrap();
    let found = tree(folder.path()).unwrap();
    let expected = [
        ("sub", Entry::Folder),
        ("sub/.hidden", Entry::File(b"x".to_vec())),
    ];
    assert_eq!(
        found,
        expected.map(|(name, entry)| (name.into(), entry)).into()
    );
    assert!(tree(folder.path().join("absent")).is_err());
}

#[test]
fn a_harness_rolls_back_a_blocking_stage() {
    live(async {
        let world = Recorder::new();
        let stage = Harness::new(passing("blocks", &world).blocking()).await;
        assert_eq!(
            stage.take_back(1).await.rollback,
            Rollback::Complete { undos: 1 }
        );
        assert!(stage.run(2).await.is_done());
        assert_eq!(world.left(), [(TaskId(2), "blocks".to_owned())]);
    });
}

fn caught(test: impl FnOnce()) -> String {
    let caught = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    match caught.downcast::<String>() {
        Ok(text) => *text,
        Err(caught) => caught.downcast_ref::<&str>().unwrap().to_string(),
    }
}

#[test]
fn an_undo_that_fails_the_second_time_is_found() {
    let text = caught(|| {
        paused(assert_repeatable(async |repeat| {
            let world = Recorder::new();
            let gone = Arc::new(Mutex::new(Vec::new()));
            let stage = stage_fn("once", async |n: u32, task: &TaskContext<'_, u32>| {
                task.on_cancel(n).await?;
                Ok(n)
            })
            .cancel_with(async move |n: u32, cancel: &CancelContext<'_>| {
                let mut gone = gone.lock().unwrap();
                if gone.contains(&(cancel.task_id(), n)) {
                    return Err(Failure::permanent("it is gone"));
                }
                gone.push((cancel.task_id(), n));
                Ok(())
            });
            Pipeline::new("once")
                .producer(from_iter([1]))
                .stage(stage.retry(Retry::none()))
                .stage(scripted("no", &world, |_: &u32, _| Act::FailForGood).retry(Retry::none()))
                .current_arbiter()
                .repeat(repeat)
                .run()
                .await
                .unwrap();
            world.left()
        }));
    });
    assert!(text.contains("called again"), "{text}");
    assert!(text.contains("task 1 once: it is gone"), "{text}");
}

#[test]
fn a_check_that_repeats_nothing_is_found() {
    let text = caught(|| {
        paused(assert_repeatable(async |_| {
            stock(false, Repeat::nothing()).await
        }))
    });
    assert!(text.contains("nothing was"), "{text}");
}
