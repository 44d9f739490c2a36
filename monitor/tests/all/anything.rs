//! Whatever is sent is answered: with what was asked for, or with a refusal that is JSON.

use actix_web::{
    App,
    test::{call_service, init_service, read_body},
};
use batrun_monitor::{Access, Action};

use crate::support::{HOSTILE_PATH, ask, get, monitor, one_of_each, shop};

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const PARTS: [&str; 24] = [
    "api",
    "v1",
    "pipelines",
    "0",
    "1",
    "-1",
    "18446744073709551616",
    "tasks",
    "stuck",
    "stages",
    "take",
    HOSTILE_PATH,
    "pause",
    "cancel",
    "retry",
    "rate",
    "workers",
    "history",
    "..",
    "%00",
    "%ff",
    "%2F",
    "assets",
    "%F0%9F%A6%80",
];
const STARTS: [&str; 10] = [
    "",
    "api/v1/pipelines",
    "api/v1/pipelines/0",
    "api/v1/pipelines/0/tasks",
    "api/v1/pipelines/0/tasks/cancel",
    "api/v1/pipelines/0/stuck/retry",
    "api/v1/pipelines/0/stages/take/workers",
    "api/v1/pipelines/0/stages/take/rate",
    "api/v1/pipelines/0/history",
    "api/v1/pipelines/0/ended",
];
const NAMES: [&str; 9] = [
    "limit", "q", "after", "before", "phase", "stage", "older_ms", "range", "every",
];
const VALUES: [&str; 14] = [
    "",
    "0",
    "1",
    "-1",
    "1e9",
    "18446744073709551615",
    "18446744073709551616",
    "%ff",
    "%00",
    "null",
    "5m",
    "running",
    "label-",
    "%F0%9F%A6%80",
];
const BODIES: [&str; 18] = [
    "",
    "{",
    "{}",
    "[]",
    "null",
    "\"\"",
    "{\"tasks\":null}",
    "{\"tasks\":[\"0\",\"18446744073709551615\"]}",
    "{\"tasks\":[{}]}",
    "{\"filter\":{},\"count\":-1}",
    "{\"filter\":{\"older_ms\":1e300},\"count\":1}",
    "{\"filter\":{\"phase\":\"x\"},\"count\":0}",
    "{\"workers\":18446744073709551615}",
    "{\"per_second\":1e-320}",
    "{\"per_second\":\"NaN\"}",
    "{\"name\":\"\u{0}\"}",
    "{\"name\":\"shop <&>\",\"grace_seconds\":1e300}",
    "\u{feff}{}",
];

#[actix_web::test]
async fn d2_anything_is_answered() {
    let shop = shop().await;
    one_of_each(&shop).await;
    let mut dice = Dice(1);
    let mut answered = std::collections::BTreeMap::new();
    for _ in 0..30 {
        // Not the actions that end it. One monitor has ten actions a second, so each has few.
        let access = [
            Action::Pause,
            Action::Resume,
            Action::Resize,
            Action::Rate,
            Action::Cancel,
            Action::Retry,
        ];
        let access = access
            .into_iter()
            .fold(Access::look().values(), Access::action);
        let mount = monitor(&shop)
            .mount("/batrun")
            .access(move |_| access.clone());
        let app = init_service(App::new().service(mount)).await;
        for _ in 0..100 {
            let mut path = dice.one(&STARTS).to_owned();
            for _ in 0..dice.below(6).saturating_sub(2) {
                path = format!("{path}/{}", dice.one(&PARTS));
            }
            for at in 0..dice.below(3) {
                let sign = if at == 0 { '?' } else { '&' };
                path = format!("{path}{sign}{}={}", dice.one(&NAMES), dice.one(&VALUES));
            }
            let mut request = get(path.trim_start_matches('/'));
            if dice.below(2) == 0 {
                request = request
                    .method(actix_web::http::Method::POST)
                    .insert_header(("content-type", "application/json"))
                    .insert_header(("x-batrun", "1"))
                    .set_payload(dice.one(&BODIES));
            }
            let response = call_service(&app, request.to_request()).await;
            let status = response.status().as_u16();
            assert!(
                [200, 400, 404, 405, 409, 429].contains(&status),
                "{status} {path}"
            );
            *answered.entry(status).or_insert(0) += 1;
            let kind = response
                .headers()
                .get("content-type")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if kind != "text/event-stream" {
                let body = read_body(response).await;
                if kind == "application/json" {
                    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    assert!(
                        status == 200 || value["error"].is_string() && value["code"].is_string(),
                        "{value}"
                    );
                }
            }
        }
    }
    assert!(answered[&200] > 100 && answered[&400] > 100, "{answered:?}");
}

#[actix_web::test]
async fn d2_the_thirty_third_stream_is_told_to_poll() {
    let shop = shop().await;
    let monitor = monitor(&shop);
    let app = init_service(App::new().service(monitor.mount("/batrun"))).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        let response = call_service(&app, get("api/v1/stream").to_request()).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = ask(monitor.mount("/batrun"), get("api/v1/stream")).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("retry-after")),
        (503, "1")
    );
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("api/v1/pipelines")
    );
    // Those that poll are as many as they like.
    assert_eq!(
        ask(monitor.mount("/batrun"), get("api/v1/pipelines"))
            .await
            .status,
        200
    );
    open.pop();
    let response = call_service(&app, get("api/v1/stream").to_request()).await;
    assert_eq!(response.status(), 200);
}
