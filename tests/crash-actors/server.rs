//! The server that the orders are charged at. It outlives the pipeline, and remembers what it did by
//! idempotency key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    thread,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    rt::{self, time::sleep},
    web::{Data, Path, delete, post},
};

/// A server on a thread of its own, until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    memory: Data<Memory>,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Memory(Mutex<Done>);

#[derive(Default)]
struct Done {
    /// The order that is charged under a key.
    charges: BTreeMap<String, u64>,
    /// Keys under which nothing is charged any more: a request may come later than the one that
    /// takes it back, if the process that sent it was killed.
    cancelled: BTreeSet<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let memory = Data::new(Memory::default());
        let shared = memory.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(shared.clone())
                        .route("/charges/{number}", post().to(charge))
                        .route("/charges/{number}", delete().to(give_back))
                };
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .bind("127.0.0.1:0")
                    .unwrap();
                let port = server.addrs()[0].port();
                let server = server.run();
                tell.send((port, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (port, handle) = told.recv().unwrap();
        Server {
            url: format!("http://127.0.0.1:{port}/charges"),
            memory,
            handle,
            thread: Some(thread),
        }
    }

    /// The number of charges of each order.
    pub(crate) fn charges(&self) -> BTreeMap<u64, usize> {
        let mut charges = BTreeMap::new();
        for number in self.memory.0.lock().unwrap().charges.values() {
            *charges.entry(*number).or_default() += 1;
        }
        charges
    }

    /// Number of requests that took a charge back, or forbade one that had not come.
    pub(crate) fn cancelled(&self) -> usize {
        self.memory.0.lock().unwrap().cancelled.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It sends a message at once; the future only waits for the end, which the join does.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn key(request: &HttpRequest) -> String {
    let key = request.headers().get("Idempotency-Key").unwrap();
    key.to_str().unwrap().to_owned()
}

async fn charge(request: HttpRequest, number: Path<u64>, memory: Data<Memory>) -> HttpResponse {
    let (key, number) = (key(&request), number.into_inner());
    // Acts some time after it has the request, and answers some time after it has acted.
    sleep(Duration::from_millis(number % 3)).await;
    let is_charged = {
        let mut done = memory.0.lock().unwrap();
        let is_cancelled = done.cancelled.contains(&key);
        if !is_cancelled {
            done.charges.insert(key, number);
        }
        !is_cancelled
    };
    sleep(Duration::from_millis(number % 4)).await;
    match is_charged {
        true => HttpResponse::Created().finish(),
        false => HttpResponse::Conflict().finish(),
    }
}

async fn give_back(request: HttpRequest, memory: Data<Memory>) -> HttpResponse {
    let key = key(&request);
    let key = key.strip_suffix("/cancel").unwrap().to_owned();
    let mut done = memory.0.lock().unwrap();
    let was_charged = done.charges.remove(&key).is_some();
    done.cancelled.insert(key);
    match was_charged {
        true => HttpResponse::NoContent().finish(),
        false => HttpResponse::NotFound().finish(),
    }
}
