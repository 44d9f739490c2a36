//! Strangers at the doors.

use actix_web::test::TestRequest;
use batrun_monitor::{Access, Monitor};
use serde_json::json;

use crate::support::{ask, bare_post, get, monitor, post, shop};

async fn status(request: TestRequest) -> (u16, String) {
    let answer = ask(Monitor::new().mount("/batrun"), request).await;
    (answer.status.as_u16(), answer.text)
}

#[actix_web::test]
async fn d1_by_default_only_this_machine_is_answered() {
    let peer = |address: &str| get("health").peer_addr(address.parse().unwrap());
    for local in [
        "127.0.0.1:1",
        "127.8.9.10:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert_eq!(status(peer(local)).await.0, 200, "{local}");
    }
    for other in [
        "10.0.0.1:1",
        "192.168.1.1:1",
        "[fe80::1]:1",
        "[::ffff:10.0.0.1]:1",
        "0.0.0.0:1",
    ] {
        let (status, text) = status(peer(other)).await;
        assert_eq!(status, 403, "{other}");
        assert!(text.contains(".access(|request| ..)"), "{text}");
    }
    let unknown = TestRequest::get()
        .uri("/batrun/health")
        .insert_header(("host", "localhost"));
    assert_eq!(status(unknown).await.0, 403);
}

#[actix_web::test]
async fn d1_a_name_that_leads_here_is_not_this_machine() {
    let host = |host: &'static str| get("api/v1/pipelines").insert_header(("host", host));
    for local in ["localhost", "localhost:80", "127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(status(host(local)).await.0, 200, "{local}");
    }
    for other in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ] {
        assert_eq!(status(host(other)).await.0, 403, "{other}");
    }
    let two = get("health").append_header(("host", "evil.example"));
    assert_eq!(status(two).await.0, 403);
    let named = get("health").uri("http://evil.example/batrun/health");
    assert_eq!(status(named).await.0, 403);
    let none = TestRequest::get()
        .uri("/batrun/health")
        .peer_addr("127.0.0.1:9".parse().unwrap());
    assert_eq!(status(none).await.0, 403);
}

#[actix_web::test]
async fn d1_a_proxy_on_this_machine_opens_nothing() {
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Real-IP",
        "Via",
    ] {
        let (status, text) =
            status(get("api/v1/pipelines").insert_header((name, "127.0.0.1"))).await;
        assert_eq!(status, 403, "{name}");
        assert!(text.contains("proxy"), "{text}");
    }
    // A hook decides about proxies, too.
    let mount = Monitor::new().mount("/batrun").access(|_| Access::look());
    let request = get("health")
        .insert_header(("x-forwarded-for", "10.0.0.1"))
        .peer_addr("10.0.0.2:1".parse().unwrap());
    assert_eq!(ask(mount, request).await.status, 200);
}

#[actix_web::test]
async fn d1_only_our_own_page_changes_anything() {
    let shop = shop().await;
    // Sec-Fetch-Site, Origin, Host, and whether it passes.
    let cases = [
        (None, None, "localhost", true),
        (
            Some("same-origin"),
            Some("http://localhost"),
            "localhost",
            true,
        ),
        (Some("none"), None, "localhost", true),
        (
            Some("same-site"),
            Some("http://localhost"),
            "localhost",
            false,
        ),
        (
            Some("cross-site"),
            Some("http://localhost"),
            "localhost",
            false,
        ),
        (Some("cross-site"), None, "localhost", false),
        (Some("SAME-ORIGIN"), None, "localhost", false),
        (Some(""), None, "localhost", false),
        (None, Some("http://localhost"), "localhost", true),
        (None, Some("http://localhost:8080"), "localhost:8080", true),
        (None, Some("http://localhost:8081"), "localhost:8080", false),
        (None, Some("http://evil.example"), "localhost", false),
        (None, Some("null"), "localhost", false),
        (None, Some(""), "localhost", false),
        (
            None,
            Some("http://localhost@evil.example"),
            "localhost",
            false,
        ),
        (
            Some("cross-site"),
            Some("https://ops.example"),
            "localhost",
            true,
        ),
        (None, Some("https://ops.example"), "localhost", true),
        (
            None,
            Some("https://ops.example.evil.example"),
            "localhost",
            false,
        ),
    ];
    for (site, origin, host, passes) in cases {
        let mut request = post("api/v1/pipelines/0/pause", json!({})).insert_header(("host", host));
        if let Some(site) = site {
            request = request.insert_header(("sec-fetch-site", site));
        }
        if let Some(origin) = origin {
            request = request.insert_header(("origin", origin));
        }
        let mount = monitor(&shop)
            .mount("/batrun")
            .trust_origin("https://ops.example");
        let answer = ask(mount, request).await;
        let wanted = if passes { 200 } else { 403 };
        assert_eq!(
            answer.status, wanted,
            "{site:?} {origin:?} {host}: {}",
            answer.text
        );
        // To look is safe.
        let mut look = get("health").insert_header(("host", host));
        if let Some(site) = site {
            look = look.insert_header(("sec-fetch-site", site));
        }
        assert_eq!(ask(monitor(&shop).mount("/batrun"), look).await.status, 200);
    }
    // Two of one header are nobody's.
    let twice = post("api/v1/pipelines/0/pause", json!({}))
        .append_header(("sec-fetch-site", "same-origin"))
        .append_header(("sec-fetch-site", "cross-site"));
    assert_eq!(
        ask(monitor(&shop).mount("/batrun"), twice).await.status,
        403
    );
}

#[actix_web::test]
async fn d1_a_form_of_another_page_has_not_the_headers() {
    let shop = shop().await;
    let pause = || bare_post("api/v1/pipelines/0/pause", json!({}));
    let cases = [
        pause(),
        pause().insert_header(("content-type", "application/json")),
        pause().insert_header(("x-batrun", "1")),
        pause()
            .insert_header(("content-type", "text/plain"))
            .insert_header(("x-batrun", "1")),
        pause()
            .insert_header(("content-type", "application/jsonp"))
            .insert_header(("x-batrun", "1")),
        pause()
            .insert_header(("content-type", "application/json"))
            .insert_header(("x-batrun", "2")),
    ];
    for request in cases {
        assert_eq!(
            ask(monitor(&shop).mount("/batrun"), request).await.status,
            400
        );
    }
    assert!(!shop.snapshot().paused);
    let fine = pause()
        .insert_header(("content-type", "application/json; charset=utf-8"))
        .insert_header(("x-batrun", "1"));
    assert_eq!(ask(monitor(&shop).mount("/batrun"), fine).await.status, 200);
    assert!(shop.snapshot().paused);
}

#[actix_web::test]
async fn d1_other_methods_are_refused() {
    let shop = shop().await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["", "api/v1/pipelines", "api/v1/pipelines/0/pause"] {
            let request = get(path).method(method.parse().unwrap());
            let answer = ask(monitor(&shop).mount("/batrun"), request).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    let answer = ask(
        monitor(&shop).mount("/batrun"),
        get("api/v1/pipelines/0/pause"),
    )
    .await;
    assert_eq!(answer.status, 405);
    let answer = ask(
        monitor(&shop).mount("/batrun"),
        post("api/v1/pipelines", json!({})),
    )
    .await;
    assert_eq!(answer.status, 405);
    let answer = ask(monitor(&shop).mount("/batrun"), post("", json!({}))).await;
    assert_eq!(answer.status, 404);
}

#[actix_web::test]
async fn d1_every_answer_tells_the_browser_to_be_careful() {
    let shop = shop().await;
    for path in [
        "",
        "api/v1/pipelines",
        "metrics",
        "nothing",
        "api/v1/pipelines/7",
    ] {
        for refused in [false, true] {
            let access = if refused {
                Access::none()
            } else {
                Access::all()
            };
            let mount = monitor(&shop)
                .mount("/batrun")
                .access(move |_| access.clone());
            let answer = ask(mount, get(path)).await;
            let policy = answer.header("content-security-policy");
            for part in [
                "default-src 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
            ] {
                assert!(policy.contains(part), "{policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("x-frame-options"), "DENY");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
            assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
    let framed = monitor(&shop)
        .mount("/batrun")
        .frame_ancestors("https://ops.example");
    let answer = ask(framed, get("")).await;
    assert!(
        answer
            .header("content-security-policy")
            .contains("frame-ancestors https://ops.example;")
    );
    assert_eq!(answer.header("x-frame-options"), "");
}

#[actix_web::test]
async fn d2_too_much_is_refused() {
    let shop = shop().await;
    let monitor = monitor(&shop);
    let long = "x".repeat(70_000);
    let large = post(
        "api/v1/pipelines/0/stuck/resolve",
        json!({ "tasks": ["1"], "who": "a", "why": long }),
    );
    assert_eq!(ask(monitor.mount("/batrun"), large).await.status, 413);
    let many: Vec<String> = (0..1_001).map(|id| id.to_string()).collect();
    let many = post("api/v1/pipelines/0/tasks/cancel", json!({ "tasks": many }));
    assert_eq!(ask(monitor.mount("/batrun"), many).await.status, 400);
    for path in ["tasks?q=", "search?q="] {
        let q = get(&format!("api/v1/pipelines/0/{path}{}", "q".repeat(201)));
        assert_eq!(ask(monitor.mount("/batrun"), q).await.status, 400);
    }
    for bad in [
        "tasks?limit=-1",
        "tasks?after=x",
        "tasks?phase=asleep",
        "tasks/1x",
        "ended?before=1.5",
        "history?range=1y",
    ] {
        let answer = ask(
            monitor.mount("/batrun"),
            get(&format!("api/v1/pipelines/0/{bad}")),
        )
        .await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    // Ten a second pass: of so many at once, not all.
    let mut refused = 0;
    for _ in 0..300 {
        let answer = ask(
            monitor.mount("/batrun"),
            post("api/v1/pipelines/0/resume", json!({})),
        )
        .await;
        match answer.status.as_u16() {
            200 => {}
            429 => {
                assert_eq!(answer.header("retry-after"), "1");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0);
}
