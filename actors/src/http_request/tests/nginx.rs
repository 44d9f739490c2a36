//! Tests against nginx, whose path is in `BATRUN_NGINX`; see `.ci/nginx`.

mod host;

use std::{
    fs,
    io::{self, Write},
    net::TcpStream,
    thread,
};

use batrun::state::Rollback;

use self::host::{KINDS, Mutual, Nginx, Plain, Plain2, Secure};
use super::{
    choices::fetch_in,
    server::{head, raw},
    wire::body,
    *,
};

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_chooses_the_version_unless_it_is_set() {
    let nginx = Nginx::start();
    for (kind, protocol) in [(Plain, "HTTP/1.1 "), (Secure, "HTTP/2.0 ")] {
        assert_eq!(body(nginx.get(kind, "who")), protocol, "{kind:?}");
    }
    let who = |kind, version| body(nginx.get(kind, "who").http_version(version));
    assert_eq!(who(Secure, HttpVersion::Http1), "HTTP/1.1 ");
    assert_eq!(who(Secure, HttpVersion::Http2), "HTTP/2.0 ");
    assert_eq!(who(Plain2, HttpVersion::Http2), "HTTP/2.0 ");
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_is_not_sent_anything_unless_its_certificate_is_trusted() {
    let nginx = Nginx::start();
    let port = nginx.ports[Secure as usize];
    let other = move |_| Request::get(format!("https://127.0.0.1:{port}/who"));
    let strange = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let strange = Tls::only_added_roots()
        .add_root(strange.cert.pem())
        .unwrap();
    for (stage, why) in [
        (
            nginx.get(Secure, "who").tls(Tls::system_roots()),
            "UnknownIssuer",
        ),
        (nginx.get(Secure, "who").tls(strange), "UnknownIssuer"),
        (nginx.stage(Secure, other), "not valid for name"),
    ] {
        let (outcome, report) = done(stage);
        let failure = failure(&outcome);
        assert!(failure.to_string().contains(why), "{failure}");
        assert!(!failure.is_retryable(), "{failure}");
        assert_eq!(report.stages[0].counts.cancelled, 0, "{failure}");
    }
    // Both together.
    let both = Tls::system_roots()
        .add_root_file(nginx.path("ca.pem"))
        .unwrap();
    assert_eq!(body(nginx.get(Secure, "who").tls(both)), "HTTP/2.0 ");
}

/// The authority is made one of the system's by a variable, so it is a process of its own.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_is_trusted_if_the_system_trusts_its_authority() {
    let nginx = Nginx::start();
    let url = format!("{}/who", nginx.root(Secure));
    for (file, expected) in [("ca.pem", "done"), ("client.pem", "UnknownIssuer")] {
        let file = nginx.path(file);
        let environment = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let end = fetch_in(&url, &environment);
        assert!(end.contains(expected), "{end}");
    }
    let nothing = nginx.path("www/text");
    let environment = [
        ("SSL_CERT_FILE", nothing.to_str().unwrap()),
        ("SSL_CERT_DIR", "/nonexistent"),
    ];
    let end = fetch_in(&url, &environment);
    assert!(
        end.contains("the system's root certificates can't be used"),
        "{end}"
    );
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_knows_a_client_by_its_certificate() {
    let nginx = Nginx::start();
    assert_eq!(body(nginx.get(Mutual, "who")), "HTTP/2.0 CN=client");
    let (outcome, _) = done(nginx.get(Mutual, "who").tls(nginx.trusting()));
    let failure = failure(&outcome);
    assert!(failure.to_string().ends_with("status 400"), "{failure}");
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_refuses_a_large_body_early_and_that_counts() {
    let nginx = Nginx::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    for kind in KINDS {
        let path = file.path().to_owned();
        let bytes = |root| Request::post(format!("{root}/who?a=secret")).body(vec![7; 8 << 20]);
        let of_file = move |root| Request::put(format!("{root}/7")).body_from_file(path.clone());
        for stage in [nginx.stage(kind, bytes), nginx.stage(kind, of_file)] {
            let (outcome, report) = done(stage.untouched([413]));
            let text = failure(&outcome).to_string();
            assert!(text.ends_with("status 413"), "{kind:?}: {text}");
            assert!(!text.contains("secret"), "{text}");
            assert_eq!(report.stages[0].counts.cancelled, 0, "{kind:?}");
        }
    }
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_may_close_without_an_answer() {
    let nginx = Nginx::start();
    for kind in KINDS {
        let (outcome, _) = done(nginx.get(kind, "close"));
        assert!(failure(&outcome).is_retryable(), "{kind:?}: {outcome}");
        let complete = Rollback::Complete { undos: 1 };
        assert_eq!(outcome.rollback, complete, "{kind:?}");
    }
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_packs_a_body_if_asked_to() {
    let nginx = Nginx::start();
    let text = "word ".repeat(2000);
    for kind in KINDS {
        let get = || nginx.get(kind, "text");
        assert_eq!(body(get()), text);
        assert_eq!(body(get().decompress()), text);
        let packed = get().then(|_, response| {
            assert_eq!(response.header("content-encoding"), None);
            Ok(response.header("etag").map(str::to_owned))
        });
        // nginx makes an entity tag weak when it packs.
        let (outcome, _) = done(packed.decompress());
        let tag = outcome.output.unwrap().unwrap();
        assert!(tag.starts_with("W/"), "{kind:?}: {tag}");
        let (outcome, _) = done(get().decompress().largest(text.len() - 1));
        assert!(!failure(&outcome).is_retryable(), "{outcome}");
    }
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_gets_a_large_file_as_it_is() {
    let nginx = Nginx::start();
    let file = nginx.path("large");
    let bytes: Vec<u8> = (0_u32..8 << 20).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &bytes).unwrap();
    for (index, kind) in KINDS.into_iter().enumerate() {
        let from = file.clone();
        let stage = nginx.stage(kind, move |root| {
            Request::put(format!("{root}/up/{index}")).body_from_file(from.clone())
        });
        let (outcome, _) = done(stage);
        assert!(outcome.is_done(), "{kind:?}: {outcome}");
        let arrived = fs::read(nginx.path(&format!("www/up/{index}"))).unwrap();
        assert!(arrived == bytes, "{kind:?}: {} bytes", arrived.len());
    }
}

/// Runs ten tasks one after the other, and `between` before the last of them.
fn ten(stage: impl IntoWork<Stage: Stage<Input = String>>, between: impl FnOnce()) -> Report {
    let mut between = Some(between);
    actix_rt::System::new().block_on(async {
        let pipeline = Pipeline::new("web").stage(stage).start().await.unwrap();
        for id in 0..10 {
            if id == 9
                && let Some(between) = between.take()
            {
                between();
            }
            let ticket = pipeline.submit(id.to_string()).await.unwrap();
            let outcome = ticket.outcome().await.unwrap();
            assert!(outcome.is_done(), "{id}: {}", outcome.end);
        }
        pipeline.shutdown(Shutdown::Drain(PATIENCE)).await.unwrap()
    })
}

/// It has each connection end after three requests.
#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_may_end_a_connection_between_two_requests() {
    let nginx = Nginx::start();
    for kind in KINDS {
        let post = |root| Request::post(format!("{root}/who")).body("tea");
        let report = ten(nginx.stage(kind, post), || {});
        assert_eq!(report.stages[0].counts.started, 10, "{kind:?}");
    }
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_may_be_started_anew_between_two_tasks() {
    for kind in KINDS {
        let mut nginx = Nginx::start();
        let stage = nginx.get(kind, "who");
        let retry = Retry::constant(20, Duration::from_millis(50));
        ten(stage.retry(retry), || nginx.restart());
    }
}

#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_is_reached_through_the_tunnel_of_a_proxy() {
    let nginx = Nginx::start();
    let port = nginx.ports[Secure as usize];
    let proxy = raw(move |mut client| {
        let asked = head(&mut client);
        assert!(
            asked.starts_with(&format!("CONNECT localhost:{port} ")),
            "{asked}"
        );
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut back, &mut forth));
        io::copy(&mut client, &mut server).ok();
    });
    let url = format!("{}/who", nginx.root(Secure));
    let root = nginx.path("ca.pem");
    let fetch = |proxy: String| {
        let environment = [
            ("BATRUN_TEST_PROXIES", "1"),
            ("BATRUN_TEST_ROOT", root.to_str().unwrap()),
            ("HTTPS_PROXY", &*proxy),
        ];
        fetch_in(&url, &environment)
    };
    let end = fetch(format!("http://{proxy}"));
    assert!(end.contains("done"), "{end}");
    let end = fetch(format!("https://{proxy}"));
    assert!(end.contains("a proxy of the kind https://"), "{end}");
}

/// Over HTTP/2 only the request is dropped, and the connection goes on.
#[test]
#[ignore = "needs nginx; its path is in BATRUN_NGINX"]
fn nginx_is_left_at_the_deadline_and_asked_again() {
    let nginx = Nginx::start();
    for kind in KINDS {
        let root = nginx.root(kind);
        let stage = HttpRequest::new(move |path: &String| Request::get(format!("{root}/{path}")));
        let stage = stage.tls(nginx.known()).limit(PATIENCE * 10);
        let stage = match kind {
            Plain2 => stage.http_version(HttpVersion::Http2),
            _ => stage,
        };
        actix_rt::System::new().block_on(async {
            let pipeline = Pipeline::new("web").stage(stage).start().await.unwrap();
            let slow = pipeline.submit("slow".to_owned());
            let slow = slow.timeout(Duration::from_millis(500)).await.unwrap();
            let end = slow.outcome().await.unwrap().end;
            let late = matches!(end, batrun::state::End::TimedOut { .. });
            assert!(late, "{kind:?}: {end}");
            let next = pipeline.submit("who".to_owned()).await.unwrap();
            let outcome = next.outcome().await.unwrap();
            assert!(outcome.is_done(), "{kind:?}: {outcome}");
            pipeline.shutdown(Shutdown::Drain(PATIENCE)).await.unwrap();
        });
    }
}
