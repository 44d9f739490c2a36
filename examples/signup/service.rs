//! The service: what a user of batrun writes. Its pipeline, its handlers, its start and its end.

use std::{fs, path::Path, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, delete, get,
    http::header::{LOCATION, RETRY_AFTER},
    post,
    rt::{
        self,
        signal::unix::{SignalKind, signal},
    },
    web::{Data, Json, Path as InPath},
};
use batrun::{error::KeyError, journal::Journal, prelude::*, state::TaskStatus};
use batrun_actors::{HttpRequest, MakeDirectory, Request, Sql, Statement, WriteFile};
use serde_json::{Value, json};

use crate::{
    AnyError,
    stages::{Create, SignUp},
};

/// Maximum number of sign-ups under way. A request beyond that is told to come again.
const IN_FLIGHT: usize = 64;
/// Maximum time of a sign-up, without its rollback.
const LIMIT: Duration = Duration::from_secs(20);
/// Time for sign-ups that are under way at SIGTERM. What isn't done by then is rolled back.
const GRACE: Duration = Duration::from_secs(8);
/// Maximum time for an answer of the bank.
const PATIENCE: Duration = Duration::from_millis(400);
/// The price of an account.
const CENTS: u32 = 990;

// --- the pipeline ---

pub(crate) type SignUps = PipelineHandle<SignUp, SignUp>;

async fn start_pipeline(folder: &Path, bank: String) -> Result<SignUps, AnyError> {
    let [mail, outbox] = ["mail", "outbox"].map(|name| folder.join(name));
    fs::create_dir_all(&mail)?;
    fs::create_dir_all(&outbox)?;
    let journal = folder.join("signups.journal");

    let db = folder.join("accounts.db");
    let path = db.clone();
    let create = Work::try_with("create", move || Create::open(&path));
    let mailbox = MakeDirectory::new(move |signup: &SignUp| mail.join(&signup.name.0));
    let refunds = format!("{bank}/refunds");
    let charge = HttpRequest::new(move |signup: &SignUp| {
        let charge = json!({ "card": signup.card, "cents": CENTS, "reference": signup.key });
        post_json(format!("{bank}/charges"), &charge)
    })
    // By the key, of which the bank may never have heard: it refuses the charge if it comes later.
    .cancel_with_call(move |_, call| post_json(&*refunds, &json!({ "charge": call.key() })))
    .limit(PATIENCE)
    // The card is refused.
    .untouched([402])
    // The bank charges once for a key, so that an answer that is lost is asked for again.
    .key_until_known(Retry::exponential(3));
    let welcome = WriteFile::new(
        move |signup: &SignUp| outbox.join(&signup.key.0),
        |signup: &SignUp| format!("Welcome, {}!\n", signup.name.0),
    );
    // No undo: that of `create` deletes the row.
    let activate = Sql::sqlite(db, |signup: &SignUp| {
        Statement::new("UPDATE accounts SET state = 'active' WHERE signup = ?1")
            .bind(&*signup.key.0)
            .expect_rows(1)
    });
    let signups = Pipeline::new("signups")
        .journal(Journal::open(journal)?)
        // The name guards the mailbox, so the mailbox has to be gone before the name is free.
        .order(Order::Lifo)
        .max_in_flight(IN_FLIGHT)
        // So that a sign-up can be taken back when it is done.
        .keep_undos()
        // Without anybody's help, too: each ten minutes, for a day.
        .retry_stuck(Retry::constant(144, Duration::from_secs(600)))
        .stage(create.retry(Retry::exponential(3)))
        .stage(mailbox.named("mailbox"))
        .stage(
            charge
                .named("charge")
                .workers(8)
                .retry(Retry::exponential(4)),
        )
        .stage(
            welcome
                .named("welcome")
                .workers(2)
                .retry(Retry::exponential(6)),
        )
        .stage(activate.named("activate").retry(Retry::exponential(3)))
        .start()
        .await?;
    Ok(signups)
}

fn post_json(url: impl Into<String>, body: &Value) -> Request {
    Request::post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
}

// --- the handlers ---

/// Accepts a sign-up. It survives a kill from here on, and the same request again adds none.
#[post("/signups")]
async fn sign_up(signups: Data<SignUps>, Json(signup): Json<SignUp>) -> HttpResponse {
    let (key, name) = (signup.key.0.clone(), signup.name.0.clone());
    let address = format!("/signups/{key}");
    let submit = signups.submit(signup).key(key).label(name).timeout(LIMIT);
    match submit.if_room().await {
        Ok(_) => HttpResponse::Accepted()
            .insert_header((LOCATION, &*address))
            .json(json!({ "status": address })),
        Err(TrySubmitError::Refused(SubmitError::KeyConflict(..))) => {
            HttpResponse::UnprocessableEntity().json(json!({ "error": "another sign-up's key" }))
        }
        // No room, too many stuck ones, or the end of this process: the same request may be sent
        // again.
        Err(refused) => HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "1"))
            .json(json!({ "error": refused.to_string() })),
    }
}

#[get("/signups/{key}")]
async fn show(signups: Data<SignUps>, key: InPath<String>) -> HttpResponse {
    let status = signups.status(&key);
    match status {
        TaskStatus::Ended { .. } | TaskStatus::Unknown => {}
        _ => return HttpResponse::Ok().json(status),
    }
    match signups.outcome_of(&key).await {
        Ok(Some(outcome)) => HttpResponse::Ok().json(ended(outcome.end)),
        Ok(None) => HttpResponse::NotFound().json(status),
        Err(error) => {
            HttpResponse::ServiceUnavailable().json(json!({ "error": error.to_string() }))
        }
    }
}

/// An end as clients see it: with the stage, but without its error, which may name servers that are
/// nobody's business.
fn ended(end: End) -> Value {
    let (end, stage) = match end {
        End::Done => ("done", None),
        End::Cancelled { .. } => ("cancelled", None),
        End::TakenBack => ("taken back", None),
        End::Failed { stage, .. } | End::TimedOut { stage } => ("failed", Some(stage)),
        _ => ("failed", None),
    };
    json!({ "status": "ended", "end": end, "in": stage })
}

/// Cancels a sign-up that is under way. Its status says what became of it.
#[delete("/signups/{key}")]
async fn cancel(signups: Data<SignUps>, key: InPath<String>) -> HttpResponse {
    let is_under_way = signups.cancel_key(&key);
    let status = signups.status(&key);
    match status {
        _ if is_under_way => HttpResponse::Accepted().json(status),
        TaskStatus::Unknown => HttpResponse::NotFound().json(status),
        _ => HttpResponse::Conflict().json(status),
    }
}

/// Takes back what a sign-up did that is done: the customer has changed their mind.
#[post("/signups/{key}/take-back")]
async fn take_back(signups: Data<SignUps>, key: InPath<String>) -> HttpResponse {
    match signups.take_back(&key).await {
        Ok(_) => HttpResponse::Accepted().json(signups.status(&key)),
        Err(error @ (KeyError::Closed | KeyError::Suspended)) => {
            HttpResponse::ServiceUnavailable().json(json!({ "error": error.to_string() }))
        }
        Err(error) => HttpResponse::Conflict().json(json!({ "error": error.to_string() })),
    }
}

/// The rollbacks that could not be completed, for whoever looks after the service.
#[get("/stuck")]
async fn stuck(signups: Data<SignUps>) -> HttpResponse {
    HttpResponse::Ok().json(signups.stuck())
}

/// Tries them again, now that the bank is back, say. Those that are still stuck then are listed again.
#[post("/stuck/retry")]
async fn retry(signups: Data<SignUps>) -> HttpResponse {
    let tried = signups.retry_all(|_| true);
    let refused = tried.iter().filter_map(|tried| tried.as_ref().err());
    let refused: Vec<String> = refused.map(ToString::to_string).collect();
    HttpResponse::Accepted().json(json!({ "tried": tried.len(), "refused": refused }))
}

/// Says if requests should be sent here, to a load balancer.
#[get("/ready")]
async fn ready(signups: Data<SignUps>) -> HttpResponse {
    let health = signups.health();
    let body = json!({ "health": health.to_string() });
    match health.is_ready() {
        true => HttpResponse::Ok().json(body),
        false => HttpResponse::ServiceUnavailable().json(body),
    }
}

// --- from start to end ---

/// Serves until SIGTERM or SIGINT, or until the pipeline ends because its journal has failed.
///
/// At a signal the pipeline ends first, while the server still says what became of whom. The server's
/// own handling of signals would stop the System, and the pipeline with it.
pub(crate) async fn serve(port: u16, folder: &Path, bank: String) -> Result<(), AnyError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let signups = start_pipeline(folder, bank).await?;
    let data = Data::new(signups.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .service((sign_up, show, cancel, take_back, ready, stuck, retry))
    })
    .workers(2)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(("127.0.0.1", port))?;
    println!("{}", server.addrs()[0]);
    let server = server.run();
    let (stopper, serving) = (server.handle(), rt::spawn(server));

    let report = tokio::select! {
        _ = interrupt.recv() => signups.shutdown(Shutdown::Drain(GRACE)).await?,
        _ = terminate.recv() => signups.shutdown(Shutdown::Drain(GRACE)).await?,
        report = signups.ended() => report?,
    };
    stopper.stop(true).await;
    serving.await??;
    log::info!("{report}");
    match report.suspended {
        Some(why) => Err(format!("the journal has failed: {why}").into()),
        None => Ok(()),
    }
}
