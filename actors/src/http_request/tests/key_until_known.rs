//! Idempotency keys of requests that are sent again, and closures that see the key.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A delay that no test waits for.
const NEVER: Duration = Duration::from_secs(3600);

const KEY: &str = "web/1/HttpRequest/0";
const CANCEL: &str = "web/1/HttpRequest/0/cancel";

/// Gives its `POST`s these answers, the last one again and again, and a `DELETE` 204.
fn answering(answers: impl IntoIterator<Item = Answer>) -> Server {
    let answers: Vec<Answer> = answers.into_iter().collect();
    let posts = Mutex::new(0);
    Server::start(move |seen: &Seen| {
        if seen.method == "DELETE" {
            return answer(204, "");
        }
        let mut posts = posts.lock().unwrap_or_else(PoisonError::into_inner);
        *posts += 1;
        answers[(*posts - 1).min(answers.len() - 1)].clone()
    })
}

/// Reads the request and closes the connection.
fn cut() -> Answer {
    Answer::Cut(String::new())
}

fn at_once(retries: u32) -> Retry {
    Retry::constant(retries, Duration::ZERO)
}

#[test]
fn a_failed_attempt_is_taken_back_before_the_next_which_has_another_key() {
    let server = answering([answer(503, ""), answer(200, "")]);
    let (outcome, _) = done(post(&server).retry(at_once(1)));
    assert!(outcome.is_done(), "{outcome}");
    assert_eq!(server.methods(), ["POST", "DELETE", "POST"]);
    assert_eq!(server.keys(), [KEY, CANCEL, "web/1/HttpRequest/1"]);
}

#[test]
fn g10_d10_an_unknown_effect_has_one_key_and_one_undo_in_the_rollback() {
    let server = answering([cut(), answer(503, ""), answer(200, "")]);
    let (outcome, report) = run(post(&server).key_until_known(at_once(2)), PATIENCE, true);
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(report.stages[0].counts.retried, 0);
    assert_eq!(server.methods(), ["POST", "POST", "POST", "DELETE"]);
    assert_eq!(server.keys(), [KEY, KEY, KEY, CANCEL]);
}

#[test]
fn g10_d10_a_known_success_after_unknown_effects_undoes_nothing() {
    let server = answering([Answer::Silence, cut(), answer(201, "")]);
    let stage = post(&server)
        .limit(Duration::from_millis(300))
        .key_until_known(at_once(2));
    let (outcome, _) = done(stage.retry(at_once(5)));
    assert!(outcome.is_done(), "{outcome}");
    assert_eq!(server.methods(), ["POST"; 3]);
    assert_eq!(server.keys(), [KEY; 3]);
}

/// Another attempt would have another key, so there is none.
#[test]
fn g10_d10_an_effect_that_remains_unknown_is_undone_in_the_rollback_only() {
    let server = answering([cut()]);
    let stage = post(&server).key_until_known(at_once(2));
    let (outcome, _) = done(stage.retry(at_once(5)));
    let failure = failure(&outcome);
    assert!(!failure.is_retryable(), "{failure}");
    assert!(failure.to_string().contains("sent 3 times"), "{failure}");
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(server.methods(), ["POST", "POST", "POST", "DELETE"]);
    assert_eq!(server.keys(), [KEY, KEY, KEY, CANCEL]);
}

#[test]
fn g10_d10_no_later_answer_withdraws_the_undo_of_what_may_have_acted() {
    let server = answering([cut(), answer(503, ""), answer(409, "")]);
    let stage = post(&server).untouched([409, 503]);
    let (outcome, _) = done(stage.key_until_known(at_once(9)));
    assert!(!failure(&outcome).is_retryable(), "{outcome}");
    assert_eq!(server.methods(), ["POST", "POST", "POST", "DELETE"]);
}

#[test]
fn g10_d10_what_surely_had_no_effect_is_left_to_the_stages_retry() {
    let server = answering([answer(503, ""), answer(503, ""), answer(200, "")]);
    // A delay of its own would not end.
    let stage = post(&server)
        .untouched([503])
        .key_until_known(Retry::constant(9, NEVER));
    let (outcome, report) = done(stage.retry(at_once(2)));
    assert!(outcome.is_done(), "{outcome}");
    assert_eq!(report.stages[0].counts.retried, 2);
    assert_eq!(server.keys(), [KEY; 3]);
}

#[test]
fn g10_d10_a_delay_past_the_deadline_is_not_begun() {
    let server = answering([cut()]);
    let stage = post(&server).key_until_known(Retry::constant(9, NEVER));
    let (outcome, _) = done(stage);
    let failure = failure(&outcome);
    assert!(
        failure.to_string().contains("sent 1 time with"),
        "{failure}"
    );
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}

/// The request waits for the cancel of its task, whose undo then runs, after `delay` or not.
fn cancelled(delay: Duration) {
    let (asked, asks) = mpsc::channel();
    let (cancel, cancelled) = mpsc::channel::<()>();
    let (asked, cancelled) = (Mutex::new(asked), Mutex::new(cancelled));
    let server = Server::start(move |seen: &Seen| {
        if seen.method == "DELETE" {
            return answer(204, "");
        }
        asked.lock().unwrap().send(()).ok();
        cancelled.lock().unwrap().recv().ok();
        cut()
    });
    let stage = post(&server).key_until_known(Retry::constant(u32::MAX, delay));
    let (asks, cancel) = (Arc::new(Mutex::new(asks)), cancel);
    let outcome = actix_rt::System::new().block_on(async {
        let pipeline = Pipeline::new("web").stage(stage).start().await.unwrap();
        let ticket = pipeline.submit("7".to_owned()).await.unwrap();
        let asked = actix_rt::task::spawn_blocking(move || {
            asks.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        });
        asked.await.unwrap();
        assert!(ticket.cancel());
        drop(cancel);
        let outcome = tokio::time::timeout(PATIENCE, ticket.outcome()).await;
        pipeline.shutdown(Shutdown::Abort).await.unwrap();
        outcome.unwrap().unwrap()
    });
    assert!(
        matches!(outcome.end, batrun::state::End::Cancelled { .. }),
        "{outcome}"
    );
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}

#[test]
fn g05_d10_a_cancel_waits_for_the_request_and_not_for_a_delay() {
    cancelled(NEVER);
}

#[test]
fn g05_d10_a_cancelled_task_sends_no_request_again_even_without_a_delay() {
    cancelled(Duration::ZERO);
}

#[test]
fn g10_d10_closures_see_the_key_the_task_and_the_attempt() {
    let server = answering([answer(503, ""), answer(200, "")]);
    let (root, back) = (server.root(), server.root());
    let calls = Arc::new(AtomicU32::new(0));
    let made = calls.clone();
    let stage = HttpRequest::new_with_call(move |_: &String, call| {
        made.fetch_add(1, Ordering::Relaxed);
        let body = format!("{} {}", call.task_id(), call.attempt());
        Request::post(format!("{root}/{}", call.key())).body(body)
    })
    .cancel_with_call(move |_, call| Request::delete(format!("{back}/{}", call.key())))
    .key_prefix("r/");
    let (outcome, _) = run(stage.retry(at_once(1)), PATIENCE, true);
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let seen = server.seen();
    let targets: Vec<&str> = seen.iter().map(|seen| &*seen.target).collect();
    let (first, second) = ("/r/web/1/HttpRequest/0", "/r/web/1/HttpRequest/1");
    assert_eq!(targets, [first, first, second, second]);
    assert_eq!(seen[0].body, "1 1");
    assert_eq!(seen[2].body, "1 2");
    // The header is the same text.
    assert_eq!(seen[2].header("idempotency-key"), Some(&second[1..]));
}
