//! The service: its pipeline, its handlers, its start and its stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, ResponseError,
    dev::ServerHandle,
    error::{InternalError, JsonPayloadError},
    get,
    http::{StatusCode, header},
    post, rt, web,
};
use batrun::{SubmitError, prelude::*, report::Recorder};
use batrun_actors::WriteFile;
use batrun_monitor::Monitor;
use serde::Deserialize;
use serde_json::json;

use crate::world::{Account, World};

/// Maximum number of accounts under way at once. A request beyond that is told to come again.
pub(crate) const IN_FLIGHT: usize = 16;

pub(crate) type AnyError = Box<dyn std::error::Error>;

// --- the pipeline's input ---

/// A client's request. A name is also a file's name, so only plain ones are accepted.
#[derive(Deserialize)]
pub(crate) struct NewAccount {
    name: Name,
    pages: u32,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=64).contains(&name.len()) && name.chars().all(plain) {
            return Ok(Name(name));
        }
        Err("a name has 1 to 64 characters out of a to z, 0 to 9 and -")
    }
}

// --- the stages ---

/// Reserves the name. A name that is taken fails the task.
#[derive(Clone)]
struct Reserve(Arc<World>);

impl Stage for Reserve {
    type Input = NewAccount;
    type Output = Account;
    type Undo = String;

    async fn run(
        &mut self,
        NewAccount {
            name: Name(name),
            pages,
        }: NewAccount,
        task: &TaskContext<'_, String>,
    ) -> Result<Account, Failure> {
        let undo = task.on_cancel(name.clone()).await?; // intent first
        let account = Account { name, pages };
        if !self.0.reserve(&account, task.task_id()) {
            undo.withdraw().await?; // someone else's: leave it
            return Err(Failure::permanent(format!("{} is taken", account.name)));
        }
        Ok(account)
    }

    async fn cancel(&mut self, name: String, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        self.0.release(&name, cancel.task_id());
        Ok(())
    }
}

/// Activates the account, in place of a bank that is slow, refuses some requests and forgets
/// others. It has no undo: that of the reservation removes the activation as well.
#[derive(Clone)]
struct Activate(Arc<World>);

impl Stage for Activate {
    type Input = Account;
    type Output = Account;
    type Undo = ();

    async fn run(&mut self, account: Account, _: &TaskContext<'_, ()>) -> Result<Account, Failure> {
        rt::time::sleep(Duration::from_millis(20)).await;
        if account.name.starts_with("refused-") {
            return Err(Failure::permanent("the bank refused"));
        }
        if account.name.starts_with("slow-") {
            std::future::pending::<()>().await;
        }
        self.0.activate(&account.name);
        Ok(account)
    }
}

type Accounts = PipelineHandle<NewAccount, Account>;

async fn start_pipeline(world: &Arc<World>) -> Result<Accounts, batrun::Error> {
    let files = world.clone();
    let welcome = WriteFile::new(
        move |account: &Account| files.file(&account.name),
        Account::welcome,
    );
    // If an undo can't remove its file, the name stays reserved until a person has looked.
    let welcome = welcome.on_stuck(OnStuck::Halt);
    Pipeline::new("accounts")
        // The name guards the file, so the file has to be removed before the name is free.
        .order(Order::Lifo)
        .max_in_flight(IN_FLIGHT)
        // So that the monitor has the timelines of tasks that are still at work, too.
        .recorder(Recorder::bytes(4 << 20))
        .stage(Reserve(world.clone()).capacity(IN_FLIGHT))
        .stage(welcome.named("welcome").workers(2).capacity(4))
        .stage(Activate(world.clone()).workers(8).capacity(4))
        .start()
        .await
}

// --- the handlers ---

/// Maximum time of a request from its acceptance to its answer, without the rollback.
struct Limit(Duration);

/// Answers with the task's outcome. If the client is gone before that, the task goes on.
#[post("/accounts")]
async fn create(
    accounts: web::Data<Accounts>,
    limit: web::Data<Limit>,
    account: web::Json<NewAccount>,
) -> HttpResponse {
    let account = account.into_inner();
    let label = account.name.0.clone();
    let submit = accounts.submit(account).label(label).timeout(limit.0);
    let ticket = match submit.now() {
        Ok(ticket) => ticket,
        Err(TrySubmitError::Full(_)) => {
            return HttpResponse::TooManyRequests()
                .insert_header((header::RETRY_AFTER, "1"))
                .json(json!({ "error": "too many accounts are under way" }));
        }
        Err(TrySubmitError::Refused(refused)) => return unavailable(&refused),
        Err(error) => return failed(error),
    };
    let outcome = match ticket.outcome().await {
        Ok(outcome) => outcome,
        Err(error) => return failed(error),
    };
    let status = match &outcome.end {
        End::Done => return HttpResponse::Created().json(outcome.output),
        End::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        End::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        // A shutdown: nothing else here cancels a task.
        End::Cancelled { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    // The text has stage, error and rollback, stuck undos included.
    HttpResponse::build(status).json(outcome)
}

fn unavailable<C>(refused: &SubmitError<C>) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "error": refused.to_string() }))
}

fn failed(error: impl std::fmt::Display) -> HttpResponse {
    HttpResponse::InternalServerError().json(json!({ "error": error.to_string() }))
}

/// The pipeline as it is now.
#[get("/pipeline")]
async fn show_pipeline(accounts: web::Data<Accounts>) -> HttpResponse {
    HttpResponse::Ok().json(accounts.snapshot())
}

/// For a readiness probe: a load balancer sends no more requests once this says 503.
#[get("/ready")]
async fn ready(accounts: web::Data<Accounts>) -> HttpResponse {
    let health = accounts.health();
    match health.is_ready() {
        true => HttpResponse::Ok().json(health),
        false => HttpResponse::ServiceUnavailable().json(health),
    }
}

#[get("/accounts/{name}")]
async fn find_account(world: web::Data<World>, name: web::Path<String>) -> HttpResponse {
    match world.find(&name) {
        Some(account) => HttpResponse::Ok().json(account),
        None => HttpResponse::NotFound().json(json!({ "error": "no such account" })),
    }
}

fn bad_json(error: JsonPayloadError, _: &actix_web::HttpRequest) -> actix_web::Error {
    let answer =
        HttpResponse::build(error.status_code()).json(json!({ "error": error.to_string() }));
    InternalError::from_response(error, answer).into()
}

// --- from start to stop ---

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) accounts: Accounts,
    monitor: Monitor,
    server: ServerHandle,
    serving: rt::task::JoinHandle<io::Result<()>>,
}

impl Service {
    /// Starts on a port, or on a free one for port 0.
    pub(crate) async fn start(
        port: u16,
        limit: Duration,
        world: &Arc<World>,
    ) -> Result<Self, AnyError> {
        let accounts = start_pipeline(world).await?;
        let (data, world) = (
            web::Data::new(accounts.clone()),
            web::Data::from(world.clone()),
        );
        let limit = web::Data::new(Limit(limit));
        let monitor = Monitor::new().watch(&accounts);
        let watching = monitor.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(world.clone())
                .app_data(limit.clone())
                .app_data(web::JsonConfig::default().error_handler(bad_json))
                .service(create)
                .service(find_account)
                .service(show_pipeline)
                .service(ready)
                .service(watching.mount("/batrun"))
        })
        .workers(2)
        // With its own signal handling, the server would stop before the pipeline.
        .disable_signals()
        .bind(("127.0.0.1", port))?;
        let address = server.addrs().first().copied().ok_or("no address")?;
        let server = server.run();
        Ok(Service {
            address,
            accounts,
            monitor,
            server: server.handle(),
            serving: rt::spawn(server),
        })
    }

    /// Stops in two steps. The pipeline comes first: from now on it refuses tasks, so that new
    /// requests get a 503, and within the grace period every task gets its outcome. Then the server
    /// stops, which has only these answers left to send. The other way round, the server would wait
    /// for tasks that nobody has told to end, and cut connections off after its own timeout.
    pub(crate) async fn stop(self, grace: Duration) -> Result<Report, AnyError> {
        let report = self.accounts.shutdown(Shutdown::Drain(grace)).await;
        // Pages that are open in browsers would keep the server waiting.
        self.monitor.close();
        self.server.stop(true).await;
        self.serving.await??;
        Ok(report?)
    }
}
