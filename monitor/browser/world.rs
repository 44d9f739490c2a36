//! A pipeline that has everything on it that the page shows, and the server of its monitor.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};
use batrun::{Failure, PipelineHandle, Shutdown, prelude::*, report::Recorder, state::TaskId};
use batrun_monitor::{Access, Monitor};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// Its fate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Done,
    Fails,
    /// Its undo fails while the bank doesn't answer.
    Stuck,
    /// It waits until it is cancelled.
    Hangs,
}

pub(crate) type Handle = PipelineHandle<Order, Order>;

#[derive(Clone)]
pub(crate) struct World(Rc<Inner>);

struct Inner {
    handle: Handle,
    monitor: Monitor,
    answers: Arc<AtomicBool>,
    only_look: Arc<AtomicBool>,
    address: Cell<SocketAddr>,
    server: RefCell<Option<ServerHandle>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let answers = Arc::new(AtomicBool::new(false));
        let bank = answers.clone();
        let reserve = stage_fn(
            "reserve <b>seats</b>",
            async |order: Order, task: &TaskContext<String>| {
                task.on_cancel(format!("Seat({order:?})")).await?;
                Ok(order)
            },
        )
        .cancel_with(async |_: String, _: &CancelContext| Ok(()));
        let charge = stage_fn("charge", async |order: Order, task: &TaskContext<Order>| {
            task.on_cancel(order).await?;
            match order {
                Order::Hangs => std::future::pending().await,
                Order::Fails => Err(Failure::permanent(
                    "<script>alert(1)</script> \u{202e} card 4711 refused",
                )),
                Order::Stuck => Err(Failure::permanent("no route")),
                Order::Done => Ok(order),
            }
        })
        .cancel_with(async move |order: Order, _: &CancelContext| {
            if order == Order::Stuck && !bank.load(Ordering::SeqCst) {
                return Err(Failure::permanent("the bank does not answer"));
            }
            Ok(())
        })
        .workers(3);
        let handle: Handle = Pipeline::new("orders")
            .recorder(Recorder::bytes(1 << 20))
            .stage(reserve)
            .stage(charge)
            .start()
            .await
            .unwrap();
        let world = World(Rc::new(Inner {
            monitor: Monitor::new().watch(&handle),
            handle,
            answers,
            only_look: Arc::new(AtomicBool::new(false)),
            address: Cell::new(SocketAddr::from(([127, 0, 0, 1], 0))),
            server: RefCell::new(None),
        }));
        world.start_server().await;
        world
    }

    /// Under a prefix, as in an application, and on the port that it had before.
    pub(crate) async fn start_server(&self) {
        let (monitor, look) = (self.0.monitor.clone(), self.0.only_look.clone());
        let server = HttpServer::new(move || {
            let look = look.clone();
            let access = move |_: &actix_web::HttpRequest| match look.load(Ordering::SeqCst) {
                true => Access::look(),
                false => Access::all(),
            };
            App::new().service(monitor.mount("/deep/batrun").access(access))
        })
        .workers(1)
        .disable_signals()
        .bind(self.0.address.get())
        .unwrap();
        self.0.address.set(server.addrs()[0]);
        let server = server.run();
        *self.0.server.borrow_mut() = Some(server.handle());
        rt::spawn(server);
    }

    pub(crate) async fn stop_server(&self) {
        let server = self.0.server.borrow_mut().take();
        server.unwrap().stop(false).await;
    }

    pub(crate) async fn end(self) {
        self.0.handle.shutdown(Shutdown::Abort).await.unwrap();
        self.stop_server().await;
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}/deep/batrun/", self.0.address.get())
    }

    /// The pipeline, as the API has it.
    pub(crate) async fn sample(&self) -> Value {
        let address = format!("{}api/v1/pipelines/0", self.address());
        let mut answer = awc::Client::new().get(address).send().await.unwrap();
        answer.json().await.unwrap()
    }

    pub(crate) async fn until(&self, there: impl Fn(&Value) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let sample = self.sample().await;
            if there(&sample) {
                return;
            }
            assert!(Instant::now() < until, "{sample:#}");
            rt::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Some tasks end, done and failed.
    pub(crate) async fn settle(&self) {
        for number in 0..40 {
            let order = if number % 8 == 3 {
                Order::Fails
            } else {
                Order::Done
            };
            let ticket = self
                .0
                .handle
                .submit(order)
                .label(format!("order {number}"))
                .await
                .unwrap();
            ticket.outcome().await.unwrap();
        }
    }

    /// A task that waits, in its second stage.
    pub(crate) async fn hang(&self, label: &str) -> u64 {
        let before = self.sample().await["stages"][1]["workers_busy"].clone();
        let busy = json!(before.as_u64().unwrap() + 1);
        let ticket = self
            .0
            .handle
            .submit(Order::Hangs)
            .label(label)
            .await
            .unwrap();
        self.until(|sample| sample["stages"][1]["workers_busy"] == busy)
            .await;
        ticket.id().0
    }

    pub(crate) async fn until_ended(&self, task: u64) {
        let until = Instant::now() + PATIENCE;
        while self.0.handle.control().task(TaskId(task)).is_some() {
            let there = self.0.handle.control().task(TaskId(task));
            assert!(Instant::now() < until, "task {task} goes on: {there:?}");
            rt::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn get_stuck(&self, count: usize) -> Vec<u64> {
        let mut stuck = Vec::new();
        for _ in 0..count {
            let ticket = self.0.handle.submit(Order::Stuck).await.unwrap();
            stuck.push(ticket.id().0);
            ticket.outcome().await.unwrap();
        }
        stuck
    }

    /// Has another pipeline watched, too.
    pub(crate) async fn another_pipeline(&self) -> PipelineHandle<u32, u32> {
        let send = stage_fn("send", async |n: u32, _: &TaskContext<()>| Ok(n));
        let mails = Pipeline::new("mails").stage(send).start().await.unwrap();
        // All clones are one monitor.
        drop(self.0.monitor.clone().watch(&mails));
        mails
    }

    /// The history of a pipeline, as the API has it.
    pub(crate) async fn history(&self, range: &str) -> Value {
        let address = format!("{}api/v1/pipelines/0/history?range={range}", self.address());
        let mut answer = awc::Client::new().get(address).send().await.unwrap();
        answer.json().await.unwrap()
    }

    pub(crate) fn the_bank_answers(&self) {
        self.0.answers.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn only_look(&self) {
        self.0.only_look.store(true, Ordering::SeqCst);
    }

    /// So many pages have a stream.
    pub(crate) async fn until_streams(&self, count: u64) {
        let until = Instant::now() + PATIENCE;
        let wanted = format!("batrun_monitor_streams {count}");
        loop {
            let address = format!("{}metrics", self.address());
            let mut answer = awc::Client::new().get(address).send().await.unwrap();
            let text = answer.body().await.unwrap();
            let text = String::from_utf8_lossy(&text);
            if text.lines().any(|line| line == wanted) {
                return;
            }
            assert!(Instant::now() < until, "{text}");
            rt::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
