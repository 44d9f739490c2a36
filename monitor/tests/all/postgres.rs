//! A journal in a database: the processes that share it. Needs a server:
//!
//!   .ci/postgres cargo test -p batrun-monitor postgres -- --ignored

use std::{
    env,
    future::pending,
    process,
    time::{Duration, Instant},
};

use batrun::{journal::Journal, prelude::*};
use batrun_monitor::{Access, Monitor};
use serde_json::{Value, json};

use crate::support::{ask, get};

const AT_MOST: Duration = Duration::from_secs(30);
/// Longer than a busy machine lets a process stand still.
const LEASE: Duration = Duration::from_secs(6);

type Handle = PipelineHandle<u32, u32>;

/// A process, whose tasks hang from 10 on.
async fn node(schema: &str, version: u32) -> Handle {
    let server = env::var("BATRUN_POSTGRES").expect("run it by .ci/postgres");
    let options = Journal::options().lease(LEASE).schema(schema);
    let stage = stage_fn("work", async |n: u32, _: &TaskContext<()>| match n {
        10.. => pending().await,
        n => Ok(n),
    });
    Pipeline::new("shared")
        .journal(options.postgres(server).await.unwrap())
        .stage(stage.workers(4).version(version))
        .start()
        .await
        .unwrap()
}

async fn looks(monitor: &Monitor, path: &str) -> Value {
    looks_at(monitor, &format!("api/v1/pipelines/0/{path}")).await
}

async fn looks_at(monitor: &Monitor, path: &str) -> Value {
    let mount = monitor.mount("/batrun").access(|_| Access::all());
    let answer = ask(mount, get(path)).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

/// The nodes, once they are so.
async fn until(monitor: &Monitor, are: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let nodes = looks(monitor, "nodes").await;
        if are(&nodes) {
            return nodes;
        }
        assert!(begin.elapsed() < AT_MOST, "{nodes:#}");
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The warning with this code, once there is one.
async fn until_warned(monitor: &Monitor, code: &str) -> Value {
    let begin = Instant::now();
    loop {
        let sample = looks_at(monitor, "api/v1/pipelines/0").await;
        let mut warnings = sample["warnings"].as_array().unwrap().iter();
        if let Some(warning) = warnings.find(|warning| warning["code"] == code) {
            return warning.clone();
        }
        assert!(begin.elapsed() < AT_MOST, "{sample:#}");
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
#[ignore = "needs a server: .ci/postgres"]
async fn nodes_takeovers_and_stranded_tasks_are_shown_on_postgres() {
    let schema = format!("monitor {}", process::id());
    let first = node(&schema, 1).await;
    let done = first.submit(1).key("one").await.unwrap();
    done.outcome().await.unwrap();
    for n in [10, 11] {
        first.submit(n).await.unwrap();
    }
    let second = node(&schema, 1).await;
    let monitor = Monitor::new().watch(&second);
    let sample = ask(monitor.mount("/batrun"), get("api/v1/pipelines/0")).await;
    assert_eq!(sample.json()["journal"], "database");
    let nodes = looks(&monitor, "nodes").await;
    assert_eq!(
        (&nodes["kind"], &nodes["this"]),
        (&"database".into(), &"2".into())
    );
    let [one, two] = &nodes["nodes"].as_array().unwrap()[..] else {
        panic!("{nodes:#}")
    };
    assert_eq!(
        (&one["node"], &one["this"], &one["tasks"]),
        (&"1".into(), &false.into(), &"2".into())
    );
    assert_eq!(
        (&two["this"], &two["state"]),
        (&true.into(), &"live".into())
    );
    assert_eq!(two["stages"], json!([{ "name": "work", "version": 1 }]));
    for left in [
        &one["lease_left_ns"],
        &two["lease_left_ns"],
        &nodes["lease_left_ns"],
    ] {
        let left: u64 = left.as_str().unwrap().parse().unwrap();
        assert!((1..=LEASE.as_nanos() as u64).contains(&left), "{left}");
    }
    assert_eq!(
        (&nodes["takeovers"], &nodes["stranded"]),
        (&json!([]), &json!([]))
    );

    // Its finished task is everybody's to see.
    let page = looks(&monitor, "journal").await;
    assert_eq!(
        (&page["kind"], &page["outcomes"][0]["key"]),
        (&"database".into(), &"one".into())
    );
    assert_eq!(
        looks(&monitor, "journal?q=one").await["outcomes"][0]["output"],
        "1"
    );
    assert_eq!(
        looks(&monitor, "search?q=one").await["hits"][0]["where"],
        "journal"
    );
    let begin = Instant::now();
    let metrics = loop {
        let metrics = ask(monitor.mount("/batrun"), get("metrics")).await.text;
        // A size that takes long to read comes later.
        if metrics.contains("batrun_journal_nodes_alive") {
            break metrics;
        }
        assert!(begin.elapsed() < AT_MOST, "{metrics}");
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    };
    for line in [
        "batrun_journal_nodes_alive{pipeline=\"shared\"} 2",
        "batrun_journal_outcomes_kept{pipeline=\"shared\"} 1",
        "batrun_journal_lease_left_seconds{pipeline=\"shared\"} ",
        "batrun_journal_commit_seconds_count{pipeline=\"shared\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    first.shutdown(Shutdown::Suspend).await.unwrap();
    let took = |nodes: &Value| -> Vec<(Value, Value, Value, Value)> {
        let all = nodes["takeovers"].as_array().unwrap().iter();
        let one = |one: &Value| {
            let field = |name: &str| one[name].clone();
            (
                field("node"),
                field("from"),
                field("killed"),
                field("tasks"),
            )
        };
        all.map(one).collect()
    };
    let wanted = [("2".into(), "1".into(), false.into(), "2".into())];
    let nodes = until(&monitor, |nodes| took(nodes) == wanted).await;
    let last = &nodes["takeovers"][0];
    assert_eq!(last["from_name"], one["name"]);
    assert_eq!(last["name"], two["name"]);
    assert!(last["at"].as_u64() > two["began"].as_u64(), "{last}");

    // A process with another version can't go on with them.
    let third = node(&schema, 2).await;
    second.shutdown(Shutdown::Suspend).await.unwrap();
    let monitor = Monitor::new().watch(&third);
    // Samples alone say so, though none of them waits for the database.
    let warning = until_warned(&monitor, "stranded").await;
    let text = "2 tasks wait for a process with the stages work v1, and none lives: start one";
    assert_eq!(
        (&warning["text"], &warning["view"], &warning["count"]),
        (&text.into(), &"nodes".into(), &2.into())
    );
    let stranded =
        json!([{ "stages": [{ "name": "work", "version": 1 }], "tasks": "2", "stuck": "0" }]);
    let nodes = until(&monitor, |nodes| nodes["stranded"] == stranded).await;
    assert_eq!(nodes["nodes"][0]["state"], "left", "{nodes:#}");
    // The first node is forgotten, and what it left is not.
    assert_eq!(nodes["nodes"][0]["node"], "2", "{nodes:#}");
    assert_eq!(took(&nodes), wanted);
    third.shutdown(Shutdown::Drain(AT_MOST)).await.unwrap();
    let after = looks(&monitor, "nodes").await;
    assert_eq!(after["kind"], "database");
}
