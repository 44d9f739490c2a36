//! Sends the bytes to the monitor as a request. The first one chooses where it begins, a line is the rest of path and
//! query, and all after that is a body to be posted. Every request must be answered: a refusal as JSON, and never
//! with an error of the server's own.
#![no_main]

use std::cell::RefCell;

use actix_web::{
    App,
    http::{Method, Uri, header},
    rt::{System, SystemRunner},
    test::{TestRequest, call_service, init_service, read_body},
};
use batrun::prelude::*;
use batrun_monitor::{Access, Monitor};

const STARTS: [&str; 16] = [
    "",
    "metrics",
    "assets/",
    "api/v1/",
    "api/v1/pipelines/",
    "api/v1/pipelines/0/history?range=",
    "api/v1/pipelines/0/tasks?",
    "api/v1/pipelines/0/tasks/",
    "api/v1/pipelines/0/search?q=",
    "api/v1/pipelines/0/ended?before=",
    "api/v1/pipelines/0/journal?",
    "api/v1/pipelines/0/stages/take/workers",
    "api/v1/pipelines/0/stages/take/rate",
    "api/v1/pipelines/0/tasks/cancel",
    "api/v1/pipelines/0/stuck/retry",
    "api/v1/pipelines/0/stuck/resolve",
];

struct World {
    system: SystemRunner,
    shop: PipelineHandle<u32, u32>,
}

impl World {
    fn new() -> Self {
        let system = System::new();
        let shop = system.block_on(async {
            let take = stage_fn("take", async |n: u32, task: &TaskContext<u32>| {
                task.on_cancel(n).await?;
                match n {
                    1 => Ok(n),
                    _ => Err(Failure::permanent("no luck")),
                }
            })
            .cancel_with(async |n: u32, _: &CancelContext| match n {
                3 => Err(Failure::permanent("the undo refuses")),
                _ => Ok(()),
            });
            // A name that nobody guesses: who knows it may end the pipeline.
            let shop = Pipeline::new("shop 8d0a7e0e3c")
                .stage(take)
                .start()
                .await
                .unwrap();
            for n in [1, 2, 3] {
                shop.submit(n).await.unwrap().outcome().await.unwrap();
            }
            shop
        });
        World { system, shop }
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((start, rest)) = bytes.split_first() else {
        return;
    };
    let start = STARTS[usize::from(*start) % STARTS.len()];
    let text = String::from_utf8_lossy(rest);
    let (path, body) = match text.split_once('\n') {
        Some((path, body)) => (path, Some(body.to_owned())),
        None => (&*text, None),
    };
    // The rest would come no further than the server's own parser.
    let Ok(uri) = Uri::try_from(format!("/batrun/{start}{path}")) else {
        return;
    };
    WORLD.with_borrow(|world| {
        world.system.block_on(async {
            // A new one, whose limit of actions is untouched.
            let monitor = Monitor::new().watch(&world.shop);
            let mount = monitor.mount("/batrun").access(|_| Access::all());
            let app = init_service(App::new().service(mount)).await;
            let mut request = TestRequest::with_uri(&uri.to_string());
            if let Some(body) = body {
                request = request
                    .method(Method::POST)
                    .insert_header((header::CONTENT_TYPE, "application/json"))
                    .insert_header(("x-batrun", "1"))
                    .set_payload(body);
            }
            let answer = call_service(&app, request.to_request()).await;
            let status = answer.status().as_u16();
            assert!(status < 500 || status == 503, "{uri}: {status}");
            let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
            // Streams don't end.
            if kind
                .as_ref()
                .is_some_and(|kind| kind == "text/event-stream")
            {
                return;
            }
            let json = kind.is_some_and(|kind| kind == "application/json");
            let text = read_body(answer).await;
            if json || status >= 400 {
                let parsed = serde_json::from_slice::<serde_json::Value>(&text);
                assert!(parsed.is_ok(), "{uri}: {status} {text:?}");
            }
        });
    });
});
