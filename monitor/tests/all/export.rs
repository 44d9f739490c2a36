//! The finished tasks of a journal as a file.

use std::time::Duration;

use batrun::{journal::Journal, prelude::*};
use batrun_monitor::{Access, Monitor};
use serde_json::{Value, json};

use crate::{
    journal::{Archive, SECRET_OUTPUT, archive},
    support::{Answer, SECRET_KEY, ask, get, monitor, shop},
};

/// The lines of a file: those of the tasks, and the last one.
fn lines(answer: &Answer) -> (Vec<Value>, Value) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert!(answer.text.ends_with('\n'));
    let lines = answer.text.lines().map(serde_json::from_str);
    let mut lines: Vec<Value> = lines.map(Result::unwrap).collect();
    let last = lines.pop().unwrap();
    assert_eq!(last["tasks"], lines.len(), "{last}");
    (lines, last)
}

async fn exports(archive: &Archive, query: &str) -> (Vec<Value>, Value) {
    let path = format!("journal/export{query}");
    lines(&archive.asked(&path, Access::all()).await)
}

#[actix_web::test]
async fn a_file_has_the_finished_tasks_as_the_view_shows_them() {
    let archive = archive().await;
    let answer = archive.asked("journal/export", Access::all()).await;
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"finished-tasks-of-archive.jsonl\""
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let (tasks, last) = lines(&answer);
    let view = archive.asked("journal?limit=200", Access::all()).await;
    assert_eq!(json!(tasks), view.json()["outcomes"]);
    assert_eq!(tasks.len(), 30);
    assert_eq!(
        (&last["next"], &last["text"]),
        (&Value::Null, &"these are all".into())
    );

    // In parts, each of which says where the next one begins.
    let (mut parts, mut before) = (Vec::new(), String::new());
    loop {
        let (tasks, last) = exports(&archive, &format!("?rows=11&before={before}")).await;
        parts.extend(tasks);
        assert!(parts.len() <= 30, "{last}");
        let Some(next) = last["next"].as_str() else {
            break;
        };
        assert!(last["text"].as_str().unwrap().ends_with(next), "{last}");
        before = next.to_owned();
    }
    assert_eq!(parts, tasks);

    let (found, _) = exports(&archive, &format!("?q={SECRET_KEY}-4")).await;
    assert_eq!(found[0]["output"], format!("\"{SECRET_OUTPUT} 4\""));
    assert_eq!(found.len(), 1);
    for (query, status) in [("?before=x", 400), ("?rows=x", 400)] {
        let path = format!("journal/export{query}");
        let refused = archive.asked(&path, Access::all()).await;
        assert_eq!(refused.status, status, "{query}");
    }
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn d1_a_file_has_keys_and_outputs_for_those_only_who_may_see_them() {
    let archive = archive().await;
    for path in [
        "journal/export".to_owned(),
        format!("journal/export?q={SECRET_KEY}-4"),
    ] {
        let shown = archive.asked(&path, Access::look().values()).await.text;
        assert!(shown.contains(SECRET_KEY), "{shown}");
        let looked = archive.asked(&path, Access::look()).await;
        assert_eq!(looked.status, 200);
        for secret in [SECRET_KEY, SECRET_OUTPUT] {
            assert!(!looked.text.contains(secret), "{path}: {}", looked.text);
        }
        let nobody = archive.asked(&path, Access::none()).await;
        assert_eq!(nobody.status, 403);
    }
    archive.handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn a_file_ends_after_ten_thousand_tasks_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Pipeline::new("many")
        .journal(Journal::open(folder.path().join("journal")).unwrap())
        .producer(from_iter(0..10_010))
        .stage(stage_fn("count", async |n: u32, _: &TaskContext<()>| Ok(n)))
        .start()
        .await
        .unwrap();
    let control = handle.control();
    while control.snapshot().counts.done < 10_010 {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    let monitor = Monitor::new().watch(&handle);
    let asked = async |query: &str| {
        let path = format!("api/v1/pipelines/0/journal/export{query}");
        lines(&ask(monitor.mount("/batrun"), get(&path)).await)
    };
    let (tasks, last) = asked("?rows=999999").await;
    assert_eq!(tasks.len(), 10_000);
    let next = last["next"].as_str().unwrap();
    assert!(last["text"].as_str().unwrap().contains("there are more"));
    let (rest, last) = asked(&format!("?before={next}")).await;
    assert_eq!((rest.len(), &last["next"]), (10, &Value::Null));
    handle.shutdown(Shutdown::Abort).await.unwrap();
}

#[actix_web::test]
async fn a_pipeline_without_a_journal_has_an_empty_file() {
    let shop = shop().await;
    let path = "api/v1/pipelines/0/journal/export";
    let answer = ask(monitor(&shop).mount("/batrun"), get(path)).await;
    let (tasks, last) = lines(&answer);
    assert_eq!((tasks.len(), &last["next"]), (0, &Value::Null));
    // A pipeline's name is no header and no path.
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"finished-tasks-of-shop----.jsonl\""
    );
}
