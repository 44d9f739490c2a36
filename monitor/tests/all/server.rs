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
const HANGS: Duration = Duration::from_secs(60);

fn serve(
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

async fn stops(server: ServerHandle, serving: rt::task::JoinHandle<std::io::Result<()>>) {
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
async fn it_serves_alone_on_this_machine_only() {
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
