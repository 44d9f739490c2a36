//! Tests against nginx, whose path is in `BATRUN_NGINX`; see `.ci/nginx`.

use std::{
    fs,
    io::{self, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use batrun::state::Rollback;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{
    choices::fetch_in,
    server::{head, raw},
    wire::body,
    *,
};

/// An nginx with a folder of its own, an authority of its own, and four servers that have the same
/// pages. The process ends with it.
struct Nginx {
    folder: tempfile::TempDir,
    process: Child,
    ports: [u16; 4],
}

/// What the servers differ in.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    /// HTTP/2 without TLS.
    Plain2,
    /// TLS, with HTTP/2 on offer.
    Secure,
    /// The same, for clients with a certificate of the authority.
    Mutual,
}

use Kind::{Mutual, Plain, Plain2, Secure};

const KINDS: [Kind; 4] = [Plain, Plain2, Secure, Mutual];

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path());
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/text"), "word ".repeat(2000)).unwrap();
        let (process, ports) = launch(folder.path(), None);
        Nginx {
            folder,
            process,
            ports,
        }
    }

    fn restart(&mut self) {
        self.stop();
        (self.process, _) = launch(self.folder.path(), Some(self.ports));
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self, kind: Kind) -> String {
        let port = self.ports[kind as usize];
        match kind {
            Plain | Plain2 => format!("http://localhost:{port}"),
            Secure | Mutual => format!("https://localhost:{port}"),
        }
    }

    fn trusting(&self) -> Tls {
        let tls = Tls::only_added_roots();
        tls.add_root_file(self.path("ca.pem")).unwrap()
    }

    fn known(&self) -> Tls {
        let tls = self.trusting();
        tls.identity_files(self.path("client.pem"), self.path("client.key"))
            .unwrap()
    }

    /// Sends such a request to that server, and takes it back with a `DELETE` of `/gone`.
    fn stage(
        &self,
        kind: Kind,
        request: impl Fn(String) -> Request + Send + Sync + 'static,
    ) -> HttpRequest<String> {
        let (root, back) = (self.root(kind), self.root(kind));
        let stage = HttpRequest::new(move |_: &String| request(root.clone()))
            .cancel_with(move |_| Request::delete(format!("{back}/gone")))
            .tls(self.known());
        match kind {
            Plain2 => stage.http_version(HttpVersion::Http2),
            _ => stage,
        }
    }

    fn get(&self, kind: Kind, path: &'static str) -> HttpRequest<String> {
        self.stage(kind, move |root| Request::get(format!("{root}/{path}")))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Makes an authority, a certificate of its for `localhost`, and one for a client.
fn certify(folder: &Path) {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name
        .push(DnType::CommonName, "batrun test");
    let ca_key = KeyPair::generate().unwrap();
    write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let ca = Issuer::new(ca, ca_key);
    for (name, hosts, purpose) in [
        (
            "server",
            vec!["localhost".to_owned()],
            ExtendedKeyUsagePurpose::ServerAuth,
        ),
        ("client", vec![], ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// What each of the servers has.
const PAGES: &str = r#"
    root www;
    client_max_body_size 64k;
    location = /who { return 200 "$server_protocol $ssl_client_s_dn"; }
    location = /gone { return 204; }
    location = /close { return 444; }
    location /up/ { client_max_body_size 0; dav_methods PUT; create_full_put_path on; }
"#;

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts nginx on these ports, or on free ones, and waits until it listens.
fn launch(folder: &Path, ports: Option<[u16; 4]>) -> (Child, [u16; 4]) {
    let Some(nginx) = std::env::var_os("BATRUN_NGINX") else {
        panic!("the path of nginx is not in BATRUN_NGINX; see .ci/nginx");
    };
    // A port is free only until somebody takes it: try others.
    for _ in 0..5 {
        let ports = ports.unwrap_or_else(|| KINDS.map(|_| free_port()));
        fs::write(folder.join("conf"), configuration(ports)).unwrap();
        fs::write(folder.join("pages"), PAGES).unwrap();
        let mut process = Command::new(&nginx)
            .arg("-p")
            .arg(folder)
            .args(["-c", "conf", "-e", "error.log"])
            .spawn()
            .unwrap();
        loop {
            if process.try_wait().unwrap().is_some() {
                break;
            }
            if TcpStream::connect(("127.0.0.1", ports[0])).is_ok() {
                return (process, ports);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    let log = fs::read_to_string(folder.join("error.log"));
    panic!("nginx does not start: {}", log.unwrap_or_default());
}

fn configuration([plain, plain2, secure, mutual]: [u16; 4]) -> String {
    format!(
        "daemon off;
        master_process off;
        pid pid;
        error_log error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            ssl_certificate server.pem;
            ssl_certificate_key server.key;
            ssl_client_certificate ca.pem;
            keepalive_requests 3;
            gzip on;
            gzip_types *;
            server {{ listen 127.0.0.1:{plain}; include pages; }}
            server {{ listen 127.0.0.1:{plain2} http2; include pages; }}
            server {{ listen 127.0.0.1:{secure} ssl http2; include pages; }}
            server {{ listen 127.0.0.1:{mutual} ssl http2; ssl_verify_client on; include pages; }}
        }}"
    )
}

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
