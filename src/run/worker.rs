//! A worker: an actor that owns a stage value and awaits one call of it at a time.
//!
//! Its body is one future, spawned once in its context. Calls that are ready at once (most are, in
//! a pipeline that hurries) cost no allocation and no wake.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool, mpsc::Sender},
    task::Poll,
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler};
use tokio::time::sleep;

use super::{
    call::run_batch,
    desk::{Desk, Job, ToWorker},
    grounds::Present,
    pool::{FromWorker, Pool},
    undoing::run_cancel,
};
use crate::{
    core::Core,
    guard,
    message::Hop,
    report::Board,
    stage::Stage,
    task::StageIx,
    work::{CopyInput, Factory, Settings},
};

/// What a worker knows of its place.
pub(super) struct Seat<S: Stage> {
    pub(super) core: Arc<Core>,
    pub(super) stage: StageIx,
    pub(super) worker: u32,
    pub(super) settings: Arc<Settings>,
    pub(super) factory: Factory<S>,
    pub(super) copy: Option<CopyInput<S>>,
    pub(super) pool: Addr<Pool<S>>,
    pub(super) hop: Hop<S::Output>,
    pub(super) room: Arc<tokio::sync::Semaphore>,
    pub(super) board: Arc<Board>,
    /// The pool wants back what has not been started.
    pub(super) recall: Arc<AtomicBool>,
    /// Where it has a thread to itself: held until it has let go of its last task.
    pub(super) _present: Option<Sender<Present>>,
}

/// A worker of a pool.
pub(super) struct Worker<S: Stage> {
    desk: Rc<Desk<S::Input>>,
    body: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<S: Stage> Worker<S> {
    pub(super) fn new(seat: Seat<S>) -> Self {
        let desk = Rc::new(Desk::new());
        let body = body(seat, desk.clone());
        Worker {
            desk,
            body: Some(Box::pin(body)),
        }
    }
}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        if let Some(body) = self.body.take() {
            ctx.spawn(actix::fut::wrap_future(body).map(|(), _: &mut Self, ctx| ctx.stop()));
        }
    }
}

impl<S: Stage> Handler<ToWorker<S::Input>> for Worker<S> {
    type Result = ();

    fn handle(&mut self, message: ToWorker<S::Input>, _: &mut Self::Context) {
        self.desk.put(message);
    }
}

async fn body<S: Stage>(seat: Seat<S>, desk: Rc<Desk<S::Input>>) {
    let mut value: Option<S> = None;
    let mut failures = 0;
    while !desk.is_suspended() {
        let Some(stage) = &mut value else {
            match seat.factory.build() {
                Ok(built) => {
                    value = Some(built);
                    failures = 0;
                    seat.tell(FromWorker::Ready {
                        worker: seat.worker,
                    });
                }
                Err(failure) => {
                    failures += 1;
                    seat.tell(FromWorker::NotBuilt {
                        worker: seat.worker,
                        failure,
                    });
                    if !wait_to_rebuild(&desk, seat.settings.restart.delay(failures)).await {
                        break;
                    }
                }
            }
            continue;
        };
        let Some(job) = desk.next().await else { break };
        let kept = match job {
            Job::Work { batch, how } => run_batch(&seat, &desk, stage, batch, how).await,
            Job::Cancel {
                task,
                undo,
                attempt,
            } => run_cancel(&seat, &desk, stage, task, undo, attempt).await,
        };
        if !kept {
            guard::drop_quietly(value.take());
            if desk.is_leaving() {
                break;
            }
        }
    }
    guard::drop_quietly(value);
    seat.tell(FromWorker::Left {
        worker: seat.worker,
    });
}

/// `false` when the worker is to leave instead.
async fn wait_to_rebuild<I>(desk: &Desk<I>, delay: Duration) -> bool {
    let mut delay = pin!(sleep(delay));
    poll_fn(|cx| {
        if desk.is_leaving() {
            return Poll::Ready(false);
        }
        delay.as_mut().poll(cx).map(|()| true)
    })
    .await
}

impl<S: Stage> Seat<S> {
    pub(super) fn tell(&self, message: FromWorker<S::Input>) {
        self.pool.do_send(message);
    }

    pub(super) fn timeout(&self) -> Duration {
        self.settings.timeout.unwrap_or_default()
    }
}
