//! Servers that reset a request over HTTP/2.

use std::sync::atomic::{AtomicU32, Ordering};

use h2::{Reason, server::handshake};

use super::*;

/// A server without TLS that resets each `POST` for this reason, and answers everything else with 204.
/// It counts both.
fn resetting(reason: Reason) -> (String, Arc<[AtomicU32; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let counts: Arc<[AtomicU32; 2]> = Arc::default();
    let seen = counts.clone();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let post = request.method() == "POST";
                seen[usize::from(!post)].fetch_add(1, Ordering::SeqCst);
                if post {
                    respond.send_reset(reason);
                } else {
                    let answer = hyper::Response::builder().status(204).body(()).unwrap();
                    respond.send_response(answer, true).unwrap();
                }
            }
        }
    };
    // It ends with the test's process.
    std::thread::spawn(|| actix_rt::System::new().block_on(serve));
    (root, counts)
}

#[test]
fn a_request_that_was_refused_unseen_is_not_taken_back() {
    for (reason, undone) in [
        (Reason::REFUSED_STREAM, 0),
        (Reason::CANCEL, 1),
        (Reason::INTERNAL_ERROR, 1),
        (Reason::NO_ERROR, 1),
    ] {
        let (root, counts) = resetting(reason);
        let back = root.clone();
        let stage = HttpRequest::new(move |_: &String| Request::post(root.clone()).body("tea"))
            .cancel_with(move |_| Request::delete(back.clone()))
            .http_version(HttpVersion::Http2);
        let (outcome, report) = done(stage);
        assert!(failure(&outcome).is_retryable(), "{reason}: {outcome}");
        assert_eq!(report.stages[0].counts.cancelled, undone, "{reason}");
        // Neither is sent again unasked.
        assert_eq!(counts[0].load(Ordering::SeqCst), 1, "{reason}");
        assert_eq!(
            u64::from(counts[1].load(Ordering::SeqCst)),
            undone,
            "{reason}"
        );
    }
}
