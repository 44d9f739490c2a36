#![allow(clippy::unwrap_used)]

use std::{fs, future::Future, path::Path};

use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::service::IN_FLIGHT;
use batrun::prelude::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// The answer to a request.
#[derive(Debug)]
struct Answer {
    name: String,
    status: u16,
    retry_after: Option<String>,
    json: Value,
}

struct Test {
    service: Service,
    world: Arc<World>,
    folder: TempDir,
    client: Client,
}

impl Test {
    async fn start(limit: Duration) -> Self {
        let folder = tempdir().unwrap();
        let world = Arc::new(World::new(folder.path()));
        Test {
            service: Service::start(0, limit, &world).await.unwrap(),
            world,
            folder,
            client: client(),
        }
    }

    fn create(&self, name: &str) -> impl Future<Output = Answer> + use<> {
        self.post(name, json!({ "name": name, "pages": 3 }).to_string())
    }

    fn post(&self, name: &str, body: String) -> impl Future<Output = Answer> + use<> {
        let url = format!("http://{}/accounts", self.service.address);
        post(self.client.clone(), url, name.to_owned(), body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.service.address);
        let mut answer = self.client.get(url).force_close().send().await.unwrap();
        let json = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
        (answer.status().as_u16(), json)
    }

    async fn until_in_flight(&self, tasks: u64) {
        until(|| self.service.accounts.snapshot().in_flight == tasks).await;
    }

    /// Stops the service and checks the world.
    async fn stop(self, created: &[String]) -> Report {
        let report = self.service.stop(LONG).await.unwrap();
        let accounts = self.world.check(&report, created);
        assert_eq!(accounts, Ok(created.len()), "{report}");
        report
    }
}

async fn post(client: Client, url: String, name: String, body: String) -> Answer {
    let request = client.post(url).force_close();
    let mut answer = request
        .content_type("application/json")
        .send_body(body)
        .await
        .unwrap();
    let retry_after = answer.headers().get("retry-after");
    Answer {
        name,
        status: answer.status().as_u16(),
        retry_after: retry_after.map(|after| after.to_str().unwrap().to_owned()),
        json: serde_json::from_slice(&answer.body().await.unwrap()).unwrap(),
    }
}

/// Waits for a condition that is sure to come true.
async fn until(happened: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if happened() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[actix_web::test]
async fn an_account_is_made_and_found() {
    let test = Test::start(LONG).await;
    let answer = test.create("ada").await;
    assert_eq!(
        (answer.status, &answer.json),
        (201, &json!({ "name": "ada", "pages": 3 }))
    );
    assert_eq!(test.get("/accounts/ada").await, (200, answer.json));
    assert_eq!(test.get("/accounts/bela").await.0, 404);
    assert_eq!(
        test.get("/ready").await,
        (200, json!({ "health": "ready" }))
    );
    let (status, snapshot) = test.get("/pipeline").await;
    assert_eq!(
        (status, &snapshot["done"], &snapshot["in_flight"]),
        (200, &json!(1), &json!(0))
    );

    // The name is taken: the second request fails and leaves the first one's account.
    let answer = test.create("ada").await;
    assert_eq!(
        (answer.status, &answer.json["end"]["stage"]),
        (422, &json!("Reserve"))
    );
    assert_eq!(answer.json["end"]["failure"]["error"], "ada is taken");
    assert_eq!(answer.json["rollback"]["kind"], "none");
    test.stop(&["ada".to_owned()]).await;
}

#[actix_web::test]
async fn a_failed_one_is_taken_back_before_the_client_is_told() {
    let test = Test::start(LONG).await;
    let answer = test.create("refused-ada").await;
    assert!(names(test.folder.path()).is_empty());
    assert_eq!(
        (answer.status, &answer.json["end"]["stage"]),
        (422, &json!("Activate"))
    );
    assert_eq!(answer.json["end"]["failure"]["error"], "the bank refused");
    assert_eq!(
        answer.json["rollback"],
        json!({ "kind": "complete", "undos": 2 })
    );
    assert_eq!(test.get("/accounts/refused-ada").await.0, 404);
    assert_eq!(test.stop(&[]).await.counts.failed, 1);
}

#[actix_web::test]
async fn a_late_one_is_taken_back_before_the_client_is_told() {
    let test = Test::start(Duration::from_secs(3)).await;
    let answer = test.create("slow-ada").await;
    assert!(names(test.folder.path()).is_empty());
    assert_eq!(
        (answer.status, &answer.json["end"]["kind"]),
        (504, &json!("timed_out"))
    );
    assert_eq!(answer.json["end"]["stage"], "Activate");
    assert_eq!(
        answer.json["rollback"],
        json!({ "kind": "complete", "undos": 2 })
    );
    assert_eq!(test.stop(&[]).await.counts.timed_out, 1);
}

#[actix_web::test]
async fn what_is_no_account_is_refused_with_a_reason() {
    let test = Test::start(LONG).await;
    for (body, reason) in [
        (r#"{"name": "ada", "pages": "#, "EOF"),
        (r#"{"name": "ada"}"#, "missing field `pages`"),
        (
            r#"{"name": "../ada", "pages": 3}"#,
            "a name has 1 to 64 characters",
        ),
    ] {
        let answer = test.post("ada", body.to_owned()).await;
        assert_eq!(answer.status, 400);
        let error = answer.json["error"].as_str().unwrap();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(test.stop(&[]).await.counts.accepted, 0);
}

#[actix_web::test]
async fn more_requests_than_it_can_take_are_each_answered_once() {
    const REQUESTS: usize = 200;
    let test = Test::start(LONG).await;
    // Paused, so that the pipeline is surely full.
    test.service.accounts.pause();
    let mut requests: FuturesUnordered<_> = (0..REQUESTS)
        .map(|i| match i % 4 {
            0 => test.create(&format!("refused-{i}")),
            _ => test.create(&format!("good-{i}")),
        })
        .collect();
    for _ in IN_FLIGHT..REQUESTS {
        let answer = rt::time::timeout(LONG, requests.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (answer.status, answer.retry_after.as_deref()),
            (429, Some("1")),
            "{answer:?}"
        );
    }
    test.until_in_flight(IN_FLIGHT as u64).await;
    test.service.accounts.resume();
    let (mut created, mut failed) = (Vec::new(), 0);
    while let Some(answer) = requests.next().await {
        match answer.status {
            201 if answer.name.starts_with("good-") => created.push(answer.name),
            422 if answer.name.starts_with("refused-") => failed += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(created.len() + failed, IN_FLIGHT);
    let counts = test.stop(&created).await.counts;
    assert_eq!(
        (counts.accepted, counts.done, counts.failed),
        (IN_FLIGHT as u64, created.len() as u64, failed as u64)
    );
}

#[actix_web::test]
async fn a_drain_answers_every_request() {
    let test = Test::start(LONG).await;
    test.service.accounts.pause();
    let requests: Vec<_> = (0..IN_FLIGHT)
        .map(|i| match i {
            0 => test.create("slow-ada"),
            _ => test.create(&format!("good-{i}")),
        })
        .map(rt::spawn)
        .collect();
    test.until_in_flight(IN_FLIGHT as u64).await;

    let latecomers = ["late", "later"].map(|name| test.create(name));
    let accounts = test.service.accounts.clone();
    // It resumes by itself.
    let stopping = rt::spawn(test.service.stop(LONG));
    until(|| accounts.snapshot().counts.done as usize == IN_FLIGHT - 1).await;
    // The slow request keeps the pipeline draining, so that a latecomer is told.
    for late in join_all(latecomers).await {
        assert_eq!(late.status, 503);
        assert_eq!(late.json["error"], "the pipeline takes no more tasks");
    }
    // As if the grace period were over.
    accounts.shutdown(Shutdown::Abort).await.unwrap();

    let mut created = Vec::new();
    for answer in join_all(requests).await.into_iter().map(Result::unwrap) {
        if answer.name == "slow-ada" {
            assert_eq!(
                (answer.status, &answer.json["end"]["cause"]),
                (503, &json!("shutdown"))
            );
            assert_eq!(
                answer.json["rollback"],
                json!({ "kind": "complete", "undos": 2 })
            );
        } else {
            assert_eq!(answer.status, 201, "{answer:?}");
            created.push(answer.name);
        }
    }
    let report = stopping.await.unwrap().unwrap();
    assert_eq!(report.counts.cancelled, 1);
    assert_eq!(test.world.check(&report, &created), Ok(IN_FLIGHT - 1));
}

#[actix_web::test]
async fn what_can_not_be_taken_back_is_told_and_fails_the_check() {
    let test = Test::start(LONG).await;
    let request = rt::spawn(test.create("slow-ada"));
    let file = test.world.file("slow-ada");
    until(|| {
        let activate = &test.service.accounts.snapshot().stages[2];
        activate.counts.started == 1
    })
    .await;
    fs::write(&file, "someone else's").unwrap();
    let accounts = test.service.accounts.clone();
    let report = accounts.shutdown(Shutdown::Abort).await.unwrap();
    let answer = request.await.unwrap();
    assert_eq!(
        (answer.status, &answer.json["rollback"]["kind"]),
        (503, &json!("stuck"))
    );
    // The file is somebody else's now, so the name stays reserved.
    let undos = answer.json["rollback"]["undos"].as_array().unwrap();
    let stages: Vec<_> = undos.iter().map(|undo| undo["stage"].as_str()).collect();
    assert_eq!(stages, [Some("welcome"), Some("Reserve")]);
    test.service.stop(LONG).await.unwrap();
    let wrong = test.world.check(&report, &[]).unwrap_err();
    assert!(wrong.contains("slow-ada is reserved"), "{wrong}");
    assert_eq!(fs::read_to_string(file).unwrap(), "someone else's");
}

#[actix_web::test]
async fn a_client_that_leaves_has_its_account_all_the_same() {
    let test = Test::start(LONG).await;
    test.service.accounts.pause();
    let request = rt::spawn(test.create("ada"));
    test.until_in_flight(1).await;
    request.abort();
    assert!(request.await.is_err());
    // A stop resumes.
    test.stop(&["ada".to_owned()]).await;
}

#[actix_web::test]
async fn its_pipeline_is_shown_and_an_open_page_does_not_keep_it() {
    let test = Test::start(LONG).await;
    assert_eq!(test.create("ada").await.status, 201);
    let (status, shown) = test.get("/batrun/api/v1/pipelines").await;
    let accounts = &shown["pipelines"][0];
    assert_eq!((status, &accounts["name"]), (200, &json!("accounts")));
    assert_eq!(accounts["counts"]["done"], "1");

    let stream = format!("http://{}/batrun/api/v1/stream", test.service.address);
    let mut page = test.client.get(stream).force_close().send().await.unwrap();
    assert_eq!(page.status(), 200);
    test.stop(&["ada".to_owned()]).await;
    let samples = page.body().await.unwrap();
    let samples = std::str::from_utf8(&samples).unwrap();
    assert!(
        samples.contains("\"accounts\"") && samples.contains("event: bye"),
        "{samples}"
    );
}
