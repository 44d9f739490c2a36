//! More readers than there are streams, some of which don't read.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use actix_web::rt;

use crate::{
    server::{HANGS, serve, stops},
    support::{Job, get, monitor, shop},
};

const READERS: usize = 1_000;
const STREAMS: usize = 32;
/// Every second one of them reads no more after its first sample.
const SLOW: usize = STREAMS / 2;

/// Asks for a stream.
fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let request = "GET /batrun/api/v1/stream?every=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads until this is there, and returns all of it.
fn read_until(stream: &mut TcpStream, there: &str) -> String {
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    while !text.contains(there) {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "no {there:?} in {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    text
}

/// The readers that have a stream, with their first sample. All others are told to poll.
fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    // All of them are connected before the first one is looked at.
    let all: Vec<TcpStream> = (0..READERS).map(|_| ask(address)).collect();
    let mut inside = Vec::new();
    for mut reader in all {
        let head = read_until(&mut reader, "\r\n\r\n");
        if head.starts_with("HTTP/1.1 200") {
            if !head.contains("event: sample") {
                read_until(&mut reader, "event: sample");
            }
            inside.push(reader);
        } else {
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            if !head.contains("now and then") {
                read_until(&mut reader, "now and then");
            }
        }
    }
    inside
}

#[actix_web::test]
async fn d2_a_thousand_readers_get_32_streams_and_the_pipeline_goes_on() {
    let shop = shop().await;
    let monitor = monitor(&shop);
    let (address, server, serving) = serve(&monitor);
    let mut readers = rt::task::spawn_blocking(move || crowd(address))
        .await
        .unwrap();
    assert_eq!(readers.len(), STREAMS);
    for _ in 0..100 {
        let ticket = shop.submit(Job::Good).await.unwrap();
        assert!(ticket.outcome().await.unwrap().is_done());
    }
    // Those who read see it, whatever the others do.
    let reading = readers.split_off(SLOW);
    let seen = rt::task::spawn_blocking(move || {
        let mut reading = reading;
        for reader in &mut reading {
            read_until(reader, r#""done":"100""#);
        }
        reading
    });
    let reading = seen.await.unwrap();
    // The API answers beside them, and there is room again once they have gone.
    let text = crate::support::ask(monitor.mount("/batrun"), get("metrics"))
        .await
        .text;
    assert!(text.contains("\nbatrun_monitor_streams 32\n"), "{text}");
    drop((readers, reading));
    let again = rt::task::spawn_blocking(move || {
        loop {
            let head = read_until(&mut ask(address), "\r\n\r\n");
            if head.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    });
    again.await.unwrap();
    monitor.close();
    stops(server, serving).await;
}
