//! A worker: an actor that owns a stage value and awaits one call of it at a time.
//!
//! Its whole life is one future, spawned once on its thread, beside the actor's context: what a call waits
//! for wakes that future alone. Calls that are ready at once (most are, in a pipeline that hurries) cost no
//! allocation and no wake.

pub(crate) mod env;
pub(crate) mod inbox;
mod run_batch;
mod batch_end;
mod waiting;
mod transitions;
pub(crate) mod call_end;
mod tally;
mod notes;
mod run_undo;
pub(crate) mod death;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use tokio::time::sleep;

use self::{
    call_end::StageValue,
    env::{FromWorker, WorkerEnv},
    inbox::{Inbox, Job, Parcel, ToWorker},
    run_batch::run_batch,
    run_undo::run_undo,
};
use crate::{engine::channel::Receiver, panic_guard, stage::Stage};

/// A worker of a pool.
pub(crate) struct Worker<S: Stage> {
    inbox: Rc<Inbox<S::Input>>,
    /// Taken when the actor starts.
    life: Option<Life<S>>,
}

impl<S: Stage> Worker<S> {
    pub(super) fn new(env: WorkerEnv<S>, jobs: Receiver<Parcel<S::Input>>) -> Self {
        let inbox = Rc::new(Inbox::new(jobs));
        let life = Life {
            env,
            inbox: inbox.clone(),
            value: None,
        };
        Worker {
            inbox,
            life: Some(life),
        }
    }
}

// Its life is moved out before it is pinned.
impl<S: Stage> Unpin for Worker<S> {}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Bounds are permits of ours: actix's own bound is soft.
        ctx.set_mailbox_capacity(0);
        if let Some(life) = self.life.take() {
            let over = Over(ctx.address());
            actix_rt::spawn(async move {
                let _over = over;
                life.until_it_leaves().await;
            });
        }
    }
}

/// Stops the actor once its life is over, whatever has ended that.
struct Over<S: Stage>(Addr<Worker<S>>);

impl<S: Stage> Drop for Over<S> {
    fn drop(&mut self) {
        self.0.do_send(ToWorker::Stop);
    }
}

impl<S: Stage> Handler<ToWorker> for Worker<S> {
    type Result = ();

    fn handle(&mut self, message: ToWorker, ctx: &mut Self::Context) {
        match message {
            ToWorker::Stop => ctx.stop(),
            message => self.inbox.put(message),
        }
    }
}

/// Builds a stage value, does one job after the other with it, and builds another where that is lost.
struct Life<S: Stage> {
    env: WorkerEnv<S>,
    inbox: Rc<Inbox<S::Input>>,
    value: Option<S>,
}

impl<S: Stage> Life<S> {
    async fn live(&mut self) {
        let Life {
            env, inbox, value, ..
        } = self;
        let worker = env.worker;
        let mut failures = 0;
        while !inbox.is_suspended() {
            let Some(stage) = value else {
                match env.factory.build() {
                    Ok(built) => {
                        *value = Some(built);
                        failures = 0;
                        env.tell(FromWorker::Built { worker });
                    }
                    Err(failure) => {
                        failures += 1;
                        env.tell(FromWorker::NotBuilt { worker, failure });
                        if !wait_to_rebuild(inbox, env.config.restart.delay(failures)).await {
                            break;
                        }
                    }
                }
                continue;
            };
            let Some(job) = inbox.next().await else { break };
            let after = match job {
                Job::Run { batch, mode } => run_batch(env, inbox, stage, batch, mode).await,
                Job::Undo(job) => run_undo(env, inbox, stage, job).await,
            };
            if after == StageValue::Rebuild {
                panic_guard::drop_quietly(value.take());
                if inbox.is_leaving() {
                    break;
                }
            }
        }
    }

    async fn until_it_leaves(mut self) {
        self.inbox.opened().await;
        self.live().await;
        panic_guard::drop_quietly(self.value.take());
        self.env.left.set(true);
        let worker = self.env.worker;
        self.env.tell(FromWorker::Left { worker });
    }
}

impl<S: Stage> Drop for Life<S> {
    fn drop(&mut self) {
        panic_guard::drop_quietly(self.value.take());
        if !self.env.left.get() && !self.inbox.is_suspended() {
            // Jobs that it has not begun go back to the pool, before that hears of the death.
            panic_guard::catch_quietly(|| drop(self.inbox.close()));
        }
    }
}

/// `false` when the worker is to leave instead.
async fn wait_to_rebuild<I>(inbox: &Inbox<I>, delay: Duration) -> bool {
    let mut delay = pin!(sleep(delay));
    poll_fn(|cx| {
        if inbox.is_leaving() {
            return Poll::Ready(false);
        }
        delay.as_mut().poll(cx).map(|()| true)
    })
    .await
}
