//! Tests against a server of a few lines that records its requests.

mod server;
mod choices;
mod data;
mod key_until_known;
mod nginx;
mod reset;
mod wire;

use std::{
    net::TcpListener,
    sync::{Mutex, PoisonError, mpsc},
    time::Instant,
};

use batrun::{prelude::*, report::Report};

use self::server::{Answer, PATIENCE, Seen, Server, answer};
use super::*;

type End<O> = (Outcome<O>, Report);

/// Runs one task through the stage and through one that fails if `fail` says so.
fn run<W, O>(stage: W, limit: Duration, fail: bool) -> End<O>
where
    W: IntoWork,
    W::Stage: Stage<Input = String, Output = O>,
    O: Send + 'static,
{
    run_and(stage, limit, fail, async || ())
}

/// Like [`run`], and calls `after` between the end of the task and that of the pipeline.
fn run_and<W, O>(stage: W, limit: Duration, fail: bool, after: impl AsyncFnOnce()) -> End<O>
where
    W: IntoWork,
    W::Stage: Stage<Input = String, Output = O>,
    O: Send + 'static,
{
    let then = stage_fn("then", async move |context: O, _: &TaskContext<'_, ()>| {
        if fail {
            return Err(Failure::permanent("no"));
        }
        Ok(context)
    });
    actix_rt::System::new().block_on(async {
        let pipeline = Pipeline::new("web").stage(stage).stage(then);
        let pipeline = pipeline.start().await.unwrap();
        let ticket = pipeline.submit("7".to_owned()).timeout(limit).await;
        let ticket = ticket.unwrap();
        let outcome = tokio::time::timeout(PATIENCE + limit, ticket.outcome()).await;
        let outcome = outcome.unwrap().unwrap();
        after().await;
        let report = pipeline.shutdown(Shutdown::Drain(PATIENCE)).await.unwrap();
        (outcome, report)
    })
}

/// Like [`done`], and expects that the connection is closed while the stage lives on.
fn done_and_closed(stage: HttpRequest<String>, server: &Server) -> Outcome<String> {
    run_and(stage, PATIENCE, false, async || server.closes().await).0
}

/// Runs a task with as much time as it could need.
fn done<W, O>(stage: W) -> End<O>
where
    W: IntoWork,
    W::Stage: Stage<Input = String, Output = O>,
    O: Send + 'static,
{
    run(stage, PATIENCE, false)
}

fn get(server: &Server) -> HttpRequest<String> {
    let root = server.root();
    HttpRequest::new(move |id| Request::get(format!("{root}/{id}")))
}

/// A `POST` that a `DELETE` takes back.
fn post(server: &Server) -> HttpRequest<String> {
    let root = server.root();
    let back = server.root();
    HttpRequest::new(move |id| Request::post(format!("{root}/{id}")).body("tea"))
        .cancel_with(move |id| Request::delete(format!("{back}/{id}")))
}

/// A server that answers a `DELETE` with 204, and any other request with this status.
fn status(status: u16) -> Server {
    Server::start(move |seen: &Seen| match &*seen.method {
        "DELETE" => answer(204, ""),
        _ => answer(status, ""),
    })
}

fn failure<O>(outcome: &Outcome<O>) -> &Failure {
    match &outcome.end {
        batrun::state::End::Failed { failure, .. } => failure,
        other => panic!("{other}"),
    }
}

#[test]
fn a_request_is_sent_and_the_context_goes_on() {
    let server = Server::start(|_| answer(200, "hello"));
    let root = server.root();
    let stage = HttpRequest::new(move |id: &String| {
        Request::post(format!("{root}/{id}?q=1"))
            .header("X-Test", "yes")
            .body("tea")
    });
    let (outcome, _) = done(stage);
    assert_eq!(outcome.output.as_deref(), Some("7"), "{outcome}");
    let [seen] = &server.seen()[..] else {
        panic!("{:?}", server.seen());
    };
    assert_eq!((&*seen.method, &*seen.target), ("POST", "/7?q=1"));
    assert_eq!(seen.header("x-test"), Some("yes"));
    assert_eq!(seen.header("idempotency-key"), Some("web/1/HttpRequest/0"));
    assert_eq!(seen.body, "tea");
}

#[test]
fn the_response_makes_the_next_context() {
    let server = Server::start(|_| answer(201, "hello"));
    let stage = get(&server).then(|id, response| {
        let length = response.header("content-length").map(str::to_owned);
        let body = String::from_utf8(response.body().to_vec())?;
        Ok((id, response.status(), length, body))
    });
    let (outcome, _) = done(stage);
    let expected = (
        "7".to_owned(),
        201,
        Some("5".to_owned()),
        "hello".to_owned(),
    );
    assert_eq!(outcome.output, Some(expected));
}

#[test]
fn a_head_has_no_body_and_a_post_without_one_says_so() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let server = Server::start(move |_| Answer::Text(head.to_owned()));
    let root = server.root();
    let stage = HttpRequest::new(move |_: &String| Request::new("HEAD", root.clone()));
    let (outcome, _) = done(stage.then(|_, response| Ok(response.into_body())));
    assert_eq!(outcome.output, Some(Vec::new()), "{outcome}");

    let server = status(200);
    let root = server.root();
    done(HttpRequest::new(move |_: &String| {
        Request::post(root.clone())
    }));
    assert_eq!(server.seen()[0].header("content-length"), Some("0"));
}

#[test]
fn statuses_are_success_or_worth_another_attempt_or_not() {
    for (code, retryable) in [
        (200, None),
        (204, None),
        (302, Some(false)),
        (404, Some(false)),
        (408, Some(true)),
        (425, Some(true)),
        (429, Some(true)),
        (500, Some(true)),
        (501, Some(false)),
        (502, Some(true)),
        (503, Some(true)),
        (504, Some(true)),
    ] {
        let server = status(code);
        let (outcome, _) = done(get(&server));
        let got = match &outcome.end {
            batrun::state::End::Done => None,
            _ => Some(failure(&outcome).is_retryable()),
        };
        assert_eq!(got, retryable, "{code}: {outcome}");
        assert_eq!(server.methods(), ["GET"], "{code}");
    }
}

#[test]
fn a_program_can_say_what_is_worth_another_attempt() {
    let (outcome, _) = done(get(&status(404)).retryable(|status| status == 404));
    assert!(failure(&outcome).is_retryable(), "{outcome}");
    let (outcome, _) = done(get(&status(503)).retryable(|status| status == 404));
    assert!(!failure(&outcome).is_retryable(), "{outcome}");
}

#[test]
fn attempts_share_a_key_where_nothing_was_taken_back() {
    let count = Mutex::new(0);
    let server = Server::start(move |_| {
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        answer(if *count == 1 { 503 } else { 200 }, "")
    });
    let retry = Retry::constant(1, Duration::from_millis(1));
    let (outcome, _) = done(get(&server).key_prefix("run é ").retry(retry));
    assert!(outcome.is_done(), "{outcome}");
    let key = "run%20%C3%A9%20web/1/HttpRequest/0";
    assert_eq!(server.keys(), [key, key]);
}

#[test]
fn a_later_failure_sends_the_cancel_again_until_it_succeeds() {
    let count = Mutex::new(0);
    let server = Server::start(move |seen: &Seen| {
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += u32::from(seen.method == "DELETE");
        answer(if *count == 1 { 503 } else { 200 }, "")
    });
    let retry = Retry::constant(1, Duration::from_millis(1));
    let (outcome, report) = run(post(&server).cancel_retry(retry), PATIENCE, true);
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(report.stages[0].counts.cancel_failures, 1);
    let key = "web/1/HttpRequest/0";
    let cancel = "web/1/HttpRequest/0/cancel";
    assert_eq!(server.methods(), ["POST", "DELETE", "DELETE"]);
    assert_eq!(server.keys(), [key, cancel, cancel]);
}

#[test]
fn what_is_gone_is_taken_back_and_what_is_refused_is_stuck() {
    let refuse = |code| {
        Server::start(move |seen: &Seen| match &*seen.method {
            "DELETE" => answer(code, ""),
            _ => answer(200, ""),
        })
    };
    let complete = Rollback::Complete { undos: 1 };
    for code in [404, 410] {
        let (outcome, _) = run(post(&refuse(code)), PATIENCE, true);
        assert_eq!(outcome.rollback, complete, "{code}");
    }
    let (outcome, _) = run(post(&refuse(403)).gone([403]), PATIENCE, true);
    assert_eq!(outcome.rollback, complete);
    let server = refuse(403);
    let (outcome, _) = run(post(&server), PATIENCE, true);
    let Rollback::Stuck(stuck) = &outcome.rollback else {
        panic!("{outcome}");
    };
    assert_eq!(stuck.undos[0].undo, format!("DELETE {}/7", server.root()));
}

#[test]
fn an_error_status_is_taken_back_unless_the_server_is_known_not_to_have_acted() {
    let server = status(409);
    let (outcome, _) = done(post(&server));
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(server.methods(), ["POST", "DELETE"]);

    let server = status(409);
    let (outcome, report) = done(post(&server).untouched([409]));
    assert!(!failure(&outcome).is_retryable(), "{outcome}");
    assert_eq!(report.stages[0].counts.cancelled, 0);
    assert_eq!(server.methods(), ["POST"]);
}

#[test]
fn a_request_that_never_left_is_not_taken_back() {
    let server = status(200);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = nobody.local_addr().unwrap();
    drop(nobody);
    for (request, retryable) in [
        (Request::post(format!("http://{refused}/")), true),
        (Request::post(format!("https://{refused}/")), true),
        (Request::new("CONNECT", server.root()), false),
        (
            Request::post(server.root()).header("Transfer-Encoding", "chunked"),
            false,
        ),
        (
            Request::post(server.root()).header("Content-Length", "1"),
            false,
        ),
        (Request::post("http://"), false),
        (Request::post("/7"), false),
        (Request::post("ftp://localhost/"), false),
        (Request::new("NO SUCH", server.root()), false),
        (Request::post(server.root()).header("a b", "c"), false),
        (Request::post(server.root()).header("a", "b\r\nc: d"), false),
    ] {
        let back = server.root();
        let text = format!("{request:?}");
        let stage = HttpRequest::new(move |_: &String| request.clone())
            .cancel_with(move |_| Request::delete(back.clone()));
        let (outcome, report) = done(stage);
        assert_eq!(
            failure(&outcome).is_retryable(),
            retryable,
            "{text}: {outcome}"
        );
        assert_eq!(report.stages[0].counts.cancelled, 0, "{text}");
    }
    assert!(server.methods().is_empty(), "{:?}", server.methods());
}

#[test]
fn a_body_may_be_as_large_as_the_limit_says() {
    let body = "x".repeat(1000);
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{body}\r\n0\r\n\r\n");
    for text in [answer(200, &body), Answer::Text(chunked)] {
        let reply = text.clone();
        let server = Server::start(move |_| reply.clone());
        let (outcome, _) = done(get(&server).largest(1000));
        assert!(outcome.is_done(), "{outcome}");

        let server = Server::start(move |_| text.clone());
        let outcome = done_and_closed(get(&server).largest(999), &server);
        assert!(!failure(&outcome).is_retryable(), "{outcome}");
    }
}

#[test]
fn an_answer_that_ends_early_is_a_failure_and_taken_back() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nConte",
        "",
    ] {
        let server = Server::start(move |seen: &Seen| match &*seen.method {
            "DELETE" => answer(204, ""),
            _ => Answer::Cut(text.to_owned()),
        });
        let (outcome, _) = done(post(&server));
        assert!(failure(&outcome).is_retryable(), "{text}: {outcome}");
        assert_eq!(server.methods(), ["POST", "DELETE"], "{text}");
    }
}

#[test]
fn a_server_that_never_answers_is_left_at_the_limit_and_the_request_taken_back() {
    let server = Server::start(|seen: &Seen| match &*seen.method {
        "DELETE" => answer(404, ""),
        _ => Answer::Silence,
    });
    let stage = post(&server).limit(Duration::from_millis(300));
    let outcome = done_and_closed(stage, &server);
    assert!(failure(&outcome).is_retryable(), "{outcome}");
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}

#[test]
fn the_limit_counts_the_body_in() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let server = Server::start(move |_| Answer::Text(head.to_owned()));
    let stage = get(&server).limit(Duration::from_millis(300));
    let outcome = done_and_closed(stage, &server);
    assert!(failure(&outcome).is_retryable(), "{outcome}");
}

#[test]
fn a_deadline_drops_a_get_and_closes_its_connection() {
    let server = Server::start(|_| Answer::Silence);
    // The limit is longer than the test waits, so that only the deadline can end the request.
    let stage = get(&server).limit(PATIENCE * 10);
    let closed = async || server.closes().await;
    let (outcome, _) = run_and(stage, Duration::from_secs(1), false, closed);
    assert!(
        matches!(outcome.end, batrun::state::End::TimedOut { .. }),
        "{outcome}"
    );
    assert_eq!(server.methods(), ["GET"]);
}

#[test]
fn a_deadline_waits_for_a_request_that_has_a_cancel_and_then_sends_the_cancel() {
    let limit = Duration::from_secs(1);
    let (answered, answers) = mpsc::channel();
    let answered = Mutex::new(answered);
    let until = Instant::now() + limit * 2;
    let server = Server::start(move |seen: &Seen| {
        if seen.method == "POST" {
            // The task's deadline is well past by then.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        let answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.send(seen.method.clone()).ok();
        drop(answered);
        answer(200, "")
    });
    let (outcome, report) = run(post(&server), limit, false);
    assert!(
        matches!(outcome.end, batrun::state::End::TimedOut { .. }),
        "{outcome}"
    );
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(report.stages[0].counts.cancelled, 1);
    // Without the wait, the DELETE would have been answered first.
    assert_eq!(answers.try_iter().collect::<Vec<_>>(), ["POST", "DELETE"]);
}

#[test]
fn no_connection_is_left_when_the_pipeline_has_ended() {
    let server = status(200);
    let (outcome, _) = done(get(&server));
    assert!(outcome.is_done(), "{outcome}");
    actix_rt::System::new().block_on(server.closes());
}

#[test]
fn debug_shows_no_contents() {
    let request = Request::post("http://me:secret@host:81/path?token=secret#secret")
        .header("Authorization", "secret")
        .body("secret");
    assert_eq!(format!("{request:?}"), "POST http://host:81/path");
    let request = Request::get("me:secret@host/path?token=secret");
    assert_eq!(format!("{request:?}"), "GET (not an absolute URL)");
    let response = Response {
        status: 200,
        headers: vec![("Set-Cookie".to_owned(), b"secret".to_vec())],
        body: b"secret".to_vec(),
    };
    assert_eq!(format!("{response:?}"), "200 (6 bytes)");
}
