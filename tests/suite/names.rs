//! Keys and labels: whatever tells of a task's end has the names that it was submitted with.

use std::sync::{Arc, Mutex, OnceLock};

use batrun::{
    Outcome, PipelineHandle,
    ledger::{Change, Ledger, Recorded, Transition},
    prelude::*,
    state::Stuck,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{DRAIN, sleep, still};

/// A stage whose odd tasks fail, and whose undo fails for every third one.
fn odd_fails() -> impl Stage<Input = u32, Output = u32, Undo = u32> + Clone + Send + use<> {
    stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
        task.on_cancel(n).await?;
        match n {
            0 => std::future::pending().await,
            n if n % 2 == 1 => Err(Failure::permanent("odd")),
            n => Ok(n * 2),
        }
    })
    .cancel_with(async |n: u32, _: &CancelContext<'_>| match n % 3 {
        0 => Err(Failure::permanent("the bank is closed")),
        _ => Ok(()),
    })
}

async fn start() -> PipelineHandle<u32, u32> {
    let pipeline = Pipeline::new("p").stage(odd_fails().workers(2));
    pipeline.start().await.unwrap()
}

fn names<O>(outcome: &Outcome<O>) -> (Option<&str>, Option<&str>) {
    (outcome.key.as_deref(), outcome.label.as_deref())
}

#[test]
fn d08_an_outcome_has_its_tasks_label_wherever_it_is_told() {
    still(async {
        let handle = start().await;
        let mut outcomes = handle.outcomes();
        let done = handle.submit(2).label("ada").await.unwrap();
        assert_eq!(
            done.outcome().await.unwrap().to_string(),
            "task 1 \"ada\" done"
        );
        let plain = handle.submit(4).await.unwrap().outcome().await.unwrap();
        assert_eq!(plain.to_string(), "task 2 done");
        let failed = handle.submit(1).label("bob".to_owned()).now().unwrap();
        let failed = failed.outcome().await.unwrap();
        let text = "task 3 \"bob\" failed in s: odd; 1 undo taken back";
        assert_eq!(
            (failed.to_string().as_str(), names(&failed)),
            (text, (None, Some("bob")))
        );
        let stuck = handle.submit(3).label("eve").if_room().await.unwrap();
        let stuck = stuck.outcome().await.unwrap();
        assert_eq!(names(&stuck), (None, Some("eve")));
        let listed: Vec<Stuck> = handle.stuck();
        assert_eq!(listed[0].label.as_deref(), Some("eve"));
        let cancelled = handle.submit(0).label("kim").await.unwrap();
        assert!(cancelled.cancel());
        assert_eq!(
            names(&cancelled.outcome().await.unwrap()),
            (None, Some("kim"))
        );

        let mut told = Vec::new();
        for _ in 0..5 {
            let outcome = outcomes.next().await.unwrap().unwrap();
            told.push(outcome.label.as_deref().map(str::to_owned));
        }
        let told: Vec<_> = told.iter().map(Option::as_deref).collect();
        assert_eq!(
            told,
            [Some("ada"), None, Some("bob"), Some("eve"), Some("kim")]
        );
        let report = handle.shutdown(DRAIN).await.unwrap();
        let last: Vec<_> = report.last_failures.iter().map(names).collect();
        assert_eq!(
            last,
            [
                (None, Some("bob")),
                (None, Some("eve")),
                (None, Some("kim"))
            ]
        );
        let text = report.to_string();
        assert!(
            text.contains("task 4 \"eve\": s: 3 (the bank is closed)"),
            "{text}"
        );
    });
}

#[test]
fn d08_a_producers_labels_leave_the_order_of_its_tasks_alone() {
    still(async {
        let told = Arc::new(Mutex::new(Vec::new()));
        let report = Pipeline::new("p")
            .producer(|tasks: Intake<u32>| async move {
                for n in 0..300 {
                    let submit = tasks.submit(2 * n + 1);
                    match n % 3 {
                        0 => submit.label(format!("task {n}")).await?,
                        1 => submit.await?,
                        _ => submit.label(format!("task {n}")).if_room().await?,
                    };
                }
                Ok(())
            })
            .stage({
                let told = told.clone();
                stage_fn("s", async move |n: u32, task: &TaskContext<'_, ()>| {
                    told.lock().unwrap().push((task.task_id().0, n));
                    Err::<(), _>(Failure::permanent("no"))
                })
                .capacity(1_000)
            })
            .max_in_flight(1_000)
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert!(report.producer_errors.is_empty(), "{report}");
        let told = told.lock().unwrap();
        let wanted: Vec<_> = (0..300).map(|n| (u64::from(n) + 1, 2 * n + 1)).collect();
        assert_eq!(*told, wanted);
        assert!(!report.last_failures.is_empty());
        for outcome in &report.last_failures {
            let n = outcome.task.0 - 1;
            let label = (n % 3 != 1).then(|| format!("task {n}"));
            assert_eq!(outcome.label.as_deref(), label.as_deref(), "{outcome}");
        }
    });
}

/// Of three places the first submit leases two, and somebody else takes the third.
#[test]
fn d08_a_label_finds_the_room_that_its_producer_has_leased() {
    still(async {
        let known: Arc<OnceLock<PipelineHandle<u32, u32>>> = Arc::default();
        let begin = Arc::new(Notify::new());
        let (theirs, go) = (known.clone(), begin.clone());
        let handle = Pipeline::new("p")
            .producer(|tasks: Intake<u32>| async move {
                go.notified().await;
                tasks.submit(2).await?;
                theirs.get().unwrap().try_submit(2).map(drop).unwrap();
                let labelled = tasks.submit(1).label("ada").if_room().await?;
                assert!(tasks.submit(2).label("bob").now().is_err());
                assert_eq!(labelled.outcome().await?.label.as_deref(), Some("ada"));
                Ok(())
            })
            .stage(odd_fails())
            .max_in_flight(3)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        known.set(handle.clone()).ok().unwrap();
        begin.notify_one();
        sleep(10).await;
        let report = handle.shutdown(DRAIN).await.unwrap();
        assert!(report.producer_errors.is_empty(), "{report}");
        assert_eq!((report.counts.accepted, report.counts.done), (3, 2));
    });
}

#[test]
fn d08_a_record_gives_no_label_to_the_next_task() {
    still(async {
        let handle = start().await;
        for n in 0..40 {
            let label = (n % 2 == 0).then(|| n.to_string());
            let submit = handle.submit(1 + n % 5);
            let ticket = match &label {
                Some(label) => submit.label(label).await.unwrap(),
                None => submit.await.unwrap(),
            };
            let outcome = ticket.outcome().await.unwrap();
            assert_eq!(outcome.label.as_deref(), label.as_deref(), "{outcome}");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn d08_a_label_is_cut_to_64_bytes_and_an_empty_one_is_none() {
    still(async {
        let handle = start().await;
        let long = format!("a{}", "é".repeat(90));
        let ticket = handle.submit(2).label(long).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(
            outcome.label.as_deref(),
            Some(&*format!("a{}", "é".repeat(31)))
        );
        let ticket = handle.submit(2).label("x").label("").await.unwrap();
        assert_eq!(ticket.outcome().await.unwrap().to_string(), "task 2 done");
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn d08_control_characters_in_a_label_are_escaped_where_it_is_printed() {
    still(async {
        let handle = start().await;
        let ticket = handle.submit(3).label("\u{1b}[2J\nWARN").await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.label.as_deref(), Some("\u{1b}[2J\nWARN"));
        let shown = r#"task 1 "\u{1b}[2J\nWARN" failed in s: odd"#;
        assert!(outcome.to_string().starts_with(shown), "{outcome}");
        let report = handle.shutdown(DRAIN).await.unwrap().to_string();
        assert_eq!(
            report.matches(r#"task 1 "\u{1b}[2J\nWARN""#).count(),
            2,
            "{report}"
        );
        assert!(!report.contains('\u{1b}'), "{report}");
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    paid: u32,
}

#[test]
fn d08_json_has_the_output_and_the_names_where_there_are_any() {
    still(async {
        let handle = Pipeline::new("p")
            .stage(stage_fn(
                "pay",
                async |n: u32, _: &TaskContext<'_, ()>| match n {
                    0 => Err(Failure::permanent("nothing")),
                    paid => Ok(Receipt { paid }),
                },
            ))
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(7).label("ada").await.unwrap();
        let done = ticket.outcome().await.unwrap();
        let value = serde_json::to_value(&done).unwrap();
        assert_eq!(
            value,
            json!({
                "task": 1, "label": "ada", "end": { "kind": "done" }, "rollback": { "kind": "none" },
                "output": { "paid": 7 },
            })
        );
        let again: Outcome<Receipt> = serde_json::from_value(value).unwrap();
        assert_eq!(again.output, Some(Receipt { paid: 7 }));
        assert_eq!(again.to_string(), done.to_string());

        let ticket = handle.submit(0).await.unwrap();
        let failed = ticket.outcome().await.unwrap();
        let value = serde_json::to_value(&failed).unwrap();
        let fields: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["end", "rollback", "task"]);
        let again: Outcome<Receipt> = serde_json::from_value(value).unwrap();
        assert_eq!((again.output, again.label), (None, None));
        handle.shutdown(DRAIN).await.unwrap();
    });
}

/// A ledger that notes the names of what is accepted.
#[derive(Clone, Default)]
struct Accepted(Arc<Mutex<Vec<KeyAndLabel>>>);

type KeyAndLabel = (Option<String>, Option<String>);

impl Ledger for Accepted {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        if let Change::Accepted { key, label, .. } = transition.change {
            let names = (key.map(str::to_owned), label.map(str::to_owned));
            self.0.lock().unwrap().push(names);
        }
        Recorded::later(async {
            sleep(1).await;
            Ok(())
        })
    }
}

#[test]
fn d08_a_ledger_is_told_the_names_and_outcomes_have_them() {
    still(async {
        let ledger = Accepted::default();
        let handle = Pipeline::new("p")
            .ledger(ledger.clone())
            .stage(odd_fails())
            .start()
            .await
            .unwrap();
        let both = handle.submit(2).key("order 17").label("ada").await.unwrap();
        let done = both.outcome().await.unwrap();
        assert_eq!(done.to_string(), "task 1 \"ada\" (key order 17) done");
        assert_eq!(names(&done), (Some("order 17"), Some("ada")));
        let keyed = handle.submit(3).key("order\n18").await.unwrap();
        let stuck = keyed.outcome().await.unwrap();
        assert!(
            stuck
                .to_string()
                .starts_with(r"task 2 (key order\n18) failed"),
            "{stuck}"
        );
        assert_eq!(handle.stuck()[0].key.as_deref(), Some("order\n18"));
        handle.submit(4).await.unwrap().outcome().await.unwrap();
        let quick = handle.submit(4).label("bob").key("x").now().unwrap();
        let quick = quick.outcome().await.unwrap();
        assert_eq!(names(&quick), (Some("x"), Some("bob")));
        let some = |text: &str| Some(text.to_owned());
        let told = ledger.0.lock().unwrap().clone();
        assert_eq!(
            told[..],
            [
                (some("order 17"), some("ada")),
                (some("order\n18"), None),
                (None, None),
                (some("x"), some("bob")),
            ]
        );
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[cfg(feature = "journal")]
mod with_a_journal {
    use batrun::{journal::Journal, state::Rollback, testing::Disk};

    use super::{DRAIN, names, odd_fails, still};
    use crate::support::{live, on_disk};
    use batrun::{PipelineHandle, prelude::*};

    async fn open(journal: Journal, version: u32) -> PipelineHandle<u32, u32> {
        Pipeline::new("p")
            .journal(journal)
            .stage(odd_fails().workers(2).version(version))
            .start()
            .await
            .unwrap()
    }

    #[test]
    fn d08_a_restored_task_and_a_kept_outcome_have_their_names() {
        let disk = Disk::new();
        live(async {
            let handle = open(on_disk(&disk), 1).await;
            let done = handle.submit(2).key("two").label("ada").await.unwrap();
            assert_eq!(
                names(&done.outcome().await.unwrap()),
                (Some("two"), Some("ada"))
            );
            let stuck = handle.submit(3).key("three").label("eve").await.unwrap();
            assert_eq!(
                names(&stuck.outcome().await.unwrap()),
                (Some("three"), Some("eve"))
            );
            handle.submit(0).key("zero").label("kim").await.unwrap();
            handle.submit(0).label("joe").await.unwrap();
            handle.shutdown(Shutdown::Suspend).await.unwrap();
        });
        live(async {
            let handle = open(on_disk(&disk), 1).await;
            let kept = handle.outcome_of("two").await.unwrap().unwrap();
            assert_eq!(
                (names(&kept), kept.output),
                ((Some("two"), Some("ada")), Some(4))
            );
            let kept = handle.outcome_of("three").await.unwrap().unwrap();
            assert_eq!(names(&kept), (Some("three"), Some("eve")));
            let Rollback::Stuck(stuck) = &kept.rollback else {
                panic!("{kept}")
            };
            // The others, whose undos may have failed by now, too, are beside it.
            let listed = handle.stuck();
            let listed = listed.iter().find(|listed| listed.task == kept.task);
            for stuck in [stuck, listed.unwrap()] {
                let names = (stuck.key.as_deref(), stuck.label.as_deref());
                assert_eq!(names, (Some("three"), Some("eve")));
            }
            // A second submit gets the first one's outcome, with the label of that.
            let known = handle.submit(2).key("two").label("other").await.unwrap();
            assert!(known.is_known());
            assert_eq!(
                names(&known.outcome().await.unwrap()),
                (Some("two"), Some("ada"))
            );
            let report = handle.shutdown(Shutdown::Abort).await.unwrap();
            let mut last: Vec<_> = report.last_failures.iter().map(names).collect();
            last.sort_unstable();
            assert_eq!(last, [(None, Some("joe")), (Some("zero"), Some("kim"))]);
        });
    }

    #[test]
    fn d08_a_task_that_is_set_aside_keeps_its_names() {
        let disk = Disk::new();
        live(async {
            let handle = open(on_disk(&disk), 1).await;
            handle.submit(0).key("zero").label("kim").await.unwrap();
            handle.shutdown(Shutdown::Suspend).await.unwrap();
        });
        live(async {
            let handle = open(on_disk(&disk), 2).await;
            let kept = handle.outcome_of("zero").await.unwrap().unwrap();
            assert_eq!(names(&kept), (Some("zero"), Some("kim")));
            let stuck = &handle.stuck()[0];
            assert_eq!(stuck.label.as_deref(), Some("kim"));
            assert_eq!(stuck.key.as_deref(), Some("zero"));
            handle.shutdown(DRAIN).await.unwrap();
        });
    }

    #[test]
    fn d08_a_key_that_was_refused_leaves_no_name_behind() {
        still(async {
            let handle = open(on_disk(&Disk::new()), 1).await;
            let refused = handle.submit(2).key("").label("ada").await.map(drop);
            assert!(refused.is_err());
            let outcome = handle.submit(2).await.unwrap().outcome().await.unwrap();
            assert_eq!(names(&outcome), (None, None));
            handle.shutdown(DRAIN).await.unwrap();
        });
    }
}
