//! A pool: the actor that holds a stage's queue and hands batches of it to the stage's workers.
//!
//! [`dispatch`] is the way of a task through it, [`release`] is how a stop reaches one. [`queue`] and [`workers`]
//! are its books, [`spawn`] gives it as many workers as it is to have, and [`from_worker`]
//! does what these ask for.

mod dispatch;
pub(crate) mod queue;
mod workers;
mod from_worker;
mod spawn;
mod death;
mod release;

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use futures::stream::poll_fn;
use tokio::sync::Semaphore;

use self::{
    queue::{Evicted, Queue},
    workers::WorkerSet,
};
use crate::{
    clock::Nanos,
    engine::{
        channel::{Receiver, Sender},
        threads::Threads,
        worker::{
            env::FromWorker,
            inbox::{ToWorker, UndoJob},
        },
    },
    policy::Throttle,
    report::StageStats,
    shared::{
        Shared,
        hop::Hop,
        messages::{Closing, ToPool, ToReporter},
    },
    stage::{CopyInput, Stage, StageConfig, StageFactory},
    task::{StageIx, TaskRef},
};

/// The parts that a pool is made of.
pub(crate) struct PoolConfig<S: Stage> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stage: StageIx,
    pub(crate) config: StageConfig,
    pub(crate) factory: StageFactory<S>,
    pub(crate) copy: Option<CopyInput<S>>,
    /// The way to the next stage.
    pub(crate) hop: Hop<S::Output>,
    /// Room in its queue.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) stats: Arc<StageStats>,
    pub(crate) threads: Arc<Threads>,
    /// The notices of its workers, and the end that they are put into.
    pub(crate) notices: Receiver<FromWorker<S::Input>>,
    pub(crate) notify: Sender<FromWorker<S::Input>>,
}

pub(crate) struct Pool<S: Stage> {
    shared: Arc<Shared>,
    stage: StageIx,
    config: Arc<StageConfig>,
    factory: StageFactory<S>,
    copy: Option<CopyInput<S>>,
    hop: Hop<S::Output>,
    room: Arc<Semaphore>,
    stats: Arc<StageStats>,
    threads: Arc<Threads>,
    queue: Queue<S::Input>,
    /// Undos that are to run, before any task.
    undos: VecDeque<UndoJob>,
    workers: WorkerSet<S>,
    /// Number of workers that it is to have.
    wanted: usize,
    /// Tasks that were stopped while they were said to wait here, and that may not have been let go of
    /// yet: in a worker's batch, or on their way. One that was found in the queue does no harm.
    to_let_go: Vec<TaskRef>,
    /// Workers are to hand back what they haven't started.
    hand_back: Arc<AtomicBool>,
    throttle: Option<Throttle>,
    /// Time that a call takes of its thread; `None` while unknown, or where calls wait.
    pace: Option<Nanos>,
    /// The last calls waited for something.
    calls_wait: bool,
    /// Failures to build a value, in a row.
    failures: u32,
    down: bool,
    /// The last failure to build a value, as text.
    last_error: String,
    /// Workers that are missing are started once that timer fires, and not before.
    start_timer: bool,
    timer: Option<(Nanos, SpawnHandle)>,
    closing: Option<Closing>,
    /// The end into which its workers say it, which each job takes along.
    notify: Sender<FromWorker<S::Input>>,
    notices: Rc<Receiver<FromWorker<S::Input>>>,
    /// It waits for a worker to be idle, or through with its batch.
    is_eager: bool,
}

impl<S: Stage> Pool<S> {
    pub(crate) fn new(config: PoolConfig<S>) -> Self {
        let PoolConfig {
            shared,
            stage,
            config,
            factory,
            copy,
            hop,
            room,
            stats,
            threads,
            notices,
            notify,
        } = config;
        Pool {
            throttle: config.rate.map(|rate| rate.throttle()),
            wanted: config.most_at_once(),
            config: Arc::new(config),
            shared,
            stage,
            factory,
            copy,
            hop,
            room,
            queue: Queue::new(stage, stats.clone()),
            stats,
            threads,
            undos: VecDeque::new(),
            workers: WorkerSet::new(),
            to_let_go: Vec::new(),
            hand_back: Arc::new(AtomicBool::new(false)),
            pace: None,
            calls_wait: false,
            failures: 0,
            down: false,
            last_error: String::new(),
            start_timer: false,
            timer: None,
            closing: None,
            notify,
            notices: Rc::new(notices),
            is_eager: true,
        }
    }

    /// Does what is due now, and sets the timer for what is due later.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        let mut evicted = Evicted::default();
        self.queue.sweep(&mut evicted);
        if let Some(due) = self.queue.wake(self.shared.clock.now(), &mut evicted) {
            self.wake_at(due, ctx);
        }
        self.let_go(evicted);
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
    }

    /// Wakes at that time, or sooner if that was asked for before.
    fn wake_at(&mut self, due: Nanos, ctx: &mut Context<Self>) {
        if let Some((armed, handle)) = self.timer {
            if armed <= due {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = Duration::from_nanos(due.saturating_sub(self.shared.clock.now()));
        let handle = ctx.run_later(wait, |pool, ctx| {
            pool.timer = None;
            pool.wake(ctx);
        });
        self.timer = Some((due, handle));
    }

    fn close(&mut self, closing: Closing, ctx: &mut Context<Self>) {
        if self.closing == Some(Closing::Suspended) || self.closing == Some(closing) {
            return;
        }
        self.closing = Some(closing);
        self.queue.backlog().set_open(false);
        self.workers.dismiss_all(|| match closing {
            Closing::WhenIdle => ToWorker::Quit,
            Closing::Suspended => ToWorker::Suspend,
        });
        self.stop_if_closed(ctx);
    }

    fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    fn stop_if_closed(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() && self.workers.is_empty() {
            self.shared.tell_reporter(ToReporter::PoolClosed);
            ctx.stop();
        }
    }
}

// The contexts in its queue are never pinned.
impl<S: Stage> Unpin for Pool<S> {}

impl<S: Stage> Actor for Pool<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Bounds are permits of ours: actix's own bound is soft.
        ctx.set_mailbox_capacity(0);
        let notices = self.notices.clone();
        ctx.add_stream(poll_fn(move |cx| notices.poll_any(cx).map(Some)));
        self.adjust_workers(ctx);
    }
}

impl<S: Stage> Handler<ToPool> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: ToPool, ctx: &mut Self::Context) {
        // They came first: a task that is to be tried again, before it is said to be cleaned up.
        self.hear(ctx);
        match message {
            ToPool::Cancel {
                task,
                undo,
                attempt,
            } => self.undos.push_back(UndoJob {
                task,
                undo,
                attempt,
            }),
            ToPool::StopRunning { worker } => {
                if let Some(worker) = self.workers.get(worker) {
                    worker.addr.do_send(ToWorker::CheckStop);
                }
                return;
            }
            ToPool::StopQueued(tasks) => return self.stop_queued(tasks, ctx),
            ToPool::CleanedUp => return self.wake(ctx),
            #[cfg(feature = "journal")]
            ToPool::Release(most) => {
                let tasks = self.queue.last(most);
                self.shared.release(&tasks);
            }
            ToPool::Resize(workers) => {
                self.wanted = workers;
                self.adjust_workers(ctx);
            }
            ToPool::SetRate(rate) => self.throttle = rate.map(|rate| rate.throttle()),
            ToPool::Dispatch => {}
            ToPool::Close(closing) => return self.close(closing, ctx),
            ToPool::Abandon => {
                // A thread whose call still runs ends once that has returned.
                self.workers.abandon();
                return ctx.stop();
            }
        }
        self.dispatch(ctx);
    }
}
