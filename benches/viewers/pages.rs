//! Pages that are open, as a server sees them: each reads its stream. One thread reads them all, as browsers elsewhere
//! would take nothing from this machine.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net,
};

use crate::HANGS;

/// The name of the thread that reads them.
pub(crate) const THREAD: &str = "readers";

fn request(path: &str) -> String {
    format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Opens a stream, says so once something has come, and reads it to its end. Returns the number of samples.
async fn read(address: SocketAddr, opened: Sender<()>) -> usize {
    let mut opened = Some(opened);
    let mut stream = net::TcpStream::connect(address).await.unwrap();
    let request = request("api/v1/stream?every=1");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut piece, mut samples) = (vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return samples,
            Ok(read) => {
                if let Some(opened) = opened.take() {
                    opened.send(()).ok();
                }
                // A sample that comes in pieces ends once.
                samples += usize::from(piece[..read].ends_with(b"\n\n\r\n"));
            }
        }
    }
}

/// The whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream.write_all(request(path).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// So many pages, until the monitor closes their streams: the samples that each got. Returns once all of them have
/// something to show.
pub(crate) fn open(address: SocketAddr, count: usize) -> JoinHandle<Vec<usize>> {
    let (opened, all) = mpsc::channel();
    let readers = thread::Builder::new().name(THREAD.to_owned());
    let pages = readers.spawn(move || {
        let runtime = actix_rt::Runtime::new().unwrap();
        let pages = (0..count).map(|_| read(address, opened.clone()));
        runtime.block_on(futures::future::join_all(pages))
    });
    all.iter().take(count).for_each(drop);
    pages.unwrap()
}
