//! A server on the loopback that records requests and answers as the test says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) enum Answer {
    /// This, and then the connection is kept.
    Text(String),
    /// The same, of any bytes.
    Bytes(Vec<u8>),
    /// This, and then the connection is closed.
    Cut(String),
    Silence,
}

pub(super) fn answer(status: u16, body: &str) -> Answer {
    Answer::Text(match status {
        204 => "HTTP/1.1 204 X\r\n\r\n".to_owned(),
        _ => {
            let length = body.len();
            // A client that follows redirects would send a second request.
            format!("HTTP/1.1 {status} X\r\nLocation: /\r\nContent-Length: {length}\r\n\r\n{body}")
        }
    })
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// `None` at the end of the connection.
    fn read(from: &mut impl BufRead) -> Option<Seen> {
        let mut seen = Seen::default();
        let line = read_line(from)?;
        let mut words = line.split(' ').map(str::to_owned);
        (seen.method, seen.target) = (words.next()?, words.next()?);
        loop {
            let line = read_line(from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            let header = (name.to_ascii_lowercase(), value.trim().to_owned());
            seen.headers.push(header);
        }
        let length = seen
            .header("content-length")
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        seen.body = String::from_utf8(body).unwrap();
        Some(seen)
    }
}

fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = from.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: mpsc::Receiver<()>,
}

impl Server {
    /// Its threads end with the test's process.
    pub(super) fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (close, closed) = mpsc::channel();
        let answer = Arc::new(answer);
        let notes = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, notes, close) = (answer.clone(), notes.clone(), close.clone());
                thread::spawn(move || {
                    serve(&stream.unwrap(), &*answer, &notes);
                    close.send(()).ok();
                });
            }
        });
        Server {
            address,
            seen,
            closed,
        }
    }

    pub(super) fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.method).collect()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let seen = self.seen();
        let keys = seen
            .iter()
            .filter_map(|seen| seen.header("idempotency-key"));
        keys.map(str::to_owned).collect()
    }

    /// Waits until a client has closed a connection, and lets the thread's other futures run.
    pub(super) async fn closes(&self) {
        let closed = async {
            while self.closed.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.unwrap();
    }
}

/// Returns when either side has closed the connection.
fn serve(mut stream: &TcpStream, answer: &dyn Fn(&Seen) -> Answer, notes: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = Seen::read(&mut reader) {
        let mut list = notes.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(seen.clone());
        drop(list);
        match answer(&seen) {
            Answer::Text(text) => {
                if stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
            Answer::Bytes(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Answer::Cut(text) => {
                stream.write_all(text.as_bytes()).ok();
                return;
            }
            Answer::Silence => {}
        }
    }
}

/// A server that does this with each connection. Its threads end with the test's process.
pub(super) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads a request up to the end of its headers, and not a byte more.
pub(super) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
