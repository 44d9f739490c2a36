//! Answers show the pipeline as it is.

use actix_web::{App, test};
use batrun::{Shutdown, prelude::*};
use batrun_monitor::Monitor;

use crate::support::{HOSTILE, Job, SECRET_UNDO, ask, get, json, monitor, one_of_each, shop};

#[actix_web::test]
async fn numbers_are_those_of_the_pipeline() {
    let shop = shop().await;
    one_of_each(&shop).await;
    let sample = json(&shop, "api/v1/pipelines").await["pipelines"][0].clone();
    let snapshot = shop.snapshot();
    assert_eq!(sample["name"], "shop <&>");
    assert_eq!(
        sample["counts"]["accepted"],
        snapshot.counts.accepted.to_string()
    );
    assert_eq!(
        (&sample["counts"]["done"], &sample["counts"]["failed"]),
        (&"1".into(), &"2".into())
    );
    assert_eq!(
        (&sample["in_flight"], &sample["stuck"]),
        (&"1".into(), &1.into())
    );
    assert_eq!(sample["health"]["ready"], true);
    assert_eq!(sample["warnings"][0]["text"], "1 task is stuck");
    let stage = &sample["stages"][1];
    assert_eq!(stage["name"], HOSTILE);
    assert_eq!(
        (&stage["workers"], &stage["workers_busy"]),
        (&8.into(), &1.into())
    );
    assert_eq!(
        (&stage["counts"]["started"], &stage["counts"]["failed"]),
        (&"4".into(), &"2".into())
    );
    assert_eq!(sample["stages"][0]["counts"]["undone"], "1");
    assert_eq!(stage["work"]["count"], "3");
}

#[actix_web::test]
async fn tasks_are_found_by_filters_and_by_search() {
    let shop = shop().await;
    let hangs = one_of_each(&shop).await;
    for (query, found) in [
        ("", true),
        ("phase=running", true),
        ("phase=queued,running", true),
        ("phase=queued", false),
        ("stage=take", false),
        ("q=label-H", true),
        ("q=label-X", false),
        ("older_ms=3600000", false),
        (&format!("q={hangs}"), true),
        (&format!("after={hangs}"), false),
    ] {
        let page = json(&shop, &format!("api/v1/pipelines/0/tasks?{query}")).await;
        let tasks = page["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), usize::from(found), "{query}: {page}");
        if found {
            assert_eq!(tasks[0]["task"], hangs, "{query}");
            assert_eq!(
                (&tasks[0]["phase"], &tasks[0]["stage"]),
                (&"running".into(), &HOSTILE.into())
            );
        }
    }
    let hits = async |q: &str| {
        let found = json(&shop, &format!("api/v1/pipelines/0/search?q={q}")).await;
        assert!(
            found["covered"]
                .as_str()
                .unwrap()
                .starts_with("Looked through")
        );
        let hits = found["hits"].as_array().unwrap().iter();
        hits.map(|hit| format!("{} {}", hit["task"], hit["where"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(hits("2").await, ["2 ended"]);
    assert_eq!(hits("label-St").await, ["3 stuck"]);
    assert_eq!(
        hits("label-").await,
        [
            "3 stuck".to_owned(),
            format!("{hangs} in_flight"),
            "2 ended".to_owned()
        ]
    );
    assert_eq!(hits("nothing").await.len(), 0);
    assert_eq!(hits("").await.len(), 0);
}

#[actix_web::test]
async fn a_task_is_shown_where_it_is() {
    let shop = shop().await;
    let hangs = one_of_each(&shop).await;
    let at = async |task: &str| json(&shop, &format!("api/v1/pipelines/0/tasks/{task}")).await;
    let live = at(&hangs).await;
    assert_eq!(
        (&live["where"], &live["outcome"]),
        (&"in_flight".into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&live["undos"][0]["state"], &live["undos"][0]["tries"]),
        (&"registered".into(), &0.into())
    );
    assert!(
        live["undos"][0]["undo"]
            .as_str()
            .unwrap()
            .contains(SECRET_UNDO)
    );
    let failed = at("2").await;
    assert_eq!(
        (&failed["where"], &failed["outcome"]["end"]),
        (&"ended".into(), &"failed".into())
    );
    assert_eq!(failed["outcome"]["rollback"]["state"], "complete");
    // As it is: the page escapes, and the text of an outcome is on one line.
    assert_eq!(failed["outcome"]["error"], "no <b>luck</b> 17 \u{1b}[2J");
    assert!(
        failed["outcome"]["text"]
            .as_str()
            .unwrap()
            .contains(r"\u{1b}[2J")
    );
    let events = failed["timeline"]["events"].as_array().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"undone") && names.last() == Some(&"ended"),
        "{names:?}"
    );
    let stuck = at("3").await;
    assert_eq!(
        (&stuck["where"], &stuck["undos"][0]["error"]),
        (&"stuck".into(), &"the undo refuses".into())
    );
    // The largest number there can be is a number still.
    let none = ask(
        monitor(&shop).mount("/batrun"),
        get("api/v1/pipelines/0/tasks/18446744073709551615"),
    )
    .await;
    assert_eq!(none.status, 404);
    assert_eq!(none.json()["code"], "not_found");
}

#[actix_web::test]
async fn failures_that_are_alike_are_one_group() {
    let shop = shop().await;
    for job in [Job::Fails, Job::Fails, Job::Sticks] {
        shop.submit(job).await.unwrap().outcome().await.unwrap();
    }
    let ended = json(&shop, "api/v1/pipelines/0/ended?limit=2").await;
    let groups = ended["groups"].as_array().unwrap();
    assert_eq!(
        (groups.len(), &groups[0]["count"], &groups[1]["count"]),
        (2, &2.into(), &1.into())
    );
    assert!(groups[0]["error"].as_str().unwrap().contains("luck</b> #"));
    let recent: u64 = groups[0]["recent"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(recent, 2);
    assert_eq!(
        (&ended["ended"][0]["number"], &ended["next"]),
        (&3.into(), &2.into())
    );
    let rest = json(&shop, "api/v1/pipelines/0/ended?before=2").await;
    assert_eq!(
        (rest["ended"].as_array().unwrap().len(), &rest["next"]),
        (1, &serde_json::Value::Null)
    );
}

#[actix_web::test]
async fn a_pipeline_that_has_ended_stays() {
    let shop = shop().await;
    one_of_each(&shop).await;
    let monitor = monitor(&shop);
    let early = ask(monitor.mount("/batrun"), get("api/v1/pipelines/0/report")).await;
    assert_eq!(early.status, 404);
    let report = shop.shutdown(Shutdown::Abort).await.unwrap();
    let look = async |path: &str| ask(monitor.mount("/batrun"), get(path)).await;
    let shown = look("api/v1/pipelines/0/report").await.json();
    assert_eq!(shown["text"], report.to_string());
    assert_eq!(shown["report"]["failed"], 2);
    assert_eq!(
        look("api/v1/pipelines/0/stuck").await.json()["stuck"][0]["task"],
        "3"
    );
    assert_eq!(look("health").await.status, 503);
    // A sample may be a quarter of a second old.
    while look("api/v1/pipelines/0").await.json()["ended"] != true {
        actix_rt::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(
        look("api/v1/pipelines/0").await.json()["counts"]["cancelled"],
        "1"
    );
}

#[actix_web::test]
async fn two_pipelines_of_one_name_are_two() {
    let (one, two) = (shop().await, shop().await);
    two.submit(Job::Good)
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    let monitor = Monitor::new().watch(&one).watch(&two);
    let all = ask(monitor.mount("/batrun"), get("api/v1/pipelines"))
        .await
        .json();
    let done = |p: usize| all["pipelines"][p]["counts"]["done"].clone();
    assert_eq!((done(0), done(1)), ("0".into(), "1".into()));
    let metrics = ask(monitor.mount("/batrun"), get("metrics")).await.text;
    assert!(metrics.contains(r#"pipeline="shop <&> (2)""#), "{metrics}");
}

#[actix_web::test]
async fn texts_are_redacted_and_cut() {
    let stage = stage_fn(
        "s",
        async |long: bool, _: &TaskContext<()>| -> Result<(), _> {
            Err(Failure::permanent(if long {
                "ä".repeat(10_000)
            } else {
                "password 1234".to_owned()
            }))
        },
    );
    let handle = Pipeline::new("p").stage(stage).start().await.unwrap();
    for long in [false, true] {
        handle.submit(long).await.unwrap().outcome().await.unwrap();
    }
    let monitor = Monitor::new()
        .watch(&handle)
        .redact(|text| text.replace("1234", "****"));
    let ended = ask(monitor.mount("/batrun"), get("api/v1/pipelines/0/ended")).await;
    assert!(
        ended.text.contains("password ****") && !ended.text.contains("1234"),
        "{}",
        ended.text
    );
    assert!(ended.text.len() < 40_000, "{}", ended.text.len());
}

#[actix_web::test]
async fn the_page_is_there_under_any_path() {
    for (mounted, path) in [
        ("/batrun", "/batrun/"),
        ("/a/b", "/a/b/index.html"),
        ("", "/"),
        ("/", "/index.html"),
    ] {
        let app = test::init_service(App::new().service(Monitor::new().mount(mounted))).await;
        let request = test::TestRequest::get().uri(path);
        let request = request
            .peer_addr("127.0.0.1:9".parse().unwrap())
            .insert_header(("host", "localhost"));
        let response = test::call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), 200, "{mounted} {path}");
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "text/html; charset=utf-8"
        );
    }
    let shop = shop().await;
    let bare = get("").uri("/batrun?x=1");
    let answer = ask(monitor(&shop).mount("/batrun"), bare).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (308, "./batrun/")
    );
    // Files are named by their content, and are kept.
    let page = ask(monitor(&shop).mount("/batrun"), get("")).await.text;
    let mut files = 0;
    for part in page.split('"').filter(|part| part.starts_with("assets/")) {
        let file = ask(monitor(&shop).mount("/batrun"), get(part)).await;
        assert_eq!(file.status, 200, "{part}");
        assert!(file.header("cache-control").contains("immutable"), "{part}");
        files += 1;
    }
    assert!(files > 2, "{page}");
}
