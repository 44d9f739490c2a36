//! Actions act.

use std::time::Duration;

use batrun::report::Cursor;
use batrun_monitor::Monitor;
use serde_json::{Value, json};

use crate::support::{
    HOSTILE, HOSTILE_PATH, Job, Shop, ask, hanging, monitor, one_of_each, post, shop,
};

async fn act(shop: &Shop, path: &str, body: Value) -> (u16, Value) {
    let answer = ask(
        monitor(shop).mount("/batrun"),
        post(&format!("api/v1/pipelines/0/{path}"), body),
    )
    .await;
    (answer.status.as_u16(), answer.json())
}

#[actix_web::test]
async fn stages_are_paused_resized_and_limited() {
    let shop = shop().await;
    assert_eq!(act(&shop, "pause", json!({})).await.0, 200);
    assert!(shop.snapshot().paused);
    assert_eq!(act(&shop, "resume", json!({})).await.0, 200);
    assert!(!shop.snapshot().paused);
    let stage = format!("stages/{HOSTILE_PATH}");
    assert_eq!(
        act(&shop, &format!("{stage}/pause"), json!({})).await.0,
        200
    );
    assert!(shop.snapshot().stages[1].paused);
    assert_eq!(
        act(&shop, &format!("{stage}/resume"), json!({})).await.0,
        200
    );
    assert!(!shop.snapshot().stages[1].paused);
    assert_eq!(
        act(&shop, "stages/take/workers", json!({ "workers": 3 }))
            .await
            .0,
        200
    );
    while shop.snapshot().stages[0].target != 3 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    for (rate, text) in [
        (json!(5), "5/s"),
        (json!(0.5), "1 per 2s"),
        (json!(2.5), "2500 per 1000s"),
    ] {
        assert_eq!(
            act(
                &shop,
                &format!("{stage}/rate"),
                json!({ "per_second": rate })
            )
            .await
            .0,
            200
        );
        let monitor = monitor(&shop);
        loop {
            let sample = ask(
                monitor.mount("/batrun"),
                crate::support::get("api/v1/pipelines/0"),
            )
            .await
            .json();
            if sample["stages"][1]["rate_limit"]["text"] == text {
                break;
            }
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(
        act(
            &shop,
            &format!("{stage}/rate"),
            json!({ "per_second": null })
        )
        .await
        .0,
        200
    );
    for (path, body, status, says) in [
        ("stages/none/pause", json!({}), 404, "no stage"),
        (
            "stages/take/workers",
            json!({ "workers": 0 }),
            400,
            "at least one worker",
        ),
        (
            "stages/take/workers",
            json!({ "workers": 1_000_000 }),
            400,
            "100000",
        ),
        ("stages/take/workers", json!({}), 400, "workers"),
        ("stages/take/rate", json!({}), 400, "per_second"),
        (
            "stages/take/rate",
            json!({ "per_second": -1 }),
            400,
            "per_second",
        ),
        (
            "stages/take/rate",
            json!({ "per_second": 1e300 }),
            400,
            "per_second",
        ),
        ("pause", json!({ "what": 1 }), 400, "what"),
        ("pause", json!([]), 400, "object"),
    ] {
        let (got, answer) = act(&shop, path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(says),
            "{path}: {answer}"
        );
    }
    let other = ask(
        monitor(&shop).mount("/batrun"),
        post("api/v1/pipelines/1/pause", json!({})),
    )
    .await;
    assert_eq!(other.status, 404);
}

#[actix_web::test]
async fn tasks_are_cancelled_by_number_or_as_they_were_counted() {
    let shop = shop().await;
    let first = hanging(&shop).await;
    for _ in 0..3 {
        hanging(&shop).await;
    }
    let (status, answer) = act(
        &shop,
        "tasks/cancel",
        json!({ "tasks": [first.to_string(), "999"] }),
    )
    .await;
    assert_eq!(
        (status, answer),
        (200, json!({ "cancelled": 1, "refused": 1 }))
    );
    while shop.snapshot().in_flight != 3 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    let filter = json!({ "q": "label-Hangs", "stage": HOSTILE, "older_ms": "0" });
    let (status, answer) = act(
        &shop,
        "tasks/cancel",
        json!({ "filter": filter, "count": 4 }),
    )
    .await;
    assert_eq!(
        (status, &answer["code"], &answer["count"]),
        (409, &"conflict".into(), &3.into())
    );
    assert_eq!(shop.snapshot().in_flight, 3);
    let (status, answer) = act(
        &shop,
        "tasks/cancel",
        json!({ "filter": filter, "count": 3 }),
    )
    .await;
    assert_eq!((status, &answer["cancelled"]), (200, &3.into()));
    for body in [
        json!({}),
        json!({ "filter": {} }),
        json!({ "count": 1 }),
        json!({ "tasks": ["1"], "filter": {}, "count": 0 }),
        json!({ "tasks": [] }),
        json!({ "tasks": ["x"] }),
        json!({ "tasks": [1] }),
    ] {
        assert_eq!(
            act(&shop, "tasks/cancel", body.clone()).await.0,
            400,
            "{body}"
        );
    }
}

#[actix_web::test]
async fn stuck_tasks_are_retried_and_resolved() {
    let shop = shop().await;
    shop.submit(Job::Sticks)
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    let (status, answer) = act(&shop, "stuck/retry", json!({ "tasks": ["1"] })).await;
    assert_eq!((status, &answer["retried"]), (200, &1.into()));
    // Its undo refuses again.
    let control = shop.control();
    while control.ended(Cursor::Newest, 1)[0].number != 2 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    for body in [
        json!({ "tasks": ["1"] }),
        json!({ "tasks": ["1"], "who": "ada", "why": " " }),
    ] {
        assert_eq!(act(&shop, "stuck/resolve", body).await.0, 400);
    }
    let body = json!({ "tasks": ["1"], "who": "ada", "why": "paid back by hand" });
    let (status, answer) = act(&shop, "stuck/resolve", body.clone()).await;
    assert_eq!((status, &answer["resolved"]), (200, &1.into()));
    assert!(shop.stuck().is_empty());
    assert_eq!(act(&shop, "stuck/resolve", body).await.0, 409);
    assert_eq!(
        act(&shop, "stuck/retry", json!({ "tasks": ["1"] })).await.0,
        409
    );
}

#[actix_web::test]
async fn a_pipeline_ends_only_by_its_name() {
    let shop = shop().await;
    one_of_each(&shop).await;
    for path in ["drain", "abort"] {
        assert_eq!(act(&shop, path, json!({ "name": "shop" })).await.0, 409);
        assert_eq!(act(&shop, path, json!({})).await.0, 400);
    }
    let name = "shop <&>";
    assert_eq!(
        act(&shop, "drain", json!({ "name": name, "grace_seconds": -1 }))
            .await
            .0,
        400
    );
    assert!(!shop.snapshot().draining);
    assert_eq!(
        act(
            &shop,
            "drain",
            json!({ "name": name, "grace_seconds": null })
        )
        .await
        .0,
        200
    );
    while !shop.snapshot().draining {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(act(&shop, "pause", json!({})).await.0, 410);
    assert_eq!(act(&shop, "abort", json!({ "name": name })).await.0, 200);
    let monitor = Monitor::new().watch(&shop);
    let report = shop.join().await.unwrap();
    assert_eq!((report.counts.cancelled, report.counts.failed), (1, 2));
    let (path, body) = ("api/v1/pipelines/0/abort", json!({ "name": name }));
    assert_eq!(
        ask(monitor.mount("/batrun"), post(path, body)).await.status,
        410
    );
}
