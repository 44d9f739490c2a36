//! The program `batrun`, run on journals that pipelines have written.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use batrun::{
    Error, PipelineHandle,
    journal::{Journal, JournalError, JournalFile},
    prelude::*,
    state::{End, Rollback, TaskId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The undo that a stage registers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shelf {
    order: u32,
    place: String,
}

/// The world: what was done and taken back, and whether the store can be reached.
#[derive(Clone, Default)]
struct World {
    notes: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
}

impl World {
    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}

struct Shop {
    folder: tempfile::TempDir,
    world: World,
}

type Handle = PipelineHandle<u32, u32>;

impl Shop {
    fn new() -> Self {
        Shop {
            folder: tempfile::tempdir().unwrap(),
            world: World::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("orders.journal")
    }

    /// The carrier refuses odd orders. Order 100 hangs in the stage `ship`.
    async fn open(&self, version: u32) -> Result<Handle, Error> {
        let (world, done, undone) = (self.world.clone(), self.world.clone(), self.world.clone());
        let reserve = stage_fn(
            "reserve",
            async move |order: u32, task: &TaskContext<'_, Shelf>| {
                for place in ["left", "right"] {
                    let place = place.to_owned();
                    task.on_cancel(Shelf { order, place }).await?;
                }
                done.note(format!("reserve {order}"));
                Ok(order)
            },
        )
        .cancel_with(async move |shelf: Shelf, _: &CancelContext<'_>| {
            let Shelf { order, place } = shelf;
            if world.closed.load(Ordering::SeqCst) && place == "left" {
                return Err(Failure::permanent("the store is\u{1b}[31m closed"));
            }
            world.note(format!("put {order} back, {place}"));
            Ok(())
        });
        let ship = stage_fn("ship", async move |order: u32, _: &TaskContext<'_, ()>| {
            undone.note(format!("ship {order}"));
            match order {
                100 => std::future::pending().await,
                odd if odd % 2 == 1 => Err(Failure::permanent("the carrier refuses it")),
                _ => Ok(order),
            }
        });
        Pipeline::new("orders")
            .journal(Journal::open(self.path())?)
            .keep_undos()
            .stage(reserve)
            .stage(ship.version(version))
            .start()
            .await
    }

    /// Tasks 1 and 3 are stuck, 2 is done.
    async fn with_stuck(&self) {
        self.world.closed.store(true, Ordering::SeqCst);
        let shop = self.open(1).await.unwrap();
        for order in 1..=3 {
            let ticket = shop.submit(order).key(format!("order {order}"));
            ticket.await.unwrap().outcome().await.unwrap();
        }
        shop.shutdown(Shutdown::Abort).await.unwrap();
        self.world.closed.store(false, Ordering::SeqCst);
        self.world.take();
    }

    /// Task 1 was left in `ship`.
    async fn with_one_under_way(&self) {
        let shop = self.open(1).await.unwrap();
        let ticket = shop.submit(100).key("order 100");
        ticket.timeout(Duration::from_secs(3_600)).await.unwrap();
        self.until("ship 100").await;
        shop.shutdown(Shutdown::Suspend).await.unwrap();
        self.world.take();
    }

    async fn until(&self, what: &str) {
        for _ in 0..10_000 {
            if self
                .world
                .notes
                .lock()
                .unwrap()
                .iter()
                .any(|note| note == what)
            {
                return;
            }
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what} did not come about within ten seconds");
    }

    fn run(&self, args: &[&str]) -> Output {
        let file = self.path();
        let mut all = vec!["journal", args[0], file.to_str().unwrap()];
        all.extend(&args[1..]);
        batrun(&all)
    }

    /// The output of a command that succeeds.
    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.text(args)).unwrap()
    }

    /// The complaint of a command that is refused.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn batrun(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_batrun"))
        .args(args)
        .output()
        .unwrap()
}

/// The words of each line of a table, those of its heading first.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut lines = text.lines().map(words);
    let heading = words(heading);
    lines.find(|line| *line == heading).expect("no such table");
    lines.take_while(|line| !line.is_empty()).collect()
}

/// Each file of the journal, to see whether one has changed.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn help_and_wrong_arguments_have_their_exit_codes() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["journal", "show", "--help"], 0),
        (&["journal"], 2),
        (&["journal", "resolve", "x"], 2),
        (&["journal", "retry", "x"], 2),
        (&["journal", "retry", "x", "1", "--all"], 2),
        (&["journal", "show", "x", "one"], 2),
        (&["journal", "show", "x", "1", "--key", "one"], 2),
        (&["journal", "show", "x", "--key", "one", "--limit", "1"], 2),
        (&["journal", "show", "/nowhere/x"], 1),
        (&["journal", "retry", "/nowhere/x", "--all"], 1),
    ] {
        let output = batrun(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty", &b""[..]), ("text", &b"not a database"[..])] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        for command in ["show", "stuck", "export", "retry"] {
            let mut args = vec!["journal", command, path.to_str().unwrap()];
            args.extend((command == "retry").then_some("--all"));
            assert_eq!(batrun(&args).status.code(), Some(1), "{args:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(files(folder.path()).len(), 2);
}

#[actix::test]
async fn j1_show_lists_the_tasks_of_a_running_pipeline() {
    let shop = Shop::new();
    let running = shop.open(1).await.unwrap();
    let ticket = running.submit(100).key("order 100");
    ticket.timeout(Duration::from_secs(3_600)).await.unwrap();
    shop.until("ship 100").await;

    // That a stage has begun is written without anybody waiting for it.
    let mut text = shop.text(&["show"]);
    for _ in 0..1_000 {
        if text.contains("running") {
            break;
        }
        text = shop.text(&["show"]);
    }
    assert!(
        text.contains("the journal of the pipeline orders, format 2"),
        "{text}"
    );
    assert!(
        text.contains("stages: reserve (version 1), ship (version 1)"),
        "{text}"
    );
    assert!(
        text.contains("1 task under way, 0 stuck (0 set aside), 0 outcomes kept"),
        "{text}"
    );
    assert_eq!(rows(&text, "state stage tasks"), [["running", "ship", "1"]]);
    let tasks = rows(
        &text,
        "task key label state stage attempt deadline undos context",
    );
    assert_eq!(
        tasks[0][..7],
        ["1", "order", "100", "-", "running", "ship", "1"]
    );
    assert_eq!(tasks[0][7..], ["59", "min", &tasks[0][9], "s", "2", "100"]);

    let shown = shop.json(&["show", "--json"]);
    assert_eq!(shown["pipeline"], "orders");
    assert_eq!(shown["stages"][1], json!({ "name": "ship", "version": 1 }));
    assert_eq!(shown["tasks"]["live"], 1);
    assert_eq!(shown["live"][0]["key"], "order 100");
    assert_eq!(
        shown["live"][0]["undos"][1]["value"],
        json!({ "order": 100, "place": "right" })
    );
    assert_eq!(shown["corrupt"], json!([]));
    let none = shop.json(&["show", "--json", "--limit", "0", "--check"]);
    assert_eq!(
        (&none["tasks"]["live"], &none["live"]),
        (&json!(1), &json!([]))
    );

    let one = shop.json(&["show", "1", "--json"]);
    assert_eq!(one, {
        let mut same = shown["live"][0].clone();
        same["deadline_left_ms"] = one["deadline_left_ms"].clone();
        same
    });
    let text = shop.text(&["show", "1"]);
    assert!(text.contains("context      100\n"), "{text}");
    assert!(
        text.contains(r#"undo 1: {"order":100,"place":"right"}"#),
        "{text}"
    );
    assert!(
        shop.refused(&["show", "7"])
            .contains("nothing is known of a task 7")
    );

    // Nothing is changed meanwhile.
    for args in [&["resolve", "1"][..], &["retry", "1"], &["retry", "--all"]] {
        let refused = shop.refused(args);
        assert!(
            refused.contains("a running pipeline has this journal"),
            "{refused}"
        );
    }
    running.shutdown(Shutdown::Suspend).await.unwrap();
}

#[actix::test]
async fn stuck_tasks_are_shown_with_the_undos_that_are_left() {
    let shop = Shop::new();
    assert!(!shop.path().exists());
    shop.with_stuck().await;
    let before = fs::read(shop.path()).unwrap();

    let text = shop.text(&["show"]);
    assert!(
        text.contains("0 tasks under way, 2 stuck (0 set aside), 3 outcomes kept"),
        "{text}"
    );
    let text = shop.text(&["stuck"]);
    let wanted = "task 1, key order 1: failed in ship: the carrier refuses it\n";
    assert!(text.contains(wanted), "{text}");
    // No terminal obeys what a task has in it.
    assert!(text.contains(r"the store is\u{1b}[31m closed"), "{text}");
    let left = rows(&text, "undo stage tries error value");
    assert_eq!(left.len(), 1, "{text}");
    assert_eq!(left[0][..3], ["0", "reserve", "2"]);
    assert_eq!(left[0].last().unwrap(), r#"{"order":1,"place":"left"}"#);

    let stuck = shop.json(&["stuck", "--json"]);
    assert_eq!(stuck.as_array().unwrap().len(), 2);
    assert_eq!(stuck[1]["id"], 3);
    assert_eq!(stuck[1]["set_aside"], false);
    assert_eq!(
        stuck[1]["end"]["failure"]["error"],
        "the carrier refuses it"
    );
    let undos = &stuck[1]["undos"];
    assert_eq!(
        (&undos[0]["left"], &undos[1]["left"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(undos[0]["error"], "the store is\u{1b}[31m closed");

    let export = shop.text(&["export"]);
    let lines: Vec<Value> = export
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["kind"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("journal").len(), of("task").len(), of("outcome").len()),
        (1, 2, 3)
    );
    let done = of("outcome")[1];
    assert_eq!(
        (&done["key"], &done["output"]),
        (&json!("order 2"), &json!(2))
    );
    assert_eq!(of("outcome")[2]["rollback"]["kind"], "stuck");
    assert_eq!(
        shop.text(&["show", "2"]),
        "task 2 (key order 2) done\nkey          order 2\noutput       2\n"
    );
    // Looking has changed nothing.
    assert!(fs::read(shop.path()).unwrap() == before);
}

#[actix::test]
async fn d08_a_task_is_shown_by_its_key_with_its_label() {
    let shop = Shop::new();
    shop.world.closed.store(true, Ordering::SeqCst);
    let running = shop.open(1).await.unwrap();
    // Done, stuck, under way; the first one's key looks like a number.
    let done = running.submit(2).key("3").label("ada").await.unwrap();
    done.outcome().await.unwrap();
    let stuck = running.submit(3).key("three").label("e\u{1b}ve");
    stuck.await.unwrap().outcome().await.unwrap();
    let plain = running.submit(4).label("no key").await.unwrap();
    plain.outcome().await.unwrap();
    // The stage `ship` has one worker, which is its from now on.
    let live = running.submit(100).key("hundred").label("kim");
    live.await.unwrap();
    shop.until("ship 100").await;
    running.shutdown(Shutdown::Suspend).await.unwrap();

    assert_eq!(
        shop.text(&["show", "--key", "3"]),
        "task 1 \"ada\" (key 3) done\nkey          3\nlabel        ada\noutput       2\n"
    );
    let done = shop.json(&["show", "--key", "3", "--json"]);
    assert_eq!(
        (&done["id"], &done["key"], &done["label"], &done["output"]),
        (&json!(1), &json!("3"), &json!("ada"), &json!(2))
    );
    let stuck = shop.text(&["show", "--key", "three"]);
    let wanted = "key          three\nlabel        e\\u{1b}ve\nstate        stuck\n";
    assert!(stuck.contains(wanted), "{stuck}");
    assert!(stuck.contains(r#"undo 1: {"order":3,"place":"right"}"#));
    let live = shop.json(&["show", "--key", "hundred", "--json"]);
    assert_eq!(
        (&live["id"], &live["label"], &live["state"]),
        (&json!(4), &json!("kim"), &json!("running"))
    );
    assert_eq!(live["undos"].as_array().unwrap().len(), 2);
    let refused = shop.refused(&["show", "--key", "two"]);
    assert!(
        refused.contains("nothing is known of a task with the key two"),
        "{refused}"
    );

    // The lists and the export have both names.
    let listed = shop.text(&["show"]);
    assert!(listed.contains(" hundred  kim "), "{listed}");
    let stuck = shop.text(&["stuck"]);
    let wanted = r"task 2, key three, label e\u{1b}ve: failed in ship";
    assert!(stuck.contains(wanted), "{stuck}");
    let export = shop.text(&["export"]);
    let lines: Vec<Value> = export
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut names: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            let of = |name: &str| line[name].as_str().unwrap_or("-");
            (of("kind"), of("key"), of("label"))
        })
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            ("outcome", "-", "no key"),
            ("outcome", "3", "ada"),
            ("outcome", "three", "e\u{1b}ve"),
            ("task", "hundred", "kim"),
            ("task", "three", "e\u{1b}ve"),
        ]
    );
}

/// A stuck task keeps its key, and another task may have it once the outcome is forgotten.
#[actix::test]
async fn d08_a_stuck_task_is_found_by_its_key_even_if_its_outcome_has_gone() {
    let shop = Shop::new();
    shop.with_stuck().await;
    let db = rusqlite::Connection::open(shop.path()).unwrap();
    db.execute_batch("DELETE FROM outcomes; DELETE FROM kept")
        .unwrap();
    drop(db);
    let running = shop.open(1).await.unwrap();
    let refused = running.submit(4).key("order 1").await.map(drop);
    assert!(matches!(
        refused,
        Err(SubmitError::KeyConflict(4, TaskId(1)))
    ));
    running.shutdown(Shutdown::Suspend).await.unwrap();
    let one = shop.json(&["show", "--key", "order 1", "--json"]);
    assert_eq!((&one["id"], &one["stuck"]), (&json!(1), &json!(true)));
}

#[actix::test]
async fn j1_tasks_are_decided_about_by_their_keys() {
    let shop = Shop::new();
    shop.with_stuck().await;
    let next = "at the pipeline's next start";
    assert_eq!(
        shop.text(&["take-back", "order 2"]),
        format!("1 task is taken back {next}: order 2\n")
    );
    let refused = shop.refused(&["take-back", "order 2"]);
    assert!(refused.contains("task 2 has no outcome yet"), "{refused}");
    let refused = shop.refused(&["retry", "--key", "order 1", "--key", "order 2"]);
    assert!(refused.contains("no stuck task has the key"), "{refused}");
    assert_eq!(
        shop.text(&["retry", "--key", "order 1"]),
        format!("1 task is tried again {next}: 1\n")
    );
    assert_eq!(
        shop.text(&["resolve", "--key", "order 3"]),
        "1 task is resolved: 3\n"
    );
    let running = shop.open(1).await.unwrap();
    let two = running.outcome_of("order 2").await.unwrap().unwrap();
    assert!(matches!(two.end, End::TakenBack), "{two}");
    let one = running.outcome_of("order 1").await.unwrap().unwrap();
    assert!(!one.rollback.is_stuck(), "{one}");
    running.shutdown(Shutdown::Abort).await.unwrap();
    let mut notes = shop.world.take();
    notes.sort();
    assert_eq!(
        notes,
        ["put 1 back, left", "put 2 back, left", "put 2 back, right"]
    );

    let refused = shop.refused(&["take-back", "order 2"]);
    assert!(refused.contains("taken back"), "{refused}");
    // All or none.
    let refused = shop.refused(&["forget", "order 1", "order 9"]);
    assert!(refused.contains("\"order 9\": no task has it"), "{refused}");
    assert_eq!(
        shop.text(&["forget", "order 2", "order 1"]),
        "2 keys are free: order 1, order 2\n"
    );
    let running = shop.open(1).await.unwrap();
    let again = running.submit(4).key("order 1").await.unwrap();
    assert!(!again.is_known());
    running.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix::test]
async fn j1_a_task_is_cancelled_by_its_key() {
    let shop = Shop::new();
    shop.with_one_under_way().await;
    let refused = shop.refused(&["forget", "order 100"]);
    assert!(refused.contains("task 1 has no outcome yet"), "{refused}");
    assert_eq!(
        shop.text(&["cancel", "order 100"]),
        "1 task is cancelled at the pipeline's next start: order 100\n"
    );
    let refused = shop.refused(&["cancel", "order 100"]);
    assert!(refused.contains("rolled back already"), "{refused}");
    let running = shop.open(1).await.unwrap();
    let outcome = running.outcome_of("order 100").await.unwrap().unwrap();
    assert!(matches!(outcome.end, End::Cancelled { .. }), "{outcome}");
    running.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(
        shop.world.take(),
        ["put 100 back, left", "put 100 back, right"]
    );
    let refused = shop.refused(&["cancel", "order 100"]);
    assert!(
        refused.contains("has ended already: cancelled"),
        "{refused}"
    );
}

#[actix::test]
async fn a_resolved_task_leaves_the_list_and_keeps_its_outcome() {
    let shop = Shop::new();
    shop.with_stuck().await;
    // Not one of them, where another can't be.
    let before = fs::read(shop.path()).unwrap();
    let refused = shop.refused(&["resolve", "1", "2", "9"]);
    assert!(refused.contains("there is no task 2"), "{refused}");
    assert!(refused.contains("there is no task 9"), "{refused}");
    assert!(fs::read(shop.path()).unwrap() == before);

    assert_eq!(shop.text(&["resolve", "3", "3"]), "1 task is resolved: 3\n");
    let stuck = shop.json(&["stuck", "--json"]);
    assert_eq!(stuck.as_array().unwrap().len(), 1);
    assert_eq!(
        shop.json(&["show", "3", "--json"])["rollback"]["kind"],
        "stuck"
    );

    let running = shop.open(1).await.unwrap();
    let stuck: Vec<_> = running.stuck().iter().map(|stuck| stuck.task).collect();
    assert_eq!(stuck, [TaskId(1)]);
    let outcome = running.outcome_of("order 3").await.unwrap().unwrap();
    assert!(outcome.rollback.is_stuck(), "{outcome}");
    running.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(shop.world.take(), [""; 0]);
}

#[actix::test]
async fn retry_runs_the_undos_that_are_left_at_the_next_start() {
    let shop = Shop::new();
    shop.with_stuck().await;
    let said = shop.text(&["retry", "1"]);
    assert_eq!(
        said,
        "1 task is tried again at the pipeline's next start: 1\n"
    );
    let shown = shop.json(&["show", "--json"]);
    assert_eq!(shown["tasks"]["by"][0]["state"], "rolling back");
    assert_eq!(shown["outcomes_kept"], 2);
    let undo = &shown["live"][0]["undos"][0];
    assert_eq!(
        (&undo["status"], &undo["tries"]),
        (&json!("registered"), &json!(2))
    );
    // It goes on by itself, so it is nobody's to decide about.
    assert!(
        shop.refused(&["resolve", "1"])
            .contains("task 1 is not stuck")
    );

    let running = shop.open(1).await.unwrap();
    let outcome = running.outcome_of("order 1").await.unwrap().unwrap();
    assert!(matches!(outcome.end, End::Failed { .. }), "{outcome}");
    // The undo that ran at once, and the one that was stuck.
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
    let report = running.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!((report.counts.failed, report.stuck.len()), (1, 1));
    // An undo that has run does not run again.
    assert_eq!(shop.world.take(), ["put 1 back, left"]);
    assert_eq!(shop.json(&["show", "--json"])["outcomes_kept"], 3);

    assert_eq!(shop.text(&["retry", "--all"]).lines().count(), 1);
    assert_eq!(shop.text(&["retry", "--all"]), "nothing is stuck\n");
    let running = shop.open(1).await.unwrap();
    running.outcome_of("order 3").await.unwrap().unwrap();
    running.shutdown(Shutdown::Abort).await.unwrap();
    assert_eq!(shop.world.take(), ["put 3 back, left"]);
    assert_eq!(shop.text(&["stuck"]), "nothing is stuck\n");
}

#[actix::test]
async fn j4_a_task_set_aside_resumes_once_its_version_fits() {
    let shop = Shop::new();
    shop.with_one_under_way().await;
    // Somebody has started another version on it.
    let running = shop.open(2).await.unwrap();
    assert_eq!(running.stuck().len(), 1);
    running.shutdown(Shutdown::Abort).await.unwrap();

    let text = shop.text(&["stuck"]);
    assert!(text.contains("task 1, key order 100, set aside: failed in ship: the stage ship has version 2 now, and this is of version 1"), "{text}");
    assert_eq!(
        rows(&text, "undo stage tries error value").len(),
        2,
        "{text}"
    );
    let stuck = shop.json(&["stuck", "--json"]);
    assert_eq!(
        (&stuck[0]["state"], &stuck[0]["stage"]),
        (&json!("set aside"), &json!("ship"))
    );

    // Tried again with that version, it is set aside again, and with the one before it goes on.
    for version in [2, 1] {
        shop.text(&["retry", "1"]);
        let shown = shop.json(&["show", "--json"]);
        assert_eq!(
            (&shown["live"][0]["state"], &shown["outcomes_kept"]),
            (&json!("running"), &json!(0))
        );
        let running = shop.open(version).await.unwrap();
        assert_eq!(running.stuck().len(), usize::from(version == 2));
        if version == 1 {
            shop.until("ship 100").await;
            assert!(running.cancel(TaskId(1)));
            let outcome = running.outcome_of("order 100").await.unwrap().unwrap();
            assert_eq!(outcome.rollback, Rollback::Complete { undos: 2 });
        }
        running.shutdown(Shutdown::Abort).await.unwrap();
    }
    assert_eq!(
        shop.world.take(),
        ["ship 100", "put 100 back, left", "put 100 back, right"]
    );
}

#[actix::test]
async fn j4_corrupt_rows_are_named_and_the_rest_is_shown() {
    let shop = Shop::new();
    shop.with_stuck().await;
    let db = rusqlite::Connection::open(shop.path()).unwrap();
    db.execute_batch(
        "UPDATE undo SET value = zeroblob(3) WHERE task = 1 AND undo = 1;
         INSERT INTO undo SELECT 77, undo, more, sum, value, value_sum FROM undo WHERE task = 3;
         UPDATE outcomes SET sum = sum + 1 WHERE number = 1;
         UPDATE stage SET name = 'snip' WHERE name = 'ship'",
    )
    .unwrap();
    drop(db);
    let output = shop.run(&["show", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["tasks"]["stuck"], 1);
    let corrupt = shown["corrupt"].to_string();
    for what in [
        "stage 1: checksum mismatch",
        "undo 1 of task 1: checksum mismatch",
        "undo 0 of task 77: its task is missing",
    ] {
        assert!(corrupt.contains(what), "{what}: {corrupt}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(what),
            "{what}: {output:?}"
        );
    }
    let output = shop.run(&["stuck", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let stuck: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stuck[0]["id"], 3);
    let output = shop.run(&["export"]);
    assert_eq!(output.status.code(), Some(1));
    let export = String::from_utf8(output.stdout).unwrap();
    assert!(
        export.contains("outcome block 1: checksum mismatch"),
        "{export}"
    );
    assert!(shop.refused(&["show", "1"]).contains("undo 1 of task 1"));
    assert!(shop.refused(&["retry", "3"]).contains("undo 0 of task 77"));
}

#[test]
fn a_journal_opened_to_look_cannot_be_changed() {
    let shop = Shop::new();
    actix_rt::System::new().block_on(shop.with_stuck());
    let mut file = JournalFile::look(shop.path()).unwrap();
    let error = file.resolve(&[TaskId(1)]).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    let task = file.task(TaskId(1)).unwrap().unwrap();
    assert_eq!(task.context.decode::<u32>(), Ok(1));
    let shelf: Shelf = task.undos[0].value.decode().unwrap();
    assert_eq!(shelf.place, "left");
}

/// The program as somebody who may read the journal and write nothing.
#[cfg(unix)]
fn as_reader(shop: &Shop) -> Output {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    // Where nobody may be kept from: the program is built in a folder of who runs the tests.
    let program = shop.folder.path().join("batrun");
    fs::copy(env!("CARGO_BIN_EXE_batrun"), &program).unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, _) in files(shop.folder.path()) {
        mode(&path, 0o444);
    }
    mode(&program, 0o555);
    mode(shop.folder.path(), 0o555);
    let mut command = Command::new(&program);
    command.args(["journal", "show", shop.path().to_str().unwrap()]);
    // Permissions don't keep root from anything.
    let is_root = fs::File::create(shop.folder.path().join("probe")).is_ok();
    if is_root {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    mode(shop.folder.path(), 0o755);
    for (path, _) in files(shop.folder.path()) {
        mode(&path, 0o644);
    }
    output
}

#[cfg(unix)]
#[actix::test]
async fn f12_who_may_only_read_sees_a_journal_that_nobody_has_open() {
    let shop = Shop::new();
    shop.with_stuck().await;
    let output = as_reader(&shop);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, shop.text(&["show"]));
}

#[cfg(unix)]
#[actix::test]
async fn f12_who_may_only_read_is_told_what_is_missing() {
    let shop = Shop::new();
    shop.with_stuck().await;
    // As after a kill: the log is still there.
    let log = shop.folder.path().join("orders.journal-wal");
    fs::write(&log, [0; 4_096]).unwrap();
    let output = as_reader(&shop);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("only who may write into its folder"), "{why}");
    assert!(why.contains("orders.journal-wal"), "{why}");
}
