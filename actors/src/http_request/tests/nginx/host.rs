//! An nginx of a test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::*;

/// An nginx with a folder of its own, an authority of its own, and four servers that have the same
/// pages. The process ends with it.
pub(super) struct Nginx {
    folder: tempfile::TempDir,
    process: Child,
    pub(super) ports: [u16; 4],
}

/// The difference between the servers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Plain,
    /// HTTP/2 without TLS.
    Plain2,
    /// TLS, with HTTP/2 on offer.
    Secure,
    /// The same, for clients with a certificate of the authority.
    Mutual,
}

pub(super) use Kind::{Mutual, Plain, Plain2, Secure};

pub(super) const KINDS: [Kind; 4] = [Plain, Plain2, Secure, Mutual];

impl Nginx {
    pub(super) fn start() -> Self {
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

    pub(super) fn restart(&mut self) {
        self.stop();
        (self.process, _) = launch(self.folder.path(), Some(self.ports));
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn root(&self, kind: Kind) -> String {
        let port = self.ports[kind as usize];
        match kind {
            Plain | Plain2 => format!("http://localhost:{port}"),
            Secure | Mutual => format!("https://localhost:{port}"),
        }
    }

    pub(super) fn trusting(&self) -> Tls {
        let tls = Tls::only_added_roots();
        tls.add_root_file(self.path("ca.pem")).unwrap()
    }

    pub(super) fn known(&self) -> Tls {
        let tls = self.trusting();
        tls.identity_files(self.path("client.pem"), self.path("client.key"))
            .unwrap()
    }

    /// Sends such a request to that server, and takes it back with a `DELETE` of `/gone`.
    pub(super) fn stage(
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

    pub(super) fn get(&self, kind: Kind, path: &'static str) -> HttpRequest<String> {
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

/// The pages of each server.
const PAGES: &str = r#"
    root www;
    client_max_body_size 64k;
    location = /who { return 200 "$server_protocol $ssl_client_s_dn"; }
    location = /gone { return 204; }
    location = /close { return 444; }
    location = /slow { alias www/text; limit_rate 1; }
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
