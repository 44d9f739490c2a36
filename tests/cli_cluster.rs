//! The program `batrun`, run on a journal in a database.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, fs, process,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use batrun::{Error, PipelineHandle, journal::Journal, prelude::*};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

/// A shop whose journal is in a schema of its own.
struct Shop {
    server: String,
    pipeline: String,
    closed: Arc<AtomicBool>,
}

type Handle = PipelineHandle<u32, u32>;

impl Shop {
    fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Shop {
            server: env::var("BATRUN_POSTGRES").expect("run it by .ci/postgres"),
            pipeline: format!("shop {} {number}", process::id()),
            closed: Arc::default(),
        }
    }

    fn schema(&self) -> String {
        format!("batrun_{}", self.pipeline)
    }

    async fn open(&self, version: u32) -> Result<Handle, Error> {
        self.open_at(&self.server, version).await
    }

    /// The carrier refuses odd orders. Order 100 hangs in the stage `ship`.
    async fn open_at(&self, server: &str, version: u32) -> Result<Handle, Error> {
        let closed = self.closed.clone();
        let reserve = stage_fn(
            "reserve",
            async |order: u32, task: &TaskContext<'_, u32>| {
                task.on_cancel(order).await?;
                Ok(order)
            },
        )
        .cancel_with(async move |_: u32, _: &CancelContext<'_>| {
            match closed.load(Ordering::SeqCst) {
                true => Err(Failure::permanent("the store is closed")),
                false => Ok(()),
            }
        });
        let ship = stage_fn(
            "ship",
            async |order: u32, _: &TaskContext<'_, ()>| match order {
                100 => std::future::pending().await,
                odd if odd % 2 == 1 => Err(Failure::permanent("the carrier refuses it")),
                _ => Ok(order),
            },
        );
        Pipeline::new(self.pipeline.clone())
            .journal(Journal::postgres(server).await?)
            .stage(reserve)
            .stage(ship.version(version))
            .start()
            .await
    }

    /// Order 1 is stuck, 2 is done, 100 is under way.
    async fn with_orders(&self) -> Handle {
        self.closed.store(true, Ordering::SeqCst);
        let shop = self.open(1).await.unwrap();
        for order in 1..=2 {
            let ticket = shop.submit(order).key(format!("order {order}"));
            ticket.await.unwrap().outcome().await.unwrap();
        }
        let ticket = shop.submit(100).key("order 100");
        ticket.timeout(Duration::from_secs(3_600)).await.unwrap();
        self.closed.store(false, Ordering::SeqCst);
        shop
    }

    fn run(&self, args: &[&str]) -> Output {
        run_at(&self.server, &self.pipeline, args)
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

    /// The number of the task with this key.
    fn id(&self, key: &str) -> String {
        self.json(&["show", "--key", key, "--json"])["id"].to_string()
    }

    /// Waits until that task is at work in the stage `ship`.
    async fn until_shipping(&self, key: &str) {
        for _ in 0..1_000 {
            let task = self.json(&["show", "--key", key, "--json"]);
            if task["stage"] == "ship" && task["state"] == "running" {
                return;
            }
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{key} was not shipped within ten seconds");
    }

    /// A person at the database.
    async fn person(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        actix_rt::spawn(connection);
        client
    }
}

/// The address isn't in the list of processes.
fn run_at(server: &str, pipeline: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_batrun"))
        .args(["cluster", args[0], "--pipeline", pipeline])
        .args(&args[1..])
        .env("BATRUN_DATABASE", server)
        .output()
        .unwrap()
}

fn batrun(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_batrun"))
        .args(args)
        .env_remove("BATRUN_DATABASE")
        .output()
        .unwrap()
}

#[test]
fn help_and_wrong_arguments_have_their_exit_codes() {
    let place = ["--database", "host=127.0.0.1 port=1", "--pipeline", "x"];
    for (command, args, code) in [
        ("show", &["--help"][..], 0),
        ("resolve", &[], 2),
        ("cancel", &[], 2),
        ("retry", &[], 2),
        ("retry", &["1", "--all"], 2),
        ("show", &["one"], 2),
        ("show", &["1", "--key", "one"], 2),
        ("show", &["--schema", "x"], 2),
        ("show", &[], 1),
        ("retry", &["--all"], 1),
        ("init", &[], 1),
        ("migrate", &[], 1),
    ] {
        let all = [&["cluster", command][..], &place, args].concat();
        let output = batrun(&all);
        assert_eq!(output.status.code(), Some(code), "{all:?}: {output:?}");
    }
    for args in [
        &["cluster"][..],
        &["cluster", "show", "--pipeline", "x"],
        &["cluster", "show", "--database", "host=127.0.0.1"],
    ] {
        let output = batrun(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
    let output = batrun(&["cluster", "show", "--pipeline", "x"]);
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("set the variable BATRUN_DATABASE"), "{why}");
}

#[test]
fn no_error_has_the_password() {
    for address in [
        "postgres://me:hunter2@127.0.0.1:1/shop",
        "host=127.0.0.1 port=1 password=hunter2",
        "host=127.0.0.1 port=one password=hunter2",
        "postgres://me:hunter2@x@y/shop?what=hunter2",
        "hunter2",
    ] {
        for command in ["show", "init"] {
            let args = ["cluster", command, "--database", address, "--pipeline", "x"];
            let output = batrun(&args);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
        }
    }
}

#[actix::test]
#[ignore = "needs a server: .ci/postgres"]
async fn postgres_show_lists_the_nodes_the_tasks_and_the_tables() {
    let shop = Shop::new();
    let running = shop.with_orders().await;
    shop.until_shipping("order 100").await;
    let text = shop.text(&["show"]);
    for line in [
        &format!(
            "schema {:?}: the journal of the pipeline {}, format 1",
            shop.schema(),
            shop.pipeline
        ),
        "1 node lives; 1 task under way, 1 stuck (0 set aside), 2 outcomes kept",
        "reserve (version 1), ship (version 1)",
        "to see the stuck tasks: batrun cluster stuck --schema",
        "dead rows",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("they wait for a process"), "{text}");
    let shown = shop.json(&["show", "--json"]);
    assert_eq!(shown["kind"], "cluster");
    assert_eq!(shown["nodes"][0]["state"], "live");
    assert_eq!(shown["nodes"][0]["tasks"], 2);
    assert_eq!(
        shown["tasks"]["by"],
        json!([{ "state": "running", "stage": "ship", "tasks": 1 }])
    );
    assert_eq!(shown["live"][0]["key"], "order 100");
    assert_eq!(shown["live"][0]["has_node"], true);
    assert_eq!(
        (&shown["stranded"], &shown["corrupt"]),
        (&json!([]), &json!([]))
    );
    let tables = shown["upkeep"]["tables"].as_array().unwrap();
    assert!(
        tables.iter().any(|table| table["table"] == "task"),
        "{tables:?}"
    );
    let nodes = shop.json(&["nodes", "--json"]);
    assert_eq!(nodes["nodes"][0]["state"], "live");
    assert_eq!(nodes["takeovers"], json!([]));
    assert!(shop.text(&["nodes"]).contains(" live "));
    shop.text(&["show", "--check", "--limit", "0"]);

    let id = shop.id("order 100");
    let text = shop.text(&["show", &id]);
    assert!(
        text.contains("node         1\n") && text.contains("context      100\n"),
        "{text}"
    );
    let text = shop.text(&["show", "--key", "order 2"]);
    assert!(text.contains("output       2\n"), "{text}");
    let done = shop.json(&["show", "--key", "order 2", "--json"])["id"].to_string();
    assert!(shop.text(&["show", &done]).contains("key          order 2"));
    let why = shop.refused(&["show", "77"]);
    assert!(why.contains("nothing is known of a task 77"), "{why}");

    let lines = shop.text(&["export"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["cluster", "node", "task", "task", "outcome", "outcome"]
    );

    let person = shop.person().await;
    let damage = format!(
        "UPDATE {:?}.task SET more = 'x' WHERE NOT stuck",
        shop.schema()
    );
    person.batch_execute(&damage).await.unwrap();
    for args in [&["show", "--check"][..], &["export"]] {
        let output = shop.run(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let (out, told) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert!(out.len() > 500);
        assert_eq!(told.matches("checksum mismatch").count(), 1, "{told}");
    }
    running.shutdown(Shutdown::Suspend).await.unwrap();
}

#[actix::test]
#[ignore = "needs a server: .ci/postgres"]
async fn postgres_decisions_go_to_the_nodes_and_wait_where_there_is_none() {
    let shop = Shop::new();
    let running = shop.with_orders().await;
    let (stuck, under_way) = (shop.id("order 1"), shop.id("order 100"));
    let text = shop.text(&["stuck"]);
    assert!(
        text.contains(&format!("task {stuck}, key order 1")),
        "{text}"
    );
    assert!(
        text.contains("1 task waits for a person.\n  batrun cluster resolve --schema '"),
        "{text}"
    );
    assert_eq!(
        shop.json(&["stuck", "--json"])[0]["undos"][0]["error"],
        "the store is closed"
    );

    // Nothing is changed by these.
    for (args, why) in [
        (&["retry", &under_way][..], "is not stuck"),
        (&["resolve", &stuck, "77"], "there is no task 77"),
        (
            &["cancel", &under_way, &stuck],
            "is stuck; retry or resolve it",
        ),
        (
            &["resolve", "--key", "order 100"],
            "no stuck task has the key \"order 100\"",
        ),
        (
            &["cancel", "--key", "order 1"],
            "no task under way has the key \"order 1\"",
        ),
    ] {
        let refused = shop.refused(args);
        assert!(refused.contains("nothing was changed"), "{refused}");
        assert!(refused.contains(why), "{refused}");
    }
    running.shutdown(Shutdown::Suspend).await.unwrap();

    let text = shop.text(&["show"]);
    assert!(
        text.contains("0 nodes live; 1 task under way, 1 stuck"),
        "{text}"
    );
    assert!(
        text.contains("no node that lives has the stages of these tasks"),
        "{text}"
    );
    let written =
        "1 decision is written down, and the next process that has the task's stages does it";
    for args in [&["retry", "--all"][..], &["cancel", "--key", "order 100"]] {
        let text = shop.text(args);
        assert!(text.contains(written), "{text}");
    }
    let text = shop.text(&["resolve", "--key", "order 1"]);
    assert_eq!(text, format!("1 task is resolved: {stuck}\n"));
    assert_eq!(shop.text(&["stuck"]), "nothing is stuck\n");
    assert_eq!(shop.text(&["retry", "--all"]), "nothing is stuck\n");
    // The outcome stays.
    assert!(
        shop.text(&["show", &stuck])
            .contains("the carrier refuses it")
    );

    // The next process gets the task, and that stays to be seen.
    let next = shop.open(1).await.unwrap();
    next.shutdown(Shutdown::Abort).await.unwrap();
    let nodes = shop.json(&["nodes", "--json"]);
    let [took] = &nodes["takeovers"].as_array().unwrap()[..] else {
        panic!("{nodes}")
    };
    assert_eq!(
        (
            &took["node"],
            &took["from"],
            &took["killed"],
            &took["tasks"]
        ),
        (&json!(2), &json!(1), &json!(false), &json!(1))
    );
    let text = shop.text(&["nodes"]);
    for part in ["1 task ", "it has left them", " ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[actix::test]
#[ignore = "needs a server: .ci/postgres"]
async fn postgres_a_pipeline_runs_as_a_user_who_makes_nothing() {
    let shop = Shop::new();
    let person = shop.person().await;
    let (runs, looks) = (
        format!("{} runs", shop.pipeline),
        format!("{} looks", shop.pipeline),
    );
    let roles = format!("CREATE ROLE {runs:?} LOGIN; CREATE ROLE {looks:?} LOGIN");
    person.batch_execute(&roles).await.unwrap();
    let server = |role: &str| {
        shop.server
            .replace("user=batrun", &format!("user='{role}'"))
    };

    let error = shop
        .open_at(&server(&runs), 1)
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    let hint = format!(
        "batrun cluster init --schema {:?} --for-user ROLE",
        shop.schema()
    );
    assert!(error.contains(&hint) && error.contains("GRANT"), "{error}");
    let output = run_at(&server(&runs), &shop.pipeline, &["init"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    assert!(
        shop.refused(&["show"])
            .contains("there is no journal in the schema")
    );
    let made = shop.text(&["init", "--for-user", &runs, "--for-reader", &looks]);
    let name = shop.schema();
    assert_eq!(
        made,
        format!(
            "the schema {name:?} has a journal now\nthe role {runs} may run the pipeline\n\
             the role {looks} may look into it\n"
        )
    );
    assert!(shop.text(&["init"]).contains("had a journal already"));
    assert!(
        shop.text(&["show"])
            .contains("the journal of no pipeline yet")
    );
    assert_eq!(
        shop.text(&["migrate"]),
        "the journal has format 1 already, this version's own\n"
    );

    shop.closed.store(true, Ordering::SeqCst);
    let running = shop.open_at(&server(&runs), 1).await.unwrap();
    for order in 1..=2 {
        let ticket = running.submit(order).key(format!("order {order}"));
        ticket.await.unwrap().outcome().await.unwrap();
    }
    shop.closed.store(false, Ordering::SeqCst);
    let look = |args: &[&str]| run_at(&server(&looks), &shop.pipeline, args);
    let shown = look(&["show"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let stuck = shop.id("order 1");
    let refused = look(&["retry", &stuck]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.contains("this user may look, and not decide"),
        "{refused}"
    );
    // Its node does it, or has not looked yet.
    let decided = run_at(
        &server(&runs),
        &shop.pipeline,
        &["retry", &stuck, "--wait", "0"],
    );
    assert_eq!(decided.status.code(), Some(0), "{decided:?}");
    running.shutdown(Shutdown::Suspend).await.unwrap();
    let gone = format!("DROP OWNED BY {runs:?}, {looks:?}; DROP ROLE {runs:?}, {looks:?}");
    person.batch_execute(&gone).await.unwrap();
}

/// The guide's script, with other names.
#[actix::test]
#[ignore = "needs a server: .ci/postgres"]
async fn postgres_the_script_of_the_guide_grants_what_a_pipeline_needs() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/database.md");
    let guide = fs::read_to_string(guide).unwrap();
    let script = guide
        .split("```sql\n")
        .find(|block| block.starts_with("-- Roles"))
        .unwrap();
    let script = script.split("```").next().unwrap();
    let shop = Shop::new();
    let own = |name: &str| {
        format!(
            "{name}_{}_{}",
            process::id(),
            shop.pipeline.rsplit(' ').next().unwrap()
        )
    };
    let [owner, runs, looks] = ["shop_owner", "shop_runs", "shop_looks"].map(own);
    let with_names = |text: &str| {
        text.replace("shop_owner", &owner)
            .replace("shop_runs", &runs)
            .replace("shop_looks", &looks)
            .replace("DATABASE shop ", "DATABASE postgres ")
            .replace("batrun_orders", &format!("{:?}", shop.schema()))
    };
    let (before, after) = script.split_once("-- Once the schema is there").unwrap();
    let person = shop.person().await;
    person.batch_execute(&with_names(before)).await.unwrap();
    let server = |role: &str| shop.server.replace("user=batrun", &format!("user={role}"));
    let made = run_at(&server(&owner), &shop.pipeline, &["init"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    shop.open_at(&server(&runs), 1).await.map(drop).unwrap_err();
    person
        .batch_execute(&with_names(&format!("--{after}")))
        .await
        .unwrap();
    let running = shop.open_at(&server(&runs), 1).await.unwrap();
    let ticket = running.submit(2).key("order 2").await.unwrap();
    ticket.outcome().await.unwrap();
    for role in [&looks, &runs] {
        let shown = run_at(&server(role), &shop.pipeline, &["show"]);
        assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    }
    running.shutdown(Shutdown::Suspend).await.unwrap();
    let gone =
        format!("DROP OWNED BY {owner}, {runs}, {looks}; DROP ROLE {owner}, {runs}, {looks}");
    person.batch_execute(&gone).await.unwrap();
}
