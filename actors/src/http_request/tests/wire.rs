//! Answers that a server may legally send, and things that nginx never does.

use std::{
    io::{Read, Write},
    net::{Shutdown as Half, SocketAddr},
};

use super::{
    server::{head, raw},
    *,
};

/// Longer than what fits between the two ends of a connection.
const LARGE: usize = 8 << 20;

fn text(server: &'static str) -> Server {
    Server::start(move |_| Answer::Text(server.to_owned()))
}

pub(super) fn body(stage: HttpRequest<String>) -> String {
    let (outcome, _) = done(stage.then(|_, response| Ok(response.into_body())));
    let body = outcome.output.unwrap_or_else(|| panic!("{}", outcome.end));
    String::from_utf8(body).unwrap()
}

#[test]
fn f13_a_body_that_ends_by_close_is_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n",
    ] {
        let server = Server::start(move |_| Answer::Cut(format!("{head}{{\"id\":7}}")));
        assert_eq!(body(get(&server)), r#"{"id":7}"#, "{head}");
    }
}

#[test]
fn f14_interim_answers_are_skipped() {
    let server = text(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n\
         HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
    );
    let stage = post(&server).then(|_, response| Ok((response.status(), response.into_body())));
    let (outcome, _) = done(stage);
    assert_eq!(outcome.output, Some((201, b"ok".to_vec())), "{outcome}");
    assert_eq!(server.methods(), ["POST"]);
}

#[test]
fn f15_a_204_or_304_has_no_body_whatever_its_length_says() {
    let server = text("HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n");
    let (outcome, _) = done(get(&server).limit(PATIENCE * 10));
    assert!(outcome.is_done(), "{outcome}");

    let server = text("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n");
    let (outcome, _) = done(get(&server).limit(PATIENCE * 10));
    let failure = failure(&outcome);
    assert!(failure.to_string().ends_with("status 304"), "{failure}");
    assert!(!failure.is_retryable(), "{failure}");
}

#[test]
fn f16_a_url_without_a_path_asks_for_the_root() {
    for (tail, target) in [("?a=1", "/?a=1"), ("", "/"), ("#part", "/")] {
        let server = status(200);
        let url = format!("{}{tail}", server.root());
        let stage = HttpRequest::new(move |_: &String| Request::get(url.clone()));
        assert!(done(stage).0.is_done());
        assert_eq!(server.seen()[0].target, target);
    }
}

#[derive(Clone, Copy, Debug)]
enum After {
    /// Closes with what came unread, which resets the connection.
    Closes,
    /// Closes its half, and reads nothing.
    ClosesHalf,
    /// Neither reads nor closes.
    Stays,
    /// Reads on, as nginx does.
    Reads,
}

/// A server that answers when it has read a request's headers. If it doesn't read on by itself, it
/// does once the first channel tells it to; the second tells at the end of each connection how many
/// bytes came after the answer.
fn early(status: u16, after: After) -> (SocketAddr, mpsc::Sender<()>, mpsc::Receiver<usize>) {
    let (go, goes) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    let (goes, end) = (Mutex::new(goes), Mutex::new(end));
    let address = raw(move |mut stream| {
        head(&mut stream);
        let close = match after {
            After::Stays => "",
            _ => "Connection: close\r\n",
        };
        let answer = format!("HTTP/1.1 {status} X\r\n{close}Content-Length: 4\r\n\r\nbyes");
        stream.write_all(answer.as_bytes()).unwrap();
        if let After::ClosesHalf = after {
            stream.shutdown(Half::Write).unwrap();
        }
        if let After::ClosesHalf | After::Stays = after {
            goes.lock().unwrap().recv().unwrap();
        }
        let mut rest = 0;
        if !matches!(after, After::Closes) {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut piece) {
                rest += read;
            }
        }
        drop(stream);
        end.lock().unwrap().send(rest).ok();
    });
    (address, go, ends)
}

/// Returns what the channel gives, while the thread's other futures go on.
async fn within<T>(channel: &mpsc::Receiver<T>) -> T {
    let received = async {
        loop {
            match channel.try_recv() {
                Ok(value) => return value,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, received).await.unwrap()
}

fn refused_early(status: u16, after: After, request: impl Fn(String) -> Request) {
    let (address, go, ends) = early(status, after);
    let request = request(format!("http://{address}/7"));
    let stage = HttpRequest::new(move |_: &String| request.clone())
        .cancel_with(|_| Request::delete("http://127.0.0.1:9/"))
        .untouched([status]);
    // While the stage lives, so it isn't its end that closes the connection.
    let closed = async || {
        go.send(()).ok();
        let rest = within(&ends).await;
        let waited = matches!(after, After::ClosesHalf | After::Stays);
        assert!(
            !waited || rest < LARGE,
            "{after:?}: the whole body was sent"
        );
    };
    let (outcome, report) = run_and(stage, PATIENCE, false, closed);
    let failure = failure(&outcome);
    let expected = format!("POST http://{address}/7: the server answered with status {status}");
    assert_eq!(failure.to_string(), expected, "{after:?}");
    assert_eq!(report.stages[0].counts.cancelled, 0, "{after:?}");
}

#[test]
fn f17_an_answer_before_the_body_was_read_counts() {
    for status in [403, 413] {
        // Another order of events each time.
        for _ in 0..20 {
            refused_early(status, After::Closes, |url| {
                Request::post(url).body(vec![7; LARGE])
            });
        }
        for after in [After::ClosesHalf, After::Stays, After::Reads] {
            refused_early(status, after, |url| Request::post(url).body(vec![7; LARGE]));
        }
    }
}

#[test]
fn f17_it_counts_for_a_body_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(LARGE as u64 * 8).unwrap();
    for after in [After::Closes, After::ClosesHalf, After::Stays, After::Reads] {
        refused_early(413, after, |url| {
            Request::post(url).body_from_file(file.path())
        });
    }
}

#[test]
fn a_success_before_the_body_was_read_has_the_rest_sent() {
    let (whole, wholes) = mpsc::channel();
    let whole = Mutex::new(whole);
    let address = raw(move |mut stream| {
        head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut left = LARGE;
        let mut piece = [0; 4096];
        while left > 0 {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(read) => left -= read,
            }
        }
        whole.lock().unwrap().send(left).ok();
    });
    let stage = HttpRequest::new(move |_: &String| {
        Request::post(format!("http://{address}/")).body(vec![7; LARGE])
    });
    let arrived = async || assert_eq!(within(&wholes).await, 0);
    let (outcome, _) = run_and(stage, PATIENCE, false, arrived);
    assert!(outcome.is_done(), "{outcome}");
}

#[test]
fn an_answer_of_no_bytes_says_so_and_is_taken_back() {
    let server = Server::start(|seen: &Seen| match &*seen.method {
        "DELETE" => answer(204, ""),
        _ => Answer::Cut(String::new()),
    });
    let (outcome, _) = done(post(&server));
    let failure = failure(&outcome);
    let expected = format!(
        "POST {}/7: the server closed the connection before its answer was complete",
        server.root()
    );
    assert_eq!(failure.to_string(), expected);
    assert!(failure.is_retryable());
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}

#[test]
fn a_body_in_chunks_that_is_cut_off_is_a_failure() {
    for chunks in ["5\r\nhello\r\n", "5\r\nhel", "5\r\nhello\r\n0\r\n", ""] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let server = Server::start(move |seen: &Seen| match &*seen.method {
            "DELETE" => answer(204, ""),
            _ => Answer::Cut(format!("{head}{chunks}")),
        });
        let (outcome, _) = done(post(&server));
        assert!(failure(&outcome).is_retryable(), "{chunks:?}: {outcome}");
        assert_eq!(server.methods(), ["POST", "DELETE"], "{chunks:?}");
    }
}

#[test]
fn what_is_not_http_is_a_failure_and_taken_back() {
    for text in ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n"] {
        let server = Server::start(move |seen: &Seen| match &*seen.method {
            "DELETE" => answer(204, ""),
            _ => Answer::Cut(text.to_owned()),
        });
        let (outcome, _) = done(post(&server));
        let failure = failure(&outcome);
        assert!(failure.to_string().contains("not HTTP"), "{failure}");
        assert_eq!(server.methods(), ["POST", "DELETE"]);
    }
}

#[test]
fn the_status_of_a_refusal_counts_even_if_its_body_is_bad() {
    for rest in [
        "Content-Length: 10\r\n\r\nhello",
        "Content-Length: 2000\r\n\r\n",
    ] {
        let text = format!("HTTP/1.1 409 Conflict\r\n{rest}{}", "x".repeat(1500));
        let server = Server::start(move |_| Answer::Cut(text.clone()));
        let (outcome, report) = done(post(&server).largest(1000).untouched([409]));
        let failure = failure(&outcome);
        assert!(failure.to_string().ends_with("status 409"), "{failure}");
        assert_eq!(report.stages[0].counts.cancelled, 0);
    }
}

/// hyper sends a request again on a new connection if the old one turns out to be closed before the
/// first byte was written. After that it must not.
#[test]
fn a_request_that_was_written_is_not_sent_again() {
    let count = Mutex::new(0);
    let server = Server::start(move |_| {
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        match *count {
            2 => Answer::Cut(String::new()),
            _ => answer(200, ""),
        }
    });
    let root = server.root();
    let stage = HttpRequest::new(move |id: &String| Request::post(format!("{root}/{id}")));
    actix_rt::System::new().block_on(async {
        let pipeline = Pipeline::new("web").stage(stage).start().await.unwrap();
        let mut ends = Vec::new();
        for id in ["1", "2", "3"] {
            let ticket = pipeline.submit(id.to_owned()).await.unwrap();
            ends.push(ticket.outcome().await.unwrap().is_done());
        }
        assert_eq!(ends, [true, false, true]);
        pipeline.shutdown(Shutdown::Abort).await.unwrap();
    });
    let targets = server.seen().into_iter().map(|seen| seen.target);
    assert_eq!(targets.collect::<Vec<_>>(), ["/1", "/2", "/3"]);
}

#[test]
fn an_answer_may_have_many_headers_and_large_ones() {
    for (count, size, fits) in [
        (90, 10, true),
        (1, 380 << 10, true),
        (101, 10, false),
        (1, 2 << 20, false),
    ] {
        let header = format!("X-A: {}\r\n", "x".repeat(size)).repeat(count);
        let text = format!("HTTP/1.1 200 OK\r\n{header}\r\n");
        let server = Server::start(move |_| Answer::Cut(text.clone()));
        let (outcome, _) = done(get(&server));
        assert_eq!(outcome.is_done(), fits, "{count} of {size}: {outcome}");
    }
}

/// Nothing was sent, so nothing is taken back.
#[test]
fn a_server_that_does_not_shake_hands_is_left() {
    let (hold, held) = mpsc::channel();
    let hold = Mutex::new(hold);
    let address = raw(move |stream| hold.lock().unwrap().send(stream).unwrap());
    let stage = HttpRequest::new(move |_: &String| Request::post(format!("https://{address}/")))
        .cancel_with(|_| Request::delete("http://127.0.0.1:9/"));
    let (outcome, report) = done(stage);
    let failure = failure(&outcome);
    assert!(
        failure.to_string().contains("no connection within 5s"),
        "{failure}"
    );
    assert!(failure.is_retryable());
    assert_eq!(report.stages[0].counts.cancelled, 0);
    drop(held);
}
