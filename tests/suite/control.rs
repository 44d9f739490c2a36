//! A pipeline as those see it who look after it: what a control shows and does, and that it keeps nothing
//! open.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use batrun::{
    Control, Error,
    error::{BuildError, RetryError},
    policy::RateLimit,
    prelude::*,
    report::{Cursor, Health, Report, Snapshot, TaskFilter, TaskPhase, UndoState},
    state::TaskId,
};

use crate::support::{
    AT_MOST, DRAIN, Do, Gauge, Held, Notes, acting, live, ms, noted, sleep, still, summary, until,
};

fn ids(control: &Control, filter: &TaskFilter) -> Vec<u64> {
    let page = control.tasks(filter, None, 100);
    assert_eq!((page.total, page.next), (page.tasks.len(), None));
    page.tasks.iter().map(|task| task.task.0).collect()
}

fn ended(control: &Control, from: Cursor, limit: usize) -> Vec<(u64, String)> {
    let ended = control.ended(from, limit).into_iter();
    ended
        .map(|ended| (ended.number, ended.outcome.to_string()))
        .collect()
}

#[test]
fn d1_a_control_keeps_no_pipeline_open_and_answers_after_its_end() {
    still(async {
        let handle = Pipeline::new("watched")
            .stage(acting("a"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        assert_eq!((control.name(), &*control.stages()[0]), ("watched", "a"));
        let failed = handle.submit(Do::Fail).label("ada").await.unwrap();
        let hangs = handle.submit(Do::Hang).timeout(ms(50)).await.unwrap();
        failed.outcome().await.unwrap();
        let before = control.snapshot();
        assert_eq!((before.in_flight, before.counts.failed), (1, 1));
        assert!(!before.ended && !before.draining && control.report().is_none());
        drop((failed, hangs));

        // The last handle: the pipeline ends, though it is watched.
        let report = handle.join().await.unwrap();
        assert_eq!(control.wait().await.unwrap().counts, report.counts);
        assert_eq!(control.report().unwrap().counts, report.counts);
        assert!(control.is_ended());
        let after = control.snapshot();
        assert_eq!(after.counts, report.counts);
        assert!(after.ended && after.draining);
        assert_eq!((after.in_flight, after.uptime), (0, report.elapsed));
        assert_eq!(after.stages[0].counts.started, 2);
        assert_eq!(control.health(), Health::Closed);
        assert_eq!(
            ended(&control, Cursor::Newest, 9),
            [
                (2, "task 2 timed out in a".to_owned()),
                (1, "task 1 \"ada\" failed in a: no".to_owned())
            ]
        );
        assert_eq!(control.rollback_times().count(), 2);
        assert_eq!(control.times()[0].work.count(), 2);

        assert!(ids(&control, &TaskFilter::new()).is_empty());
        assert!(control.task(TaskId(2)).is_none() && control.find_key("k").is_none());
        assert!(matches!(control.pause(), Err(Error::Ended)));
        assert!(matches!(control.resume_stage("a"), Err(Error::Ended)));
        assert!(matches!(control.resize("a", 2), Err(Error::Ended)));
        assert!(matches!(
            control.shutdown(Shutdown::Abort),
            Err(Error::Ended)
        ));
        let closed = RetryError::Closed(TaskId(1));
        assert_eq!(control.retry(TaskId(1)), Err(closed));
        assert!(!control.cancel(TaskId(1)) && !control.resolve(TaskId(1)));
    });
}

/// A value that counts as long as it lives, as its copies do.
struct Counted(Gauge, #[allow(dead_code)] Held);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        Counted(gauge.clone(), gauge.hold())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(&self.0)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

#[test]
fn d1_a_control_keeps_none_of_the_users_values() {
    let values = Gauge::default();
    let control = still({
        let values = values.clone();
        async move {
            let stage = stage_fn("a", async move |(): (), task: &TaskContext<'_, Counted>| {
                task.on_cancel(Counted::new(&values)).await?;
                Err::<(), _>(Failure::permanent("no"))
            })
            .cancel_with(async |_: Counted, _: &CancelContext<'_>| {
                Err(Failure::permanent("the bank is closed"))
            });
            let handle = Pipeline::new("p").stage(stage).current_arbiter();
            let handle = handle.start().await.unwrap();
            let control = handle.control();
            let ticket = handle.submit(()).await.unwrap();
            ticket.outcome().await.unwrap();
            drop(ticket);
            handle.join().await.unwrap();
            control
        }
    });
    assert_eq!(values.alive(), 0);
    // The stuck task is told of all the same.
    assert_eq!(
        control.stuck()[0].to_string(),
        "a: counted (the bank is closed)"
    );
    assert_eq!(control.snapshot().stuck, 1);
}

#[test]
fn d1_tasks_in_flight_are_found_by_filters_and_pages() {
    still(async {
        let handle = Pipeline::new("p")
            .stage(acting("a").workers(1))
            .stage(acting("b"))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        let mut tickets = vec![handle.submit(Do::Hang).label("adam").await.unwrap()];
        sleep(1).await;
        for (what, label) in [(Do::Pass, "ada"), (Do::Pass, "bob"), (Do::Pass, "")] {
            let submit = handle.submit(what).label(label).timeout(ms(9_000));
            tickets.push(submit.await.unwrap());
        }
        sleep(1).await;
        let all = TaskFilter::new();
        assert_eq!(ids(&control, &all), [1, 2, 3, 4]);
        assert_eq!(ids(&control, &all.clone().phase(TaskPhase::Running)), [1]);
        let waiting = all.clone().phase(TaskPhase::Queued);
        assert_eq!(ids(&control, &waiting), [2, 3, 4]);
        assert_eq!(ids(&control, &waiting.clone().label("ada")), [2]);
        assert_eq!(ids(&control, &all.clone().label("ada")), [1, 2]);
        assert_eq!(ids(&control, &all.clone().stage("a")), [1, 2, 3, 4]);
        for none in ["b", "no such stage"] {
            assert!(ids(&control, &all.clone().stage(none)).is_empty());
        }
        let old = all.clone().older_than(Duration::from_secs(3_600));
        assert!(ids(&control, &old).is_empty());

        let first = control.tasks(&all, None, 3);
        assert_eq!((first.tasks.len(), first.total), (3, 4));
        assert_eq!(first.next, Some(TaskId(3)));
        let second = control.tasks(&all, first.next, 3);
        assert_eq!((second.tasks.len(), second.total), (1, 4));
        assert_eq!((second.tasks[0].task, second.next), (TaskId(4), None));

        let [adam, ada, ..] = &first.tasks[..] else {
            panic!("{first:?}")
        };
        assert_eq!((adam.phase, adam.worker), (TaskPhase::Running, Some(0)));
        assert_eq!((ada.phase, ada.worker), (TaskPhase::Queued, None));
        assert_eq!(adam.deadline_left, None);
        assert!(ada.deadline_left.is_some_and(|left| left <= ms(9_000)));
        assert_eq!(ada.stage.as_deref(), Some("a"));
        let json = serde_json::to_value(ada).unwrap();
        assert_eq!(
            (&json["label"], &json["phase"]),
            (&"ada".into(), &"queued".into())
        );

        let snapshot = control.snapshot();
        let stage = &snapshot.stages[0];
        assert_eq!((stage.busy, stage.target, stage.workers), (1, 1, 1));
        assert!(stage.oldest_queued.is_some());
        assert_eq!(snapshot.stages[1].busy, 0);
        assert_eq!(snapshot.stages[1].oldest_queued, None);

        assert!(control.cancel(TaskId(1)) && !control.cancel(TaskId(1)));
        let outcome = tickets.remove(0).outcome().await.unwrap();
        assert_eq!(summary(&outcome), "cancelled in a; nothing to take back");
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        assert!(ids(&control, &all).is_empty());
        assert_eq!(control.snapshot().stages[0].oldest_queued, None);
        assert!(control.ended_task(TaskId(1)).is_some());
        assert!(control.ended_task(TaskId(2)).is_none());
    });
}

/// An undo whose text panics if it is told to.
#[derive(Clone)]
struct Printed(bool);

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0, "no text");
        f.write_str("the text\n")
    }
}

#[test]
fn d1_a_task_shows_its_undos_and_a_panic_in_their_text_is_caught() {
    still(async {
        let stage = stage_fn("a", async |(): (), task: &TaskContext<'_, Printed>| {
            task.on_cancel(Printed(true)).await?;
            let withdrawn = task.on_cancel(Printed(false)).await?;
            withdrawn.withdraw().await?;
            task.progress(0.5, "half");
            pending::<()>().await;
            Ok(())
        })
        .cancel_with(async |_: Printed, _: &CancelContext<'_>| {
            pending::<()>().await;
            Ok(())
        });
        let handle = Pipeline::new("p").stage(stage).current_arbiter();
        let handle = handle.start().await.unwrap();
        let control = handle.control();
        let ticket = handle.submit(()).label("ada").await.unwrap();
        sleep(1).await;
        let task = control.task(ticket.id()).unwrap();
        assert_eq!(task.view.label.as_deref(), Some("ada"));
        assert_eq!(task.view.progress.unwrap().fraction, 0.5);
        assert!(task.end.is_none());
        let states: Vec<_> = task
            .undos
            .iter()
            .map(|undo| (undo.state, undo.tries))
            .collect();
        assert_eq!(
            states,
            [(UndoState::Registered, 0), (UndoState::Withdrawn, 0)]
        );
        assert_eq!(task.undos[0].undo.as_deref(), Some("the text\n"));
        let text = task.undos[1].undo.as_deref().unwrap();
        assert!(text.contains("panicked"), "{text}");

        ticket.cancel();
        sleep(1).await;
        let task = control.task(ticket.id()).unwrap();
        assert_eq!(
            (task.view.phase, task.view.stage),
            (TaskPhase::RollingBack, None)
        );
        assert_eq!(task.end.unwrap().to_string(), "cancelled in a");
        // It is at work, and has its value all the same: the stage has a copy.
        assert_eq!(task.undos[0].tries, 1);
        assert_eq!(task.undos[0].undo.as_deref(), Some("the text\n"));
        assert!(control.task(TaskId(99)).is_none());
    });
}

/// An undo whose text takes until a task has been about to run it for a while.
#[derive(Clone)]
struct Slow(Arc<(AtomicBool, mpsc::Sender<()>)>);

impl fmt::Debug for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rolls_back, began) = &*self.0;
        began.send(()).unwrap();
        while !rolls_back.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // Time for those to go on that don't wait for it.
        let until = Instant::now() + ms(200);
        while Instant::now() < until {
            thread::yield_now();
        }
        f.write_str("slow")
    }
}

#[test]
fn d1_an_undo_that_is_just_being_shown_runs_and_a_stuck_one_can_be_retried() {
    live(async {
        for fails in [false, true] {
            let (began, waits) = mpsc::channel();
            let undo = Slow(Arc::new((AtomicBool::new(false), began)));
            let (registered, notes) = (undo.clone(), Notes::default());
            let stage = stage_fn("a", async move |(): (), task: &TaskContext<'_, Slow>| {
                task.on_cancel(registered.clone()).await?;
                pending::<()>().await;
                Ok(())
            })
            .cancel_with({
                let notes = notes.clone();
                async move |_: Slow, _: &CancelContext<'_>| {
                    notes.note("runs");
                    match fails {
                        true => Err(Failure::permanent("no")),
                        false => Ok(()),
                    }
                }
            });
            let handle = Pipeline::new("p").stage(stage).arbiters(1).start();
            let handle = handle.await.unwrap();
            let control = handle.control();
            let ticket = handle.submit(()).await.unwrap();
            let id = ticket.id();
            until(|| control.task_is_running(id)).await;
            let looks = thread::spawn({
                let control = control.clone();
                move || control.task(id)
            });
            waits.recv().unwrap();
            ticket.cancel();
            undo.0.0.store(true, Ordering::SeqCst);
            let outcome = ticket.outcome().await.unwrap();
            let shown = looks.join().unwrap();
            // One that has failed is tried once more at the end.
            assert_eq!(notes.all().len(), 1 + usize::from(fails));
            assert_eq!(outcome.rollback.is_stuck(), fails);
            if let Some(shown) = shown {
                assert_eq!(shown.undos[0].undo.as_deref(), Some("slow"));
            }
            if fails {
                assert_eq!(control.stuck()[0].undos[0].undo, "slow");
                assert_eq!(control.retry(id), Ok(()));
            }
            handle.shutdown(DRAIN).await.unwrap();
        }
    });
}

/// The questions of tests to a control.
trait Asked {
    fn task_is_running(&self, id: TaskId) -> bool;
}

impl Asked for Control {
    fn task_is_running(&self, id: TaskId) -> bool {
        let page = self.tasks(&TaskFilter::new().phase(TaskPhase::Running), None, 9);
        page.tasks.iter().any(|task| task.task == id)
    }
}

#[test]
fn d1_a_stage_is_paused_by_itself_and_the_others_go_on() {
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
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        assert!(matches!(
            control.pause_stage("c"),
            Err(Error::NoSuchStage(_))
        ));
        control.pause_stage("b").unwrap();
        let one = handle.submit(Do::Pass).await.unwrap();
        let two = handle.submit(Do::Pass).await.unwrap();
        sleep(10).await;
        let snapshot = control.snapshot();
        assert_eq!(snapshot.stages[0].counts.finished, 2);
        assert_eq!(snapshot.stages[1].counts.started, 0);
        assert!(!snapshot.paused && !snapshot.stages[0].paused && snapshot.stages[1].paused);
        assert_eq!(control.health(), Health::Ready);
        // Undos run all the same.
        assert!(two.cancel());
        two.outcome().await.unwrap();
        assert_eq!(notes.all(), ["undid a"]);
        // Both switches have to be off.
        control.pause().unwrap();
        control.resume_stage("b").unwrap();
        sleep(10).await;
        assert_eq!(control.snapshot().stages[1].counts.started, 0);
        control.pause_stage("b").unwrap();
        control.resume().unwrap();
        sleep(10).await;
        assert_eq!(control.snapshot().stages[1].counts.started, 0);
        control.resume_stage("b").unwrap();
        assert!(one.outcome().await.unwrap().is_done());

        // A shutdown resumes it, and it can't be paused any more.
        control.pause_stage("b").unwrap();
        let held = handle.submit(Do::Take(20)).await.unwrap();
        sleep(1).await;
        control.shutdown(DRAIN).unwrap();
        sleep(1).await;
        assert!(matches!(control.pause_stage("b"), Err(Error::Ended)));
        assert!(matches!(control.pause(), Err(Error::Ended)));
        // Its size can be changed as long as there is work.
        assert!(control.resize("b", 2).is_ok());
        let snapshot = control.snapshot();
        assert!(snapshot.draining && control.report().is_none());
        assert_eq!(snapshot.drain_left, Some(AT_MOST - ms(1)));
        assert!(held.outcome().await.unwrap().is_done());
        assert_eq!(control.wait().await.unwrap().counts.done, 2);
    });
}

#[test]
fn d1_a_rate_can_be_set_and_taken_off_while_the_stage_runs() {
    still(async {
        let handle = Pipeline::new("p")
            .stage(acting("a").workers(4).capacity(50))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        let started = || control.snapshot().stages[0].counts.started;
        let zero = control.set_rate("a", Some(RateLimit::per_second(0)));
        assert!(matches!(zero, Err(Error::Build(BuildError::ZeroRate(_)))));
        let rate = RateLimit::new(1, Duration::from_secs(10));
        control.set_rate("a", Some(rate)).unwrap();
        assert_eq!(control.snapshot().stages[0].rate, Some(rate));
        sleep(1).await;
        let mut tickets = Vec::new();
        for _ in 0..5 {
            tickets.push(handle.submit(Do::Pass).await.unwrap());
        }
        sleep(9_000).await;
        assert_eq!(started(), 1);
        sleep(2_000).await;
        assert_eq!(started(), 2);
        // A quicker one needs not wait for the time of the one before.
        control
            .set_rate("a", Some(RateLimit::per_second(1)))
            .unwrap();
        sleep(1_100).await;
        assert_eq!(started(), 4);
        control.set_rate("a", None).unwrap();
        sleep(1).await;
        assert_eq!(started(), 5);
        assert_eq!(control.snapshot().stages[0].rate, None);
    });
}

#[test]
fn d1_refused_submits_are_counted_by_their_reason() {
    still(async {
        let stage = stage_fn("a", async |n: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(n).await?;
            if n > 0 {
                return Err(Failure::permanent("no"));
            }
            pending::<()>().await;
            Ok(())
        })
        .cancel_with(async |_: u32, _: &CancelContext<'_>| Err(Failure::permanent("no")));
        let handle = Pipeline::new("p")
            .stage(stage.workers(1).capacity(1))
            .max_in_flight(1)
            .max_stuck(1)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let control = handle.control();
        let refused = || control.snapshot().refused;
        let snapshot = control.snapshot();
        assert_eq!((snapshot.in_flight_limit, snapshot.stuck_limit), (1, 1));
        assert_eq!(snapshot.stages[0].capacity, 1);
        let hangs = handle.submit(0).await.unwrap();
        sleep(1).await;
        assert!(handle.try_submit(0).is_err());
        assert!(handle.submit(0).if_room().await.is_err());
        assert_eq!((refused().full, refused().stuck), (2, 0));
        hangs.cancel();
        hangs.outcome().await.unwrap();
        assert!(handle.submit(1).await.is_err());
        assert!(handle.try_submit(1).is_err());
        assert_eq!((refused().full, refused().stuck), (2, 2));
        assert!(control.resolve(hangs.id()));
        control.shutdown(Shutdown::Suspend).unwrap();
        control.wait().await.unwrap();
        assert!(handle.submit(0).await.is_err());
        assert_eq!((refused().suspended, refused().closed), (1, 0));
        assert!(matches!(control.health(), Health::Suspended { .. }));
        assert!(control.snapshot().suspended_why.is_some());

        let handle = Pipeline::new("p").stage(acting("a")).current_arbiter();
        let handle = handle.start().await.unwrap();
        handle.shutdown(DRAIN).await.unwrap();
        assert!(handle.submit(Do::Pass).await.is_err());
        assert_eq!(handle.control().snapshot().refused.closed, 1);
    });
}

#[test]
fn d1_snapshots_and_reports_can_be_read_back_from_json() {
    still(async {
        let handle = Pipeline::new("p")
            .stage(acting("a").rate_limit(RateLimit::per_second(100)))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle
            .submit(Do::Fail)
            .await
            .unwrap()
            .outcome()
            .await
            .unwrap();
        let snapshot = handle.snapshot();
        let json = serde_json::to_value(&snapshot).unwrap();
        let back: Snapshot = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), json);
        assert_eq!(back.counts, snapshot.counts);
        let report = handle.shutdown(DRAIN).await.unwrap();
        let json = serde_json::to_value(&report).unwrap();
        let back: Report = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), json);
        assert_eq!(back.to_string(), report.to_string());
    });
}
