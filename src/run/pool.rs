//! A pool: the actor that holds a stage's queue and hands batches of it to the stage's workers.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle};
use tokio::sync::Semaphore;

use super::{
    desk::ToWorker,
    grounds::Grounds,
    hand::Wait,
    queue::{Decided, Queue},
    staff::{MemberState, Staff},
};
use crate::{
    Failure,
    clock::Nanos,
    core::Core,
    message::{Batch, Hop, TaskMsg, ToPool, ToReporter},
    policy::Throttle,
    report::{Board, Health},
    stage::Stage,
    task::{StageIx, TaskRef, fence},
    work::{CopyInput, Factory, Settings},
};

/// How long ended tasks may stay in a long queue, to be swept out together.
const SWEEP_NS: Nanos = 2_000_000;

/// From a worker to its pool.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum FromWorker<I> {
    /// It has a stage value.
    Ready { worker: u32 },
    /// It could not build one.
    NotBuilt { worker: u32, failure: Failure },
    /// It waits for something; the rest of its batch is for others.
    Aside {
        worker: u32,
        rest: Batch<I>,
        why: Wait,
    },
    /// The cancel that it is on waits for something.
    CancelWaits { worker: u32 },
    /// It is through with its batch, or hands the rest back.
    Idle {
        worker: u32,
        rest: Batch<I>,
        pace: Option<Nanos>,
    },
    /// It has to rebuild its value first.
    Lost { worker: u32, rest: Batch<I> },
    /// This task is to be tried again, from then on and once it is cleaned up.
    Retry {
        task: TaskRef,
        input: I,
        due: Nanos,
        cleaning: bool,
    },
    /// A cancel returned.
    Cancelled {
        worker: u32,
        task: TaskRef,
        undo: usize,
        result: Result<(), Failure>,
        kept: bool,
    },
    /// It has left.
    Left { worker: u32 },
}

/// How a pool is put together.
pub(crate) struct Plan<S: Stage> {
    pub(crate) core: Arc<Core>,
    pub(crate) stage: StageIx,
    pub(crate) settings: Settings,
    pub(crate) factory: Factory<S>,
    pub(crate) copy: Option<CopyInput<S>>,
    pub(crate) hop: Hop<S::Output>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) board: Arc<Board>,
    pub(crate) grounds: Arc<Grounds>,
}

pub(crate) struct Pool<S: Stage> {
    pub(super) core: Arc<Core>,
    pub(super) stage: StageIx,
    pub(super) settings: Arc<Settings>,
    pub(super) factory: Factory<S>,
    pub(super) copy: Option<CopyInput<S>>,
    pub(super) hop: Hop<S::Output>,
    pub(super) room: Arc<Semaphore>,
    pub(super) board: Arc<Board>,
    pub(super) grounds: Arc<Grounds>,
    pub(super) queue: Queue<S::Input>,
    pub(super) cancels: VecDeque<(TaskRef, usize, u32)>,
    pub(super) staff: Staff<S>,
    /// Tasks whose end was decided while they were said to wait here, and that were not found in the
    /// queue: in a worker's hands, or on their way.
    pub(super) missing: Vec<TaskRef>,
    pub(super) wanted: usize,
    pub(super) recall: Arc<AtomicBool>,
    pub(super) throttle: Option<Throttle>,
    /// What a call takes of its thread; `None` while unknown, or where calls wait.
    pub(super) pace: Option<Nanos>,
    /// Whether the last calls waited.
    pub(super) waits: bool,
    /// Failures to build a value, in a row.
    pub(super) failures: u32,
    pub(super) down: bool,
    pub(super) timer: Option<(Nanos, SpawnHandle)>,
    closing: Option<Closing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Once the workers have nothing left.
    Gently,
    Suspended,
}

impl<S: Stage> Pool<S> {
    pub(crate) fn new(plan: Plan<S>) -> Self {
        let Plan {
            core,
            stage,
            settings,
            factory,
            copy,
            hop,
            room,
            board,
            grounds,
        } = plan;
        Pool {
            throttle: settings.rate.and_then(|rate| rate.throttle(&core.clock)),
            wanted: if settings.actor {
                settings.capacity
            } else {
                settings.workers
            },
            settings: Arc::new(settings),
            core,
            stage,
            factory,
            copy,
            hop,
            room,
            board,
            grounds,
            queue: Queue::new(stage),
            cancels: VecDeque::new(),
            staff: Staff::new(),
            missing: Vec::new(),
            recall: Arc::new(AtomicBool::new(false)),
            pace: None,
            waits: false,
            failures: 0,
            down: false,
            timer: None,
            closing: None,
        }
    }

    /// Looks at what is due, now and later.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        let mut decided = Decided::default();
        self.queue.sweep(&mut decided);
        if let Some(due) = self.queue.wake(self.core.clock.now(), &mut decided) {
            self.wake_at(due, ctx);
        }
        self.let_go(decided);
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
    }

    pub(super) fn wake_at(&mut self, due: Nanos, ctx: &mut Context<Self>) {
        if let Some((armed, handle)) = self.timer {
            if armed <= due {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = Duration::from_nanos(due.saturating_sub(self.core.clock.now()));
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
        self.staff.send_home(|| match closing {
            Closing::Gently => ToWorker::Quit,
            Closing::Suspended => ToWorker::Suspend,
        });
        self.closed(ctx);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(super) fn closed(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() && self.staff.is_gone() {
            self.core.tell_reporter(ToReporter::PoolClosed);
            ctx.stop();
        }
    }
}

// The contexts in its queue are never pinned.
impl<S: Stage> Unpin for Pool<S> {}

impl<S: Stage> Actor for Pool<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.fill_up(ctx);
    }
}

impl<S: Stage> Handler<TaskMsg<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<S::Input>, ctx: &mut Self::Context) {
        let mut decided = Decided::default();
        self.queue.push(message.batch, &mut decided);
        self.let_go(decided);
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
    }
}

impl<S: Stage> Handler<FromWorker<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: FromWorker<S::Input>, ctx: &mut Self::Context) {
        let mut decided = Decided::default();
        match message {
            FromWorker::Ready { worker } => {
                self.staff.set(worker, MemberState::Idle);
                if std::mem::take(&mut self.failures) > 0 {
                    log::info!("stage {}: workers are built again", self.settings.name);
                }
                self.down = false;
                self.board.set_health(Health::Up);
                self.count_workers();
            }
            FromWorker::NotBuilt { worker, failure } => {
                self.staff.set(worker, MemberState::Building);
                self.not_built(failure, ctx);
                self.count_workers();
            }
            FromWorker::Aside { worker, rest, why } => {
                self.queue.put_back(rest, &mut decided);
                if why == Wait::Room {
                    self.staff.set(worker, MemberState::Blocked);
                } else {
                    self.staff.set(worker, MemberState::Waiting);
                    self.pace = None;
                    self.waits = true;
                }
            }
            FromWorker::CancelWaits { worker } => {
                self.staff.set(worker, MemberState::Waiting);
            }
            FromWorker::Idle { worker, rest, pace } => {
                self.staff.set(worker, MemberState::Idle);
                self.queue.put_back(rest, &mut decided);
                // Unless it had to wait, which it has said.
                if let Some(now) = pace {
                    self.waits = false;
                    self.pace = Some(self.pace.map_or(now, |before| (before * 3 + now) / 4));
                }
            }
            FromWorker::Lost { worker, rest } => {
                self.staff.set(worker, MemberState::Building);
                self.queue.put_back(rest, &mut decided);
            }
            FromWorker::Retry {
                task,
                input,
                due,
                cleaning,
            } => {
                self.queue.rest(task.clone(), input, due);
                if !cleaning {
                    // It may have been stopped on the way, by someone who looked for it at the worker.
                    fence();
                    if task.is_decided() {
                        return self.wake(ctx);
                    }
                    self.wake_at(due, ctx);
                }
            }
            FromWorker::Cancelled {
                worker,
                task,
                undo,
                result,
                kept,
            } => {
                let state = if kept {
                    MemberState::Idle
                } else {
                    MemberState::Building
                };
                self.staff.set(worker, state);
                self.core
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
            FromWorker::Left { worker } => {
                if let Some(thread) = self.staff.strike_off(worker) {
                    self.grounds.retire(thread);
                }
                self.count_workers();
                self.let_go_of_missing();
                return self.closed(ctx);
            }
        }
        self.let_go(decided);
        self.let_go_of_missing();
        self.dispatch(ctx);
    }
}

impl<S: Stage> Handler<ToPool> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: ToPool, ctx: &mut Self::Context) {
        match message {
            ToPool::Cancel {
                task,
                undo,
                attempt,
            } => self.cancels.push_back((task, undo, attempt)),
            ToPool::Halt { worker } => {
                if let Some(member) = self.staff.member(worker) {
                    member.addr.do_send(ToWorker::Halt);
                }
                return;
            }
            ToPool::Decided(mut tasks) => {
                let mut decided = Decided::default();
                if !self.queue.purge(tasks.len(), &mut decided) {
                    let now = self.core.clock.now();
                    self.wake_at(now.saturating_add(SWEEP_NS), ctx);
                }
                self.let_go(decided);
                self.missing.append(&mut tasks);
                self.let_go_of_missing();
                if !self.queue.has_resting() {
                    return self.dispatch(ctx);
                }
                return self.wake(ctx);
            }
            ToPool::Cleaned => return self.wake(ctx),
            ToPool::Resize(workers) => {
                self.wanted = workers;
                self.fill_up(ctx);
            }
            ToPool::Look => {}
            ToPool::Close { suspend } => {
                let closing = if suspend {
                    Closing::Suspended
                } else {
                    Closing::Gently
                };
                return self.close(closing, ctx);
            }
            ToPool::Leave => {
                // A thread whose call still runs ends once that has returned.
                self.staff.abandon();
                return ctx.stop();
            }
        }
        self.dispatch(ctx);
    }
}
