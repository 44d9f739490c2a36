//! A pool: the actor that holds a stage's queue and hands batches of it to the stage's workers.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, Addr, Arbiter, AsyncContext, Context, Handler, Message, SpawnHandle,
};
use actix_rt::ArbiterHandle;
use tokio::sync::Semaphore;

use super::{
    desk::ToWorker,
    grounds::Grounds,
    queue::Queue,
    worker::{Seat, Worker},
};
use crate::{
    Failure,
    clock::Nanos,
    core::Core,
    error::FailureKind,
    guard,
    message::{Batch, Hop, TaskMsg, ToPool, ToReporter},
    policy::Throttle,
    report::{Board, Health},
    stage::Stage,
    task::{StageIx, TaskRef},
    work::{Factory, Settings},
};

/// How much work a batch holds at most: what another worker would have to wait for.
const BATCH_NS: Nanos = 100_000;
const BATCH: usize = 128;
/// Work that is done sooner than this isn't worth waking another thread for.
const WORTH_WAKING_NS: Nanos = 30_000;
/// After that many failures in a row to build a value, with no worker left, a stage is down.
const DOWN_AFTER: u32 = 10;

/// From a worker to its pool.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum FromWorker<I> {
    /// It has a stage value.
    Ready { worker: u32 },
    /// It could not build one.
    NotBuilt { worker: u32, failure: Failure },
    /// It waits for something; the rest of its batch is for others.
    Aside { worker: u32, rest: Batch<I> },
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
    pub(crate) copy: Option<fn(&S::Input) -> S::Input>,
    pub(crate) hop: Hop<S::Output>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) board: Arc<Board>,
    pub(crate) grounds: Arc<Grounds>,
}

pub(crate) struct Pool<S: Stage> {
    core: Arc<Core>,
    stage: StageIx,
    settings: Arc<Settings>,
    factory: Factory<S>,
    copy: Option<fn(&S::Input) -> S::Input>,
    hop: Hop<S::Output>,
    room: Arc<Semaphore>,
    board: Arc<Board>,
    grounds: Arc<Grounds>,
    queue: Queue<S::Input>,
    cancels: VecDeque<(TaskRef, usize, u32)>,
    workers: Vec<Option<Member<S>>>,
    wanted: usize,
    recall: Arc<AtomicBool>,
    throttle: Option<Throttle>,
    /// What a call takes of its thread; `None` while unknown, or where calls wait.
    pace: Option<Nanos>,
    /// Failures to build a value, in a row.
    failures: u32,
    down: bool,
    timer: Option<(Nanos, SpawnHandle)>,
    closing: Option<Closing>,
}

struct Member<S: Stage> {
    addr: Addr<Worker<S>>,
    state: MemberState,
    /// On the pool's own thread.
    local: bool,
    /// Runs cancels only, while every other one is busy.
    spare: bool,
    thread: Option<Arbiter>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Building,
    Idle,
    Busy,
    /// Busy, and waiting for something.
    Waiting,
    Leaving,
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
            workers: Vec::new(),
            recall: Arc::new(AtomicBool::new(false)),
            pace: None,
            failures: 0,
            down: false,
            timer: None,
            closing: None,
        }
    }

    /// Has as many workers as wanted, and asks the others to leave.
    fn staff(&mut self, ctx: &mut Context<Self>) {
        let working = |member: &Option<Member<S>>| {
            member
                .as_ref()
                .is_some_and(|m| !m.spare && m.state != MemberState::Leaving)
        };
        let mut count = self.workers.iter().filter(|member| working(member)).count();
        while count < self.wanted {
            self.hire(ctx, false);
            count += 1;
        }
        // The idle ones first: the busy ones are to finish.
        for idle in [true, false] {
            for member in self.workers.iter_mut().rev().flatten() {
                let leaves = !member.spare
                    && member.state != MemberState::Leaving
                    && (member.state == MemberState::Idle) == idle;
                if count > self.wanted && leaves {
                    member.state = MemberState::Leaving;
                    member.addr.do_send(ToWorker::Quit);
                    count -= 1;
                }
            }
        }
    }

    fn hire(&mut self, ctx: &mut Context<Self>, spare: bool) {
        let vacant = self
            .workers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.workers.len());
        let worker = vacant as u32;
        let seat = Seat {
            core: self.core.clone(),
            stage: self.stage,
            worker,
            settings: self.settings.clone(),
            factory: self.factory.clone(),
            copy: self.copy,
            pool: ctx.address(),
            hop: self.hop.clone(),
            room: self.room.clone(),
            board: self.board.clone(),
            recall: self.recall.clone(),
        };
        let (addr, local, thread) = if self.settings.blocking {
            let thread = match guard::run(Arbiter::new) {
                Ok(thread) => thread,
                Err(failure) => {
                    // Tried again like a value that can't be built.
                    self.not_built(failure, ctx);
                    let delay = self.settings.restart.delay(self.failures);
                    ctx.run_later(delay, |pool, ctx| pool.staff(ctx));
                    return;
                }
            };
            let addr = Worker::start_in_arbiter(&thread.handle(), move |_| Worker::new(seat));
            (addr, false, Some(thread))
        } else {
            let (arbiter, local) = self.grounds.place(worker as usize);
            let addr = match arbiter {
                Some(arbiter) => on(&arbiter, seat),
                None => Worker::new(seat).start(),
            };
            (addr, local, None)
        };
        let member = Member {
            addr,
            state: MemberState::Building,
            local,
            spare,
            thread,
        };
        if vacant == self.workers.len() {
            self.workers.push(Some(member));
        } else {
            self.workers[vacant] = Some(member);
        }
    }

    fn member(&mut self, worker: u32) -> Option<&mut Member<S>> {
        self.workers
            .get_mut(worker as usize)
            .and_then(Option::as_mut)
    }

    fn set_state(&mut self, worker: u32, state: MemberState) {
        if let Some(member) = self.member(worker)
            && member.state != MemberState::Leaving
        {
            member.state = state;
        }
    }

    /// An idle worker on this thread, or, unless only those are asked for, on another.
    fn idle(&self, anywhere: bool) -> Option<usize> {
        let idle = |local: bool| {
            self.workers.iter().position(|member| {
                member.as_ref().is_some_and(|member| {
                    !member.spare && member.state == MemberState::Idle && member.local == local
                })
            })
        };
        idle(true).or_else(|| anywhere.then(|| idle(false)).flatten())
    }

    fn dispatch(&mut self, ctx: &mut Context<Self>) {
        self.dispatch_cancels(ctx);
        if self.closing.is_none() && !self.core.is_paused() && !self.core.is_suspended() {
            self.dispatch_tasks(ctx);
        }
        self.board.queued.store(self.queue.len(), Ordering::Relaxed);
    }

    /// Cancels go first, to whoever is free, or else to the spare.
    fn dispatch_cancels(&mut self, ctx: &mut Context<Self>) {
        if self.core.is_suspended() {
            self.cancels.clear();
        }
        if self.down {
            for (task, undo, _) in std::mem::take(&mut self.cancels) {
                let result = Err(self.is_down());
                self.core
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
        }
        while let Some((task, undo, attempt)) = self.cancels.pop_front() {
            let free = self.idle(true).or_else(|| {
                self.workers.iter().position(|member| {
                    member
                        .as_ref()
                        .is_some_and(|m| m.spare && m.state == MemberState::Idle)
                })
            });
            let Some(member) = free.and_then(|free| self.workers[free].as_mut()) else {
                self.cancels.push_front((task, undo, attempt));
                break;
            };
            member.state = MemberState::Busy;
            member.addr.do_send(ToWorker::Cancel {
                task,
                undo,
                attempt,
            });
        }
        let waiting = !self.cancels.is_empty();
        // Who is in the middle of a batch hands the rest back, and is free.
        self.recall.store(waiting, Ordering::Relaxed);
        if waiting && !self.workers.iter().flatten().any(|member| member.spare) {
            self.hire(ctx, true);
        }
    }

    fn dispatch_tasks(&mut self, ctx: &mut Context<Self>) {
        while !self.queue.is_empty() {
            let backlog = self.queue.len() as u64 * self.pace.unwrap_or(BATCH_NS);
            let somebody_here =
                self.workers.iter().flatten().any(|member| {
                    member.local && !member.spare && member.state == MemberState::Busy
                });
            let anywhere = backlog > WORTH_WAKING_NS || !somebody_here;
            let Some(free) = self.idle(anywhere) else {
                break;
            };
            if let Some(throttle) = &self.throttle
                && let Err(delay) = throttle.take()
            {
                let due = self
                    .core
                    .clock
                    .now()
                    .saturating_add(crate::clock::nanos(delay));
                self.wake_at(due, ctx);
                break;
            }
            let batch = self.queue.take(self.batch_size());
            if let Some(member) = self.workers[free].as_mut() {
                member.state = MemberState::Busy;
                member.addr.do_send(ToWorker::Work(batch));
            }
        }
    }

    /// As much as is done in `BATCH_NS`, but where calls take their time no more than leaves
    /// something for each idle worker.
    fn batch_size(&self) -> usize {
        let Some(pace) = self.pace.filter(|_| self.throttle.is_none()) else {
            return 1;
        };
        let most = (BATCH_NS / pace.max(1)).clamp(1, BATCH as u64) as usize;
        if pace < 1_000 {
            return most;
        }
        let idle = self
            .workers
            .iter()
            .flatten()
            .filter(|member| !member.spare && member.state == MemberState::Idle)
            .count();
        most.min(self.queue.len().div_ceil(idle.max(1)))
    }

    /// Looks at what is due, now and later.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if let Some(due) = self.queue.wake(self.core.clock.now()) {
            self.wake_at(due, ctx);
        }
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
    }

    fn wake_at(&mut self, due: Nanos, ctx: &mut Context<Self>) {
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

    fn is_down(&self) -> Failure {
        let text = format!(
            "stage {} is down: its factory keeps failing",
            self.settings.name
        );
        Failure::of(FailureKind::StageDown, text)
    }

    fn built_workers(&self) -> usize {
        let built = |member: &&Member<S>| member.state != MemberState::Building && !member.spare;
        self.workers.iter().flatten().filter(built).count()
    }

    fn not_built(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.failures = self.failures.saturating_add(1);
        let error = guard::shown(&failure);
        log::warn!(
            "stage {}: a worker could not be built, {} times in a row: {error}",
            self.settings.name,
            self.failures
        );
        let failures = self.failures;
        let nobody = self.built_workers() == 0;
        if failures >= DOWN_AFTER && nobody {
            self.down = true;
            self.board.set_health(Health::Down { failures, error });
            self.fail_all();
            self.dispatch(ctx);
        } else {
            self.board.set_health(Health::Failing { failures, error });
        }
    }

    /// The stage is down: what waits for it fails.
    fn fail_all(&mut self) {
        let Batch { tasks, .. } = &self.queue.drain_waiting();
        for task in tasks {
            let mut life = task.life();
            let first = life.attempt == 1;
            let failed = life.fail(self.stage, self.is_down()).is_ok();
            drop(life);
            if first {
                self.room.add_permits(1);
            }
            if failed {
                self.core.tell_reporter(ToReporter::Stopped(task.clone()));
            }
        }
    }

    fn close(&mut self, closing: Closing, ctx: &mut Context<Self>) {
        if self.closing == Some(Closing::Suspended) || self.closing == Some(closing) {
            return;
        }
        self.closing = Some(closing);
        for member in self.workers.iter_mut().flatten() {
            member.state = MemberState::Leaving;
            member.addr.do_send(match closing {
                Closing::Gently => ToWorker::Quit,
                Closing::Suspended => ToWorker::Suspend,
            });
        }
        self.closed(ctx);
    }

    fn closed(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() && self.workers.iter().all(Option::is_none) {
            self.core.tell_reporter(ToReporter::PoolClosed);
            ctx.stop();
        }
    }

    fn count_workers(&self) {
        self.board
            .workers
            .store(self.built_workers(), Ordering::Relaxed);
    }
}

// The contexts in its queue are never pinned.
impl<S: Stage> Unpin for Pool<S> {}

fn on<S: Stage>(arbiter: &ArbiterHandle, seat: Seat<S>) -> Addr<Worker<S>> {
    Worker::start_in_arbiter(arbiter, move |_| Worker::new(seat))
}

impl<S: Stage> Actor for Pool<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.staff(ctx);
    }
}

impl<S: Stage> Handler<TaskMsg<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<S::Input>, ctx: &mut Self::Context) {
        self.queue.push(message.batch);
        if self.down {
            self.fail_all();
        }
        self.dispatch(ctx);
    }
}

impl<S: Stage> Handler<FromWorker<S::Input>> for Pool<S> {
    type Result = ();

    fn handle(&mut self, message: FromWorker<S::Input>, ctx: &mut Self::Context) {
        match message {
            FromWorker::Ready { worker } => {
                self.set_state(worker, MemberState::Idle);
                if std::mem::take(&mut self.failures) > 0 {
                    log::info!("stage {}: workers are built again", self.settings.name);
                }
                self.down = false;
                self.board.set_health(Health::Up);
                self.count_workers();
            }
            FromWorker::NotBuilt { worker, failure } => {
                self.set_state(worker, MemberState::Building);
                self.not_built(failure, ctx);
                self.count_workers();
            }
            FromWorker::Aside { worker, rest } => {
                self.set_state(worker, MemberState::Waiting);
                self.queue.put_back(rest);
                self.pace = None;
            }
            FromWorker::Idle { worker, rest, pace } => {
                self.set_state(worker, MemberState::Idle);
                self.queue.put_back(rest);
                self.pace = match (self.pace, pace) {
                    (Some(before), Some(now)) => Some((before * 3 + now) / 4),
                    (None, now) => now,
                    (Some(_), None) => None,
                };
            }
            FromWorker::Lost { worker, rest } => {
                self.set_state(worker, MemberState::Building);
                self.queue.put_back(rest);
            }
            FromWorker::Retry {
                task,
                input,
                due,
                cleaning,
            } => {
                self.queue.rest(task, input, due);
                if !cleaning {
                    return self.wake(ctx);
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
                self.set_state(worker, state);
                self.core
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
            FromWorker::Left { worker } => {
                if let Some(member) = self.workers.get_mut(worker as usize).and_then(Option::take) {
                    if let Some(thread) = member.thread {
                        self.grounds.retire(thread);
                    }
                }
                self.count_workers();
                return self.closed(ctx);
            }
        }
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
                if let Some(member) = self.member(worker) {
                    member.addr.do_send(ToWorker::Halt);
                }
                return;
            }
            ToPool::Purge(ended) => {
                let freed = self.queue.purge(ended);
                if freed > 0 {
                    self.room.add_permits(freed);
                }
                return self.wake(ctx);
            }
            ToPool::Cleaned => return self.wake(ctx),
            ToPool::Resize(workers) => {
                self.wanted = workers;
                self.staff(ctx);
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
            ToPool::Leave => return ctx.stop(),
        }
        self.dispatch(ctx);
    }
}
