//! The timeline of a task, in order: its rollback always, and everything with a recorder.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use batrun::{
    Control,
    prelude::*,
    report::{Recorder, Timeline, TimelineKind as Kind},
    state::TaskId,
};

use crate::support::{Do, Notes, acting, ms, noted, sleep, still};

/// Each event as its stage and a word with its number.
fn told(timeline: &Timeline) -> Vec<String> {
    let events = timeline.events.iter().map(|event| {
        let stage = &event.stage;
        match event.kind {
            Kind::Queued { attempt } => format!("{stage} queued {attempt}"),
            Kind::Started { attempt } => format!("{stage} started {attempt}"),
            Kind::Finished { attempt } => format!("{stage} finished {attempt}"),
            Kind::AttemptEnded { attempt } => format!("{stage} ended {attempt}"),
            Kind::Registered { undo } => format!("{stage} registered {undo}"),
            Kind::RollbackBegan => format!("{stage} rolls back"),
            Kind::UndoStarted { undo } => format!("{stage} undoes {undo}"),
            Kind::Undone { undo } => format!("{stage} undid {undo}"),
            Kind::UndoFailed { undo } => format!("{stage} could not undo {undo}"),
            Kind::Ended => format!("{stage} is the end"),
            other => panic!("{other:?}"),
        }
    });
    events.collect()
}

/// Times that are known never go back.
fn assert_in_order(timeline: &Timeline) {
    let times: Vec<_> = timeline
        .events
        .iter()
        .filter_map(|event| event.at)
        .collect();
    assert!(times.is_sorted(), "{timeline:#?}");
}

fn timeline(control: &Control, task: u64) -> Timeline {
    let timeline = control.timeline(TaskId(task)).unwrap();
    assert_eq!(timeline.task, TaskId(task));
    assert_in_order(&timeline);
    timeline
}

/// Two stages that register an undo each, the first of which can't be undone at its first try. The second one
/// fails as often as it is told to.
fn two_stages(pipeline: Pipeline<u32>) -> Pipeline<u32, u32> {
    let tries = Arc::new(AtomicU32::new(0));
    let first = stage_fn("a", async |n: u32, task: &TaskContext<'_, ()>| {
        task.on_cancel(()).await?;
        Ok(n)
    })
    .cancel_with(async move |(): (), _: &CancelContext<'_>| {
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Failure::new("not yet")),
            _ => Ok(()),
        }
    });
    let second = stage_fn("b", async |n: u32, task: &TaskContext<'_, ()>| {
        task.on_cancel(()).await?;
        match task.attempt() <= n {
            true => Err(Failure::new("no")),
            false => Ok(n),
        }
    })
    .cancel_with(async |(): (), _: &CancelContext<'_>| Ok(()));
    pipeline
        .stage(first.cancel_retry(Retry::constant(1, ms(5))))
        .stage(second.retry(Retry::constant(1, ms(5))))
        .current_arbiter()
}

#[test]
fn d1_a_rollback_has_times_without_a_recorder_and_what_came_before_its_order() {
    still(async {
        let handle = two_stages(Pipeline::new("p")).start().await.unwrap();
        let control = handle.control();
        for n in [9, 0] {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        let failed = timeline(&control, 1);
        assert_eq!(
            told(&failed),
            [
                "a registered 0",
                "b registered 1",
                "b registered 2",
                "b rolls back",
                "a undoes 0",
                "a could not undo 0",
                "a undoes 0",
                "a undid 0",
                "b undoes 2",
                "b undid 2",
                "b is the end"
            ]
        );
        assert!(failed.events[..3].iter().all(|event| event.at.is_none()));
        assert!(failed.events[3..].iter().all(|event| event.at.is_some()));
        assert!(!failed.recorded && failed.left_out == 0);
        // Of a task that is done there is none.
        assert!(control.timeline(TaskId(2)).is_none() && control.timeline(TaskId(3)).is_none());
        handle.join().await.unwrap();
        assert_eq!(timeline(&control, 1), failed);
    });
}

#[test]
fn d1_a_recorder_has_the_times_of_everything_and_forgets_what_went_well() {
    still(async {
        let recorder = Recorder::bytes(1 << 20).one_in(3);
        let pipeline = two_stages(Pipeline::new("p")).recorder(recorder);
        let handle = pipeline.start().await.unwrap();
        let control = handle.control();
        for n in [9, 0, 0, 1] {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        let failed = timeline(&control, 1);
        let attempts = [
            "a queued 1",
            "a started 1",
            "a registered 0",
            "a finished 1",
            "b queued 1",
            "b started 1",
            "b registered 1",
            "b ended 1",
            "b undoes 1",
            "b undid 1",
            "b queued 2",
            "b started 2",
            "b registered 2",
            "b ended 2",
        ];
        let rollback = [
            "b rolls back",
            "a undoes 0",
            "a could not undo 0",
            "a undoes 0",
            "a undid 0",
            "b undoes 2",
            "b undid 2",
            "b is the end",
        ];
        assert_eq!(told(&failed), [&attempts[..], &rollback].concat());
        assert!(failed.recorded && failed.events.iter().all(|event| event.at.is_some()));
        // It went well, and nobody asked for it.
        assert!(control.timeline(TaskId(2)).is_none());
        // One in three.
        let chosen = [
            "a finished 1",
            "b queued 1",
            "b started 1",
            "b registered 1",
            "b finished 1",
        ];
        assert_eq!(told(&timeline(&control, 3))[3..], chosen);
        // Its second attempt did.
        let mut retried = attempts;
        retried[13] = "b finished 2";
        assert_eq!(told(&timeline(&control, 4)), retried);
    });
}

#[test]
fn d1_a_recorder_shows_a_task_in_flight_and_a_cancelled_one() {
    still(async {
        let notes = Notes::default();
        let first = noted(
            "a",
            &notes,
            async |what: Do, task: &TaskContext<'_, String>| {
                task.on_cancel("a".to_owned()).await?;
                Ok(what)
            },
        );
        let handle = Pipeline::new("p")
            .stage(first)
            .stage(acting("b"))
            .recorder(Recorder::bytes(0))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        let ticket = handle.submit(Do::Hang).await.unwrap();
        sleep(1).await;
        let so_far = [
            "a queued 1",
            "a started 1",
            "a registered 0",
            "a finished 1",
            "b queued 1",
            "b started 1",
        ];
        assert_eq!(told(&timeline(&control, 1)), so_far);
        ticket.cancel();
        ticket.outcome().await.unwrap();
        let rollback = [
            "b ended 1",
            "b rolls back",
            "a undoes 0",
            "a undid 0",
            "b is the end",
        ];
        assert_eq!(
            told(&timeline(&control, 1)),
            [&so_far[..], &rollback].concat()
        );
    });
}

#[test]
fn d1_a_timeline_of_many_undos_leaves_some_out_and_says_so() {
    still(async {
        let stage = stage_fn("a", async |undos: u32, task: &TaskContext<'_, u32>| {
            for undo in 0..undos {
                task.on_cancel(undo).await?;
            }
            Err::<(), _>(Failure::permanent("no"))
        })
        .cancel_with(async |_: u32, _: &CancelContext<'_>| Ok(()));
        for recorder in [None, Some(Recorder::bytes(1 << 20))] {
            let mut pipeline = Pipeline::new("p").stage(stage.clone()).current_arbiter();
            if let Some(recorder) = recorder {
                pipeline = pipeline.recorder(recorder);
            }
            let handle = pipeline.start().await.unwrap();
            let control = handle.control();
            handle.submit(300).await.unwrap().outcome().await.unwrap();
            let timeline = timeline(&control, 1);
            // The undos once as they were registered and twice as they ran, the beginning and the end; with the
            // recorder the attempt, too.
            let all = 300 + 600 + 2 + if recorder.is_some() { 3 } else { 0 };
            assert_eq!(timeline.events.len() + timeline.left_out, all);
            assert_eq!((timeline.events.len(), timeline.gap), (256, 64));
            let told = told(&timeline);
            assert_eq!(told[253..], ["a undoes 299", "a undid 299", "a is the end"]);
        }
    });
}
