//! The contents of a journal: finished tasks, the newest first, found by their keys.

use batrun::{journal::Journal, prelude::*};
use batrun_monitor::{Access, Monitor};
use serde_json::{Value, json};

use crate::support::{Answer, SECRET_KEY, ask, get, json as of_shop, one_of_each, shop};

pub(crate) const SECRET_OUTPUT: &str = "secret-output";

pub(crate) struct Archive {
    pub(crate) handle: PipelineHandle<u32, String>,
    pub(crate) monitor: Monitor,
    folder: tempfile::TempDir,
}

/// Tasks 1 to 30 have ended, of which each tenth failed and each second had a key.
pub(crate) async fn archive() -> Archive {
    let folder = tempfile::tempdir().unwrap();
    let stage = stage_fn("print", async |n: u32, task: &TaskContext<String>| {
        task.on_cancel(format!("page {n}")).await?;
        match n % 10 {
            0 => Err(Failure::permanent(format!("no <b>paper</b> {n} 1234"))),
            _ => Ok(format!("{SECRET_OUTPUT} {n}")),
        }
    });
    let stage = stage.cancel_with(async |_: String, _: &CancelContext| Ok(()));
    let handle = Pipeline::new("archive")
        .journal(Journal::open(folder.path().join("journal")).unwrap())
        .stage(stage)
        .start()
        .await
        .unwrap();
    for n in 1..=30 {
        let submit = handle.submit(n).label(format!("label {n}"));
        let submit = match n % 2 {
            0 => submit.key(format!("{SECRET_KEY}-{n}")),
            _ => submit,
        };
        submit.await.unwrap().outcome().await.unwrap();
    }
    Archive {
        monitor: Monitor::new().watch(&handle),
        handle,
        folder,
    }
}

impl Archive {
    pub(crate) async fn asked(&self, path: &str, access: Access) -> Answer {
        let mount = self
            .monitor
            .mount("/batrun")
            .access(move |_| access.clone());
        ask(mount, get(&format!("api/v1/pipelines/0/{path}"))).await
    }

    async fn sample(&self) -> Value {
        let mount = self.monitor.mount("/batrun");
        ask(mount, get("api/v1/pipelines/0")).await.json()
    }

    async fn shows(&self, path: &str) -> Value {
        let answer = self.asked(path, Access::all()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }
}

fn tasks(page: &Value) -> Vec<u64> {
    let outcomes = page["outcomes"].as_array().unwrap().iter();
    outcomes
        .map(|one| one["task"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[actix_web::test]
async fn finished_tasks_are_paged_from_the_newest_on() {
    let archive = archive().await;
    assert_eq!(archive.sample().await["journal"], "file");
    let first = archive.shows("journal?limit=12").await;
    assert_eq!(tasks(&first), (19..=30).rev().collect::<Vec<_>>());
    assert_eq!(
        (&first["kind"], &first["corrupt"]),
        (&"file".into(), &json!([]))
    );
    assert!(first["place"].as_str().unwrap().ends_with("journal"));
    let failed = &first["outcomes"][0];
    assert_eq!(
        (&failed["end"], &failed["stage"], &failed["error"]),
        (
            &"failed".into(),
            &"print".into(),
            &"no <b>paper</b> 30 1234".into()
        )
    );
    assert_eq!(failed["rollback"]["undone"], 1);
    let done = &first["outcomes"][1];
    assert_eq!(
        (&done["end"], &done["key"], &done["label"]),
        (&"done".into(), &Value::Null, &"label 29".into())
    );
    assert!(done["at"].as_u64().unwrap() > 1_700_000_000_000);
    let next = first["next"].as_str().unwrap();
    let second = archive
        .shows(&format!("journal?limit=12&before={next}"))
        .await;
    assert_eq!(tasks(&second), (7..=18).rev().collect::<Vec<_>>());
    let next = second["next"].as_str().unwrap();
    let last = archive
        .shows(&format!("journal?limit=12&before={next}"))
        .await;
    assert_eq!(tasks(&last), (1..=6).rev().collect::<Vec<_>>());
    assert_eq!(last["next"], Value::Null);
    // No more than 200, and no more than what is asked for.
    assert_eq!(
        tasks(&archive.shows("journal?limit=100000").await).len(),
        30
    );
    assert_eq!(tasks(&archive.shows("journal?limit=0").await).len(), 1);
    for before in ["x", "1", "1-2-3-4", "-1-2-3"] {
        let path = format!("journal?before={before}");
        let refused = archive.asked(&path, Access::all()).await;
        assert_eq!(refused.status, 400, "{before}: {}", refused.text);
    }
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn a_finished_task_is_found_by_its_very_key() {
    let archive = archive().await;
    for path in ["journal", "search"] {
        let list = if path == "journal" {
            "outcomes"
        } else {
            "hits"
        };
        for (q, task) in [
            ("4", Some("4")),
            ("10", Some("10")),
            ("", None),
            ("5", None),
        ] {
            let found = archive.shows(&format!("{path}?q={SECRET_KEY}-{q}")).await;
            let found = found[list].as_array().unwrap();
            let wanted: Vec<_> = task.into_iter().collect();
            let numbers = found.iter().map(|one| one["task"].as_str().unwrap());
            let numbers: Vec<_> = numbers.collect();
            assert_eq!(numbers, wanted, "{path} {q}");
        }
    }
    let found = archive.shows(&format!("journal?q={SECRET_KEY}-4")).await;
    let output = found["outcomes"][0]["output"].as_str().unwrap();
    assert_eq!(output, format!("\"{SECRET_OUTPUT} 4\""));
    let hits = archive.shows(&format!("search?q={SECRET_KEY}-4")).await;
    assert_eq!(hits["hits"][0]["where"], "journal");
    assert!(hits["covered"].as_str().unwrap().contains("In the journal"));
    // One that the monitor knows anyway is found once.
    let hits = archive.shows(&format!("search?q={SECRET_KEY}-10")).await;
    assert_eq!(hits["hits"][0]["where"], "ended");
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn keys_outputs_and_the_place_are_hidden_from_those_who_may_only_look() {
    let archive = archive().await;
    let place = archive.folder.path().to_str().unwrap().to_owned();
    for path in [
        "journal".to_owned(),
        "journal?limit=200".to_owned(),
        format!("journal?q={SECRET_KEY}-4"),
        format!("search?q={SECRET_KEY}-4"),
        "nodes".to_owned(),
    ] {
        let shown = archive.asked(&path, Access::look().values()).await.text;
        let looked = archive.asked(&path, Access::look()).await.text;
        for secret in [SECRET_KEY, SECRET_OUTPUT, &place] {
            assert!(!looked.contains(secret), "{path}: {looked}");
        }
        assert!(path == "nodes" || shown.contains(SECRET_KEY), "{shown}");
    }
    // Not even that there is such a key is for others to know.
    let looked = archive
        .asked(&format!("journal?q={SECRET_KEY}-4"), Access::look())
        .await;
    assert_eq!(looked.json()["outcomes"], json!([]));
    let page = archive.asked("journal", Access::look()).await.json();
    assert_eq!(tasks(&page).len(), 30);
    let nobody = archive.asked("journal", Access::none()).await;
    assert_eq!(nobody.status, 403);
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn a_journal_is_redacted_and_answers_after_the_end_for_as_long_as_it_is_there() {
    let mut archive = archive().await;
    archive.monitor = Monitor::new()
        .watch(&archive.handle)
        .redact(|text| text.replace("1234", "****").replace(SECRET_OUTPUT, "****"));
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
    let page = archive.shows("journal").await;
    assert_eq!(page["outcomes"][0]["error"], "no <b>paper</b> 30 ****");
    let found = archive.shows(&format!("journal?q={SECRET_KEY}-4")).await;
    assert_eq!(found["outcomes"][0]["output"], "\"**** 4\"");
    let Archive {
        monitor, folder, ..
    } = archive;
    folder.close().unwrap();
    let ask = async |path: &str| {
        let path = format!("api/v1/pipelines/0/{path}");
        ask(monitor.mount("/batrun"), get(&path)).await
    };
    let gone = ask("journal").await;
    assert_eq!(
        (gone.status.as_u16(), &gone.json()["code"]),
        (503, &"unavailable".into())
    );
    // The rest of what is searched is found all the same.
    let hits = ask("search?q=label%2010").await.json();
    assert_eq!(hits["hits"][0]["task"], "10");
    let covered = hits["covered"].as_str().unwrap();
    assert!(covered.contains("Not in the journal: "), "{covered}");
}

#[actix_web::test]
async fn a_pipeline_without_a_journal_has_nothing_in_it() {
    let shop = shop().await;
    one_of_each(&shop).await;
    let sample = of_shop(&shop, "api/v1/pipelines/0").await;
    assert_eq!(sample["journal"], "none");
    let none = of_shop(&shop, "api/v1/pipelines/0/journal").await;
    assert_eq!(
        none,
        json!({ "kind": "none", "place": null, "outcomes": [], "corrupt": [], "next": null })
    );
    let nodes = of_shop(&shop, "api/v1/pipelines/0/nodes").await;
    assert_eq!(
        nodes,
        json!({ "kind": "none", "nodes": [], "takeovers": [], "waiting": "0", "stranded": [], "counted_to": "0" })
    );
    let archive = archive().await;
    let nodes = archive.shows("nodes").await;
    assert_eq!(
        (&nodes["kind"], &nodes["nodes"]),
        (&"file".into(), &json!([]))
    );
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn metrics_have_the_journal_where_there_is_one() {
    let archive = archive().await;
    let journal = archive.handle.control().journal().unwrap().clone();
    let mount = archive.monitor.mount("/batrun");
    let metrics = ask(mount, get("metrics")).await.text;
    let value = |name: &str| {
        let sample = format!("{name}{{pipeline=\"archive\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap_or_else(|| panic!("{name}: {metrics}"))
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!(value("batrun_journal_outcomes_kept"), 30.0);
    assert_eq!(
        value("batrun_journal_bytes"),
        journal.size().unwrap().bytes as f64
    );
    let commits = value("batrun_journal_commit_seconds_count");
    // Several, and no more than there were changes.
    assert!((30.0..=300.0).contains(&commits), "{commits}");
    assert!(value("batrun_journal_commit_seconds_sum") > 0.0);
    assert!(
        metrics.contains("batrun_journal_commit_seconds_bucket{pipeline=\"archive\",le=\"+Inf\"}")
    );
    assert!(metrics.contains("journal=\"file\"}"), "{metrics}");
    // A file has neither.
    for name in ["batrun_journal_nodes_alive", "batrun_journal_lease_left"] {
        assert!(!metrics.contains(name), "{name}");
    }
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}
