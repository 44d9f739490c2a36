//! Pages that are open, as a server sees them: each reads its stream.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use crate::HANGS;

/// Opens a stream, says so once something has come, and reads it to its end. Returns the number of samples.
fn read(address: SocketAddr, opened: Sender<()>) -> usize {
    let mut opened = Some(opened);
    let mut stream = ask(address, "api/v1/stream?every=1");
    let (mut piece, mut samples) = ([0; 16 * 1024], 0);
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return samples,
            Ok(read) => {
                if let Some(opened) = opened.take() {
                    opened.send(()).ok();
                }
                samples += piece[..read]
                    .windows(14)
                    .filter(|text| text == b"event: sample\n")
                    .count();
            }
        }
    }
}

fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut text = String::new();
    ask(address, path).read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// So many pages, until the monitor closes their streams. Returns once all of them have something to show.
pub(crate) fn open(address: SocketAddr, count: usize) -> Vec<JoinHandle<usize>> {
    let (opened, all) = mpsc::channel();
    let page = |_| {
        let opened = opened.clone();
        thread::spawn(move || read(address, opened))
    };
    let pages = (0..count).map(page).collect();
    all.iter().take(count).for_each(drop);
    pages
}
