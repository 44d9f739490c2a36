//! A real server, with connections that stay open.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};
use batrun::Shutdown;
use batrun_monitor::{Access, Monitor};

use crate::support::{Job, monitor, shop};

/// Far longer than anything takes: only a test that hangs waits for it.
pub(crate) const HANGS: Duration = Duration::from_secs(60);

pub(crate) fn serve(
    monitor: &Monitor,
) -> (
    SocketAddr,
    ServerHandle,
    rt::task::JoinHandle<std::io::Result<()>>,
) {
    let monitor = monitor.clone();
    let server = HttpServer::new(move || App::new().service(monitor.mount("/batrun")))
        .workers(1)
        .disable_signals()
        // Longer than the test waits.
        .shutdown_timeout(600)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    (address, server.handle(), rt::spawn(server))
}

/// A reader of the stream, which says that it has a first sample, and then all that it has read.
fn reader(address: SocketAddr) -> mpsc::Receiver<String> {
    let (sender, texts) = mpsc::channel();
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let request = "GET /batrun/api/v1/stream?every=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let (mut text, mut piece, mut told) = (String::new(), [0; 4096], false);
        loop {
            let read = stream.read(&mut piece).unwrap();
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
            if !told && text.contains("event: sample") || read == 0 {
                told = true;
                sender.send(text.clone()).ok();
            }
            if read == 0 {
                return;
            }
        }
    });
    texts
}

async fn next(texts: mpsc::Receiver<String>) -> (String, mpsc::Receiver<String>) {
    let next = rt::task::spawn_blocking(move || (texts.recv_timeout(HANGS).unwrap(), texts));
    next.await.unwrap()
}

pub(crate) async fn stops(
    server: ServerHandle,
    serving: rt::task::JoinHandle<std::io::Result<()>>,
) {
    rt::time::timeout(HANGS, server.stop(true))
        .await
        .expect("the server waits for a stream");
    rt::time::timeout(HANGS, serving)
        .await
        .expect("the server goes on")
        .unwrap()
        .unwrap();
}

#[actix_web::test]
async fn a_server_stops_though_a_stream_is_open() {
    let shop = shop().await;
    let monitor = monitor(&shop);
    let (address, server, serving) = serve(&monitor);
    let (first, texts) = next(reader(address)).await;
    assert!(
        first.contains("text/event-stream") && first.contains("event: sample\ndata: {"),
        "{first}"
    );
    monitor.close();
    stops(server, serving).await;
    let (all, _) = next(texts).await;
    assert!(all.contains("event: bye"), "{all}");
}

#[actix_web::test]
async fn a_stream_ends_with_its_pipelines() {
    let shop = shop().await;
    let monitor = monitor(&shop);
    let (address, server, serving) = serve(&monitor);
    let (_, texts) = next(reader(address)).await;
    shop.submit(Job::Good)
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    shop.shutdown(Shutdown::Abort).await.unwrap();
    let (all, _) = next(texts).await;
    assert!(
        all.contains(r#""ended":true"#) && all.contains("event: bye"),
        "{all}"
    );
    stops(server, serving).await;
}

#[actix_web::test]
async fn d1_it_serves_alone_on_this_machine_only() {
    let shop = shop().await;
    let serving = monitor(&shop).serve("127.0.0.1:0").unwrap();
    let address = serving.address();
    assert_eq!(serving.to_string(), format!("http://{address}/"));
    let get = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = rt::task::spawn_blocking(get).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains(r#""ready":true"#),
        "{text}"
    );
    drop(serving);
    assert!(TcpStream::connect(address).is_err());

    let error = monitor(&shop).serve("0.0.0.0:0").unwrap_err();
    assert!(
        error.to_string().contains(".access(|request| ..)"),
        "{error}"
    );
    drop(
        monitor(&shop)
            .access(|_| Access::look())
            .serve("0.0.0.0:0")
            .unwrap(),
    );
}

/// A request by way of a socket's file.
#[cfg(unix)]
fn through(path: &std::path::Path, headers: &str) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    let request = format!("GET /api/v1/pipelines HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
#[actix_web::test]
async fn d1_a_socket_is_its_users_and_no_proxys() {
    use std::os::unix::fs::PermissionsExt;

    let shop = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let serving = monitor(&shop).serve_unix(&path).unwrap();
    assert_eq!(serving.path(), path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Nothing is left of its making.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let cases = [
        ("Host: localhost\r\n", "200"),
        ("Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n", "403"),
        ("Host: localhost\r\nForwarded: for=127.0.0.1\r\n", "403"),
        ("Host: evil.example\r\n", "403"),
    ];
    for (headers, status) in cases {
        let path = path.clone();
        let ask = rt::task::spawn_blocking(move || through(&path, headers).unwrap());
        let text = ask.await.unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers}: {text}"
        );
    }
    // It is in use, and stays what it is.
    let error = monitor(&shop).serve_unix(&path).unwrap_err();
    assert!(error.to_string().contains("somebody listens"), "{error}");
    drop(serving);
    assert!(!path.exists());

    // One that was left behind is replaced; anything else is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let serving = monitor(&shop).serve_unix(&path).unwrap();
    // Another one's file isn't removed with it.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    drop(serving);
    let error = monitor(&shop).serve_unix(&path).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
