//! A pipeline with one task of each kind, and requests to its monitor.

use std::{future::pending, time::Duration};

use actix_web::{
    App,
    http::{StatusCode, header::HeaderMap},
    test::{TestRequest, call_service, init_service, read_body},
};
use batrun::{Failure, Pipeline, PipelineHandle, prelude::*};
use batrun_monitor::{Monitor, Mount};
use serde_json::Value;

/// A stage whose name is meant to be trouble.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>/../%2F? \u{202e}\u{7}\"'";
/// The same in a path.
pub(crate) const HOSTILE_PATH: &str =
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E%2F..%2F%252F%3F%20%E2%80%AE%07%22%27";

/// Must not be seen by those who may not see values.
pub(crate) const SECRET_KEY: &str = "secret-key";
pub(crate) const SECRET_UNDO: &str = "secret-undo";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Good,
    Fails,
    /// Fails, and its undo does, too.
    Sticks,
    /// Until it is cancelled.
    Hangs,
}

pub(crate) type Shop = PipelineHandle<Job, Job>;

pub(crate) async fn shop() -> Shop {
    let take = stage_fn("take", async |job: Job, task: &TaskContext<String>| {
        task.on_cancel(format!("{SECRET_UNDO} {job:?}")).await?;
        Ok(job)
    })
    .cancel_with(
        async |undo: String, _: &CancelContext| match undo.ends_with("Sticks") {
            true => Err(Failure::permanent("the undo refuses")),
            false => Ok(()),
        },
    );
    let trouble = stage_fn(HOSTILE, async |job: Job, _: &TaskContext<()>| match job {
        Job::Good => Ok(job),
        Job::Fails => Err(Failure::permanent("no <b>luck</b> 17 \u{1b}[2J")),
        Job::Sticks => Err(Failure::permanent("no luck")),
        Job::Hangs => pending().await,
    });
    Pipeline::new("shop <&>")
        .stage(take)
        .stage(trouble.workers(8))
        .start()
        .await
        .unwrap()
}

/// One that is done, one that failed, one that is stuck, and one that hangs with this number.
pub(crate) async fn one_of_each(shop: &Shop) -> String {
    for job in [Job::Good, Job::Fails, Job::Sticks] {
        let ticket = shop
            .submit(job)
            .label(format!("label-{job:?}"))
            .await
            .unwrap();
        ticket.outcome().await.unwrap();
    }
    let hangs = hanging(shop).await;
    hangs.to_string()
}

/// A task that is at work, and will be.
pub(crate) async fn hanging(shop: &Shop) -> u64 {
    let hangs = shop
        .submit(Job::Hangs)
        .label("label-Hangs")
        .await
        .unwrap()
        .id();
    let control = shop.control();
    while control.snapshot().stages[1].busy == 0 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    hangs.0
}

/// From this machine.
pub(crate) fn get(path: &str) -> TestRequest {
    TestRequest::get()
        .uri(&format!("/batrun/{path}"))
        .peer_addr("127.0.0.1:9".parse().unwrap())
        .insert_header(("host", "localhost:8080"))
}

pub(crate) fn post(path: &str, body: Value) -> TestRequest {
    bare_post(path, body)
        .insert_header(("content-type", "application/json"))
        .insert_header(("x-batrun", "1"))
}

pub(crate) fn bare_post(path: &str, body: Value) -> TestRequest {
    get(path)
        .method(actix_web::http::Method::POST)
        .set_payload(body.to_string())
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn ask(mount: Mount, request: TestRequest) -> Answer {
    let app = init_service(App::new().service(mount)).await;
    let response = call_service(&app, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    Answer {
        status,
        headers,
        text,
    }
}

/// A monitor that nobody has asked yet, so that its limits are untouched.
pub(crate) fn monitor(shop: &Shop) -> Monitor {
    Monitor::new().watch(shop)
}

pub(crate) async fn json(shop: &Shop, path: &str) -> Value {
    let answer = ask(monitor(shop).mount("/batrun"), get(path)).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}
