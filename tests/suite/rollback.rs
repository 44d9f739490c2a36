//! The undos of a task run one at a time, in order; those of different tasks side by side.

use batrun::{
    prelude::*,
    state::{Rollback, StageIx},
};

use crate::support::{Notes, noted, sleep, still};

/// Registers two undos, `<name>1` and `<name>2`, and then succeeds or fails.
fn stage(
    name: &'static str,
    notes: &Notes,
    fails: bool,
) -> impl Stage<Input = u32, Output = u32> + Clone + Send {
    let (ran, cancelled) = (notes.clone(), notes.clone());
    stage_fn(
        name,
        async move |input: u32, task: &TaskContext<'_, String>| {
            for n in 1..=2 {
                task.on_cancel(format!("{name}{n}")).await?;
                ran.note(format!("did {name}{n}"));
            }
            if fails {
                Err(Failure::new("no"))
            } else {
                Ok(input)
            }
        },
    )
    .cancel_with(async move |undo: String, _: &CancelContext<'_>| {
        cancelled.note(format!("undid {undo}"));
        Ok(())
    })
}

#[test]
fn g03_undo_runs_in_registration_order() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("fifo")
            .producer(from_iter([7]))
            .stage(stage("a", &notes, false))
            .stage(stage("b", &notes, true))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 1);
    assert_eq!(notes.of("undid "), ["a1", "a2", "b1", "b2"]);
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 4 }
    );
}

#[test]
fn g03_lifo_runs_the_undos_in_reverse_order() {
    let notes = Notes::default();
    let report = still(
        Pipeline::new("lifo")
            .order(Order::Lifo)
            .producer(from_iter([7]))
            .stage(stage("a", &notes, false))
            .stage(stage("b", &notes, true))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 1);
    assert_eq!(notes.of("undid "), ["b2", "b1", "a2", "a1"]);
}

#[test]
fn g03_rollbacks_of_different_tasks_run_side_by_side() {
    // Each task's own one after the other, in the order in which the tasks stopped.
    let notes = Notes::default();
    still(async {
        let (started, ended) = (notes.clone(), notes.clone());
        let stage = stage_fn("s", async |n: u64, task: &TaskContext<'_, String>| {
            for undo in ["x", "y"] {
                task.on_cancel(format!("{n}{undo}")).await?;
            }
            sleep(n).await;
            Err::<u64, _>(Failure::new("no"))
        })
        .cancel_with(async move |undo: String, _: &CancelContext<'_>| {
            started.note(format!("{undo} begins"));
            sleep(100).await;
            ended.note(format!("{undo} ends"));
            Ok(())
        });
        let report = Pipeline::new("side by side")
            .producer(from_iter([2, 1]))
            .stage(stage.workers(2))
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert_eq!(report.counts.failed, 2);
    });
    assert_eq!(
        notes.all(),
        [
            "1x begins",
            "2x begins",
            "1x ends",
            "1y begins",
            "2x ends",
            "2y begins",
            "1y ends",
            "2y ends"
        ]
    );
}

#[test]
fn g03_order_holds_over_many_stages() {
    let notes = Notes::default();
    let stage = |n: StageIx| {
        noted(
            &format!("s{n}"),
            &notes,
            async move |input: u32, task: &TaskContext<'_, String>| {
                task.on_cancel(format!("s{n}")).await?;
                if n == 4 {
                    return Err(Failure::new("no"));
                }
                Ok(input)
            },
        )
    };
    still(
        Pipeline::new("five")
            .producer(from_iter([1]))
            .stage(stage(0))
            .stage(stage(1))
            .stage(stage(2))
            .stage(stage(3))
            .stage(stage(4))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(notes.of("undid "), ["s0", "s1", "s2", "s3", "s4"]);
}
