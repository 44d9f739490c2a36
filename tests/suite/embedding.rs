//! Inside an actix-web application: requests submit and get outcomes, and the application's System
//! goes on when the pipeline has ended.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use batrun::prelude::*;

use crate::support::{live, ms};

type Doubler = PipelineHandle<u32, u32>;

async fn double(numbers: web::Data<Doubler>, number: web::Path<u32>) -> HttpResponse {
    let ticket = match numbers.submit(*number).timeout(ms(4_000)).now() {
        Ok(ticket) => ticket,
        Err(TrySubmitError::Full(_)) => return HttpResponse::TooManyRequests().finish(),
        Err(_) => return HttpResponse::ServiceUnavailable().finish(),
    };
    match ticket.outcome().await {
        Ok(Outcome {
            output: Some(double),
            ..
        }) => HttpResponse::Created().body(double.to_string()),
        Ok(outcome) => HttpResponse::UnprocessableEntity().body(outcome.to_string()),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// The status line and the body.
fn get(at: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[actix_web::main]
async fn serve() -> Report {
    let stage = stage_fn("double", async |number: u32, _: &TaskContext<'_, ()>| {
        number
            .checked_mul(2)
            .ok_or_else(|| Failure::permanent("too large"))
    });
    let handle: Doubler = Pipeline::new("numbers")
        .stage(stage.workers(2))
        .start()
        .await
        .unwrap();
    let data = web::Data::new(handle.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/{number}", web::get().to(double))
    })
    .workers(2)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let at = server.addrs()[0];
    let server = server.run();
    let serving = server.handle();
    let running = actix_web::rt::spawn(server);
    let (asked, answers) = tokio::sync::oneshot::channel();
    let asking = thread::spawn(move || {
        let side_by_side: Vec<_> = (0..4)
            .map(|n| thread::spawn(move || get(at, &format!("/{n}"))))
            .collect();
        let mut got: Vec<_> = side_by_side
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .collect();
        got.push(get(at, &format!("/{}", u32::MAX)));
        asked.send(got).unwrap();
    });
    let answers = answers.await.unwrap();
    asking.join().unwrap();
    for (n, answer) in answers[..4].iter().enumerate() {
        assert_eq!(
            *answer,
            ("HTTP/1.1 201 Created".to_owned(), (2 * n).to_string())
        );
    }
    assert_eq!(answers[4].0, "HTTP/1.1 422 Unprocessable Entity");
    assert!(
        answers[4].1.contains("failed in double: too large"),
        "{}",
        answers[4].1
    );

    let report = handle.shutdown(Shutdown::Drain(ms(4_000))).await.unwrap();
    // The application is still there, and says that the pipeline isn't.
    let (asked, answer) = tokio::sync::oneshot::channel();
    thread::spawn(move || asked.send(get(at, "/1")).unwrap());
    assert_eq!(answer.await.unwrap().0, "HTTP/1.1 503 Service Unavailable");
    serving.stop(true).await;
    running.await.unwrap().unwrap();
    report
}

#[test]
fn g12_a_pipeline_runs_and_ends_inside_a_web_service() {
    let report = serve();
    assert_eq!((report.counts.done, report.counts.failed), (4, 1));
}

#[test]
fn join_returns_once_the_other_handles_are_dropped() {
    live(async {
        let handle = Pipeline::new("join")
            .producer(from_iter(1..=100))
            .stage(stage_fn("pass", async |n: u32, _: &TaskContext<'_, ()>| {
                Ok(n)
            }))
            .start()
            .await
            .unwrap();
        let other = handle.clone();
        let mut joined = std::pin::pin!(handle.join());
        // Another handle keeps it open.
        while other.snapshot().counts.done < 100 {
            assert!(futures::poll!(joined.as_mut()).is_pending());
            actix_rt::time::sleep(ms(1)).await;
        }
        drop(other);
        assert_eq!(joined.await.unwrap().counts.done, 100);
    });
}
