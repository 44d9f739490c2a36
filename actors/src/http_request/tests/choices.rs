//! The choices of a program: redirects, proxies, unpacking, trust.

use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    process, thread,
};

use flate2::{Compression, write::GzEncoder};

use super::{server::raw, *};
use crate::Tls;

/// Answers `/go/STATUS` with a redirect to `/there` below `to`, and everything else with 200.
fn redirecting(to: impl Fn() -> String + Send + Sync + 'static) -> Server {
    Server::start(move |seen: &Seen| match seen.target.strip_prefix("/go/") {
        Some(status) => {
            let to = to();
            let head = format!("HTTP/1.1 {status} X\r\nLocation: {to}/there?x=1\r\n");
            Answer::Text(format!("{head}Content-Length: 2\r\n\r\nno"))
        }
        None => answer(200, "here"),
    })
}

fn going(server: &Server, status: u16) -> HttpRequest<String> {
    let url = format!("{}/go/{status}", server.root());
    HttpRequest::new(move |_: &String| {
        Request::post(url.clone())
            .header("Authorization", "secret")
            .header("Content-Type", "text/plain")
            .body("tea")
    })
}

#[test]
fn a_redirect_is_not_followed_unless_told_so() {
    let server = redirecting(String::new);
    for status in [301, 302, 303, 307, 308] {
        let (outcome, _) = done(going(&server, status));
        let failure = failure(&outcome);
        assert!(!failure.is_retryable(), "{failure}");
    }
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_redirect_is_followed_with_the_method_and_body_that_its_status_says() {
    for (status, method, body) in [
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "tea"),
        (308, "POST", "tea"),
    ] {
        let server = redirecting(String::new);
        let (outcome, _) = done(going(&server, status).redirects(1));
        assert!(outcome.is_done(), "{status}: {outcome}");
        let [_, seen] = &server.seen()[..] else {
            panic!("{status}: {:?}", server.seen());
        };
        assert_eq!((&*seen.method, &*seen.target), (method, "/there?x=1"));
        assert_eq!(seen.body, body, "{status}");
        assert_eq!(seen.header("content-type").is_some(), !body.is_empty());
        assert_eq!(seen.header("authorization"), Some("secret"));
        assert_eq!(server.keys(), ["web/1/HttpRequest/0"; 2], "{status}");
    }
}

#[test]
fn another_server_gets_no_credentials() {
    let other = status(200);
    let root = other.root();
    let server = redirecting(move || root.replace("http://", "http://me:secret@"));
    let (outcome, _) = done(going(&server, 307).redirects(3));
    assert!(outcome.is_done(), "{outcome}");
    let seen = &other.seen()[0];
    assert_eq!((&*seen.method, &*seen.body), ("POST", "tea"));
    assert_eq!(seen.header("authorization"), None);
    let host = other.root().replace("http://", "");
    assert_eq!(seen.header("host"), Some(&*host));
}

#[test]
fn redirects_come_to_an_end_and_may_lead_nowhere() {
    let server = Server::start(|_| answer(302, ""));
    let (outcome, _) = done(get(&server).redirects(4));
    assert!(!failure(&outcome).is_retryable(), "{outcome}");
    assert_eq!(server.seen().len(), 5);
    for to in ["ftp://host/", "http://", "http://a b/"] {
        let server = redirecting(move || to.to_owned());
        let (outcome, _) = done(going(&server, 302).redirects(4));
        let failure = failure(&outcome);
        assert!(failure.to_string().ends_with("status 302"), "{failure}");
    }
}

/// The first server has answered, and perhaps acted before that.
#[test]
fn what_was_redirected_to_nobody_is_taken_back() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let server = redirecting(move || nowhere.clone());
    let back = server.root();
    let stage = going(&server, 303).redirects(1);
    let (outcome, _) = done(stage.cancel_with(move |_| Request::delete(back.clone())));
    assert!(failure(&outcome).is_retryable(), "{outcome}");
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn packed(body: Vec<u8>) -> Server {
    Server::start(move |_| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        );
        Answer::Bytes([head.as_bytes(), &body].concat())
    })
}

fn whole(stage: HttpRequest<String>) -> Outcome<Response> {
    done(stage.then(|_, response| Ok(response))).0
}

#[test]
fn a_packed_body_is_unpacked_if_told_so() {
    let body = gzip(b"hello");
    let server = packed(body.clone());
    let response = whole(get(&server)).output.unwrap();
    assert_eq!(response.body(), body);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let response = whole(get(&server).decompress()).output.unwrap();
    assert_eq!(response.body(), b"hello");
    assert_eq!(response.header("content-encoding"), None);
    assert_eq!(response.header("content-length"), None);
    let asked = server.seen();
    let asked = asked.iter().map(|seen| seen.header("accept-encoding"));
    assert_eq!(asked.collect::<Vec<_>>(), [None, Some("gzip")]);
}

#[test]
fn the_largest_size_is_that_of_the_unpacked_body() {
    // A thousand times as large unpacked.
    let server = packed(gzip(&vec![0; 10 << 20]));
    let outcome = whole(get(&server).decompress());
    assert!(!failure(&outcome).is_retryable(), "{outcome}");
    let text = failure(&outcome).to_string();
    assert!(text.contains("larger than 1048576 bytes"), "{text}");
    let response = whole(get(&server).decompress().largest(10 << 20));
    assert_eq!(response.output.unwrap().body().len(), 10 << 20);
}

#[test]
fn a_packed_body_that_is_damaged_is_a_failure() {
    let body = gzip(b"hello, hello, hello");
    let mut bent = body.clone();
    bent[15] ^= 1;
    for body in [body[..body.len() - 4].to_vec(), bent, b"hello".to_vec()] {
        let outcome = whole(get(&packed(body)).decompress());
        let failure = failure(&outcome);
        assert!(failure.to_string().contains("unpacked"), "{failure}");
        assert!(failure.is_retryable());
    }
}

#[test]
fn a_bad_pem_is_told_at_once_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let told = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let of_file = Tls::system_roots().add_root_file(&path).unwrap_err();
        assert!(of_file.to_string().contains("ca.pem: "), "{of_file}");
        let error = Tls::only_added_roots().add_root(text).unwrap_err();
        assert!(error.to_string().contains("given to add_root: "), "{error}");
        error.to_string()
    };
    assert!(told("").contains("no certificate"));
    let key = rcgen::KeyPair::generate().unwrap();
    assert!(told(&key.serialize_pem()).contains("no certificate"));
    assert!(told("-----BEGIN CERTIFICATE-----\n!\n").contains("not PEM"));
    let nonsense = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(told(nonsense).contains("can't be a root"));

    let missing = folder.path().join("missing.pem");
    let error = Tls::system_roots().add_root_file(&missing).unwrap_err();
    assert!(error.to_string().contains("missing.pem: "), "{error}");
    let (other, certificate) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::CertificateParams::new(["me".to_owned()]).unwrap(),
    );
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let identity = |pem: String| Tls::system_roots().identity(pem);
    assert!(identity(certificate.clone() + &key.serialize_pem()).is_ok());
    let error = identity(certificate.clone()).unwrap_err().to_string();
    assert!(error.contains("no private key"), "{error}");
    let error = identity(certificate + &other.serialize_pem())
        .unwrap_err()
        .to_string();
    assert!(error.contains("can't be used together"), "{error}");
}

/// Nobody is trusted, so it fails for good, before anything is sent, and says what to do.
#[test]
fn without_a_root_https_fails_and_http_works() {
    let tls = Tls::only_added_roots();
    let server = status(200);
    assert!(done(get(&server).tls(tls.clone())).0.is_done());
    let secure = server.root().replace("http:", "https:");
    let stage = HttpRequest::new(move |_: &String| Request::post(secure.clone()));
    let stage = stage.cancel_with(|_| Request::delete("http://127.0.0.1:9/"));
    let (outcome, report) = done(stage.tls(tls));
    assert!(!failure(&outcome).is_retryable());
    let text = failure(&outcome).to_string();
    assert!(text.contains("add a root"), "{text}");
    assert_eq!(report.stages[0].counts.cancelled, 0);
}

/// Not a test of its own: what [`the_proxies_of_the_environment_are_used_if_told_so`] runs in a process
/// that has the environment for it.
#[test]
#[ignore = "a part of the_proxies_of_the_environment_are_used_if_told_so"]
fn in_an_environment() {
    let Ok(url) = env::var("BATRUN_TEST_URL") else {
        return;
    };
    let stage = HttpRequest::new(move |_: &String| Request::get(url.clone()));
    let stage = match env::var("BATRUN_TEST_PROXIES") {
        Ok(_) => stage.proxies_from_environment(),
        Err(_) => stage,
    };
    let stage = match env::var("BATRUN_TEST_ROOT") {
        Ok(root) => stage.tls(Tls::only_added_roots().add_root_file(root).unwrap()),
        Err(_) => stage,
    };
    let (outcome, _) = done(stage);
    println!("{}", outcome.end);
}

/// Has a process with that environment fetch the URL, and returns what it printed.
pub(super) fn fetch_in(url: &str, environment: &[(&str, &str)]) -> String {
    let mut child = process::Command::new(env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    child
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("{module}::in_an_environment"))
        .env("BATRUN_TEST_URL", url)
        .envs(environment.iter().copied());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_proxies_of_the_environment_are_used_if_told_so() {
    let proxy = Server::start(|seen: &Seen| match &*seen.method {
        "CONNECT" => answer(502, ""),
        _ => answer(200, ""),
    });
    let address = proxy.root().replace("//", "//me:hidden@");
    let run = |url: &str, told: bool, except: &str| {
        let told = if told { "BATRUN_TEST_PROXIES" } else { "_" };
        let environment = [("ALL_PROXY", &*address), ("NO_PROXY", except), (told, "1")];
        fetch_in(url, &environment)
    };
    let server = status(200);
    run(&format!("{}/direct", server.root()), false, "");
    assert_eq!((server.seen().len(), proxy.seen().len()), (1, 0));
    run(&format!("{}/except", server.root()), true, "127.0.0.1");
    assert_eq!((server.seen().len(), proxy.seen().len()), (2, 0));

    run("http://shop.invalid/7?a=1", true, "");
    let seen = &proxy.seen()[0];
    assert_eq!(seen.target, "http://shop.invalid/7?a=1");
    let user = Some("Basic bWU6aGlkZGVu");
    assert_eq!(seen.header("proxy-authorization"), user);
    let end = run("https://shop.invalid/7?a=secret", true, "");
    let seen = &proxy.seen()[1];
    assert_eq!(
        (&*seen.method, &*seen.target),
        ("CONNECT", "shop.invalid:443")
    );
    assert_eq!(seen.header("proxy-authorization"), user);
    assert!(end.contains("failed in HttpRequest"), "{end}");
    assert!(!end.contains("secret") && !end.contains("hidden"), "{end}");
}

/// It is told the name, and connects to it, here always to the same server.
#[test]
fn a_socks_proxy_of_the_environment_is_used() {
    let server = status(200);
    let to = server.root().replace("http://", "");
    let proxy = raw(move |mut client| {
        let mut next = |length: u8| {
            let mut bytes = vec![0; length.into()];
            client.read_exact(&mut bytes).unwrap();
            bytes
        };
        // Version 5 and the ways to log in; of these, none is chosen.
        let [5, ways] = next(2)[..] else { panic!() };
        next(ways);
        client.write_all(&[5, 0]).unwrap();
        let mut next = |length: u8| {
            let mut bytes = vec![0; length.into()];
            client.read_exact(&mut bytes).unwrap();
            bytes
        };
        // Connect to a name, whose length follows, and a port.
        let [5, 1, 0, 3, length] = next(5)[..] else {
            panic!()
        };
        assert_eq!(next(length), b"shop.invalid");
        assert_eq!(next(2), [0, 80]);
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut server = TcpStream::connect(&to).unwrap();
        let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut back, &mut forth));
        io::copy(&mut client, &mut server).ok();
    });
    let address = format!("socks5h://{proxy}");
    let environment = [("BATRUN_TEST_PROXIES", "1"), ("ALL_PROXY", &*address)];
    let end = fetch_in("http://shop.invalid/7", &environment);
    assert!(end.contains("done"), "{end}");
    assert_eq!(server.seen()[0].target, "/7");
    assert_eq!(server.seen()[0].header("host"), Some("shop.invalid"));
}
