//! Keys of tasks, which are values.

use std::{future::pending, time::Duration};

use batrun::{journal::Journal, prelude::*};
use batrun_monitor::{Access, Monitor};

use crate::support::{SECRET_KEY, ask, get};

#[actix_web::test]
async fn d1_keys_are_shown_and_searched_only_by_those_who_may_see_values() {
    let folder = tempfile::tempdir().unwrap();
    let stage = stage_fn("s", async |job: String, task: &TaskContext<String>| {
        task.on_cancel(job.clone()).await?;
        match job.as_str() {
            "hangs" => pending().await,
            _ => Err::<(), _>(Failure::permanent("no luck")),
        }
    });
    let stage = stage.cancel_with(async |job: String, _: &CancelContext| match job.as_str() {
        "sticks" => Err(Failure::permanent("the undo refuses")),
        _ => Ok(()),
    });
    let handle = Pipeline::new("keys")
        .journal(Journal::open(folder.path().join("journal")).unwrap())
        .stage(stage)
        .start()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for job in ["fails", "sticks"] {
        let ticket = handle
            .submit(job.to_owned())
            .key(format!("{SECRET_KEY}-{job}"))
            .await
            .unwrap();
        ids.push(ticket.id());
        ticket.outcome().await.unwrap();
    }
    let hangs = handle
        .submit("hangs".to_owned())
        .key(format!("{SECRET_KEY}-hangs"))
        .await
        .unwrap();
    ids.push(hangs.id());
    while handle.snapshot().stages[0].busy == 0 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }

    let monitor = Monitor::new().watch(&handle);
    let asked = async |path: &str, values: bool| {
        let access = if values {
            Access::look().values()
        } else {
            Access::look()
        };
        let mount = monitor.mount("/batrun").access(move |_| access.clone());
        let answer = ask(mount, get(&format!("api/v1/pipelines/0/{path}"))).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer
    };
    let mut paths: Vec<String> = [
        "tasks",
        "ended",
        "stuck",
        "journal",
        "search?q=1",
        "search?q=2",
        "search?q=3",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(ids.iter().map(|id| format!("tasks/{id}")));
    paths.extend(ids.iter().map(|id| format!("search?q={id}")));
    for path in paths {
        let (with, without) = (
            asked(&path, true).await.text,
            asked(&path, false).await.text,
        );
        assert!(!without.contains(SECRET_KEY), "{path}: {without}");
        assert!(
            with.contains(SECRET_KEY) || path.starts_with("search"),
            "{path}: {with}"
        );
    }
    for (job, place) in [
        ("fails", "ended"),
        ("sticks", "stuck"),
        ("hangs", "in_flight"),
    ] {
        let path = format!("search?q={SECRET_KEY}-{job}");
        let found = asked(&path, true).await.json();
        assert_eq!(found["hits"][0]["where"], place, "{found}");
        // Not even that there is such a key is for others to know.
        let hidden = asked(&path, false).await.json();
        assert_eq!(hidden["hits"].as_array().unwrap().len(), 0, "{hidden}");
        assert!(hidden["covered"].as_str().unwrap().contains("no keys"));
    }
    let path = format!("tasks?q={SECRET_KEY}-hangs");
    assert_eq!(asked(&path, true).await.json()["total"], 1);
    assert_eq!(asked(&path, false).await.json()["total"], 0);
    let access = Access::look();
    let mount = monitor.mount("/batrun").access(move |_| access.clone());
    hangs.cancel();
    hangs.outcome().await.unwrap();
    handle.shutdown(batrun::Shutdown::Abort).await.unwrap();
    let report = ask(mount, get("api/v1/pipelines/0/report")).await;
    assert!(
        report.status == 200 && !report.text.contains(SECRET_KEY),
        "{}",
        report.text
    );
}
