//! The reporter: the actor that learns how every task ended, drives rollbacks, and ends the
//! pipeline.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::task::{AbortHandle, JoinHandle};

use super::{
    deadline,
    ending::{Ending, Phase},
    rollback::{Next, Policy, Rollback},
};
use crate::{
    Failure,
    core::Core,
    guard,
    ledger::{Change, LedgerError, Recorded},
    message::{Batch, TaskMsg, ToPool, ToReporter},
    outcomes::Outcomes,
    policy::{OnStuck, Order, Retry},
    report::{Board, LAST_FAILURES, ProducerError, Report},
    task::{
        Answer, End, Ended, Event, Outcome, Rollback as Went, StageIx, Stuck, StuckUndo, TaskRef,
        Undo, UndoStatus, end_of,
    },
};

/// What the reporter knows of a stage.
pub(crate) struct StagePolicy {
    pub(crate) cancel_retry: Retry,
    pub(crate) on_stuck: OnStuck,
    pub(crate) board: Arc<Board>,
}

pub(crate) struct Reporter {
    pub(super) core: Arc<Core>,
    order: Order,
    stages: Vec<StagePolicy>,
    outcomes: Arc<Outcomes>,
    /// Every rollback and clean-up under way, by the record's slot.
    courses: HashMap<u32, Course>,
    last_failures: VecDeque<Outcome>,
    producer_errors: Vec<ProducerError>,
    pub(super) producers_left: usize,
    pub(super) ending: Ending,
    driver: Option<JoinHandle<()>>,
    /// Undos of ended tasks, on their way out.
    scrap: Vec<Undo>,
}

/// A rollback or clean-up under way.
struct Course {
    task: TaskRef,
    rollback: Rollback,
    /// A clean-up: the stage's error, should it fail.
    cleaning: Option<(StageIx, Failure)>,
    /// What it waits for.
    waiting: Waiting,
    timer: Option<AbortHandle>,
}

impl Course {
    fn new(task: TaskRef, rollback: Rollback) -> Self {
        Course {
            task,
            rollback,
            cleaning: None,
            waiting: Waiting::Record,
            timer: None,
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A record, then a step.
    Record,
    /// A cancel's answer.
    Cancel(usize),
    /// The delay before another try of this undo.
    Delay(usize),
}

/// From the reporter to itself.
#[derive(Message)]
#[rtype(result = "()")]
enum Step {
    Recorded {
        slot: u32,
        result: Result<(), LedgerError>,
        then: Then,
    },
    DoneRecorded {
        task: TaskRef,
        result: Result<(), LedgerError>,
    },
    Delayed {
        task: TaskRef,
        undo: usize,
    },
}

/// What follows once a change is recorded.
enum Then {
    /// The first undo.
    Begin,
    /// This undo's cancel.
    Send(usize),
    /// The next undo, or another try.
    Settle(Option<Policy>),
    /// The outcome.
    File(Box<(End, Went)>),
}

impl Reporter {
    pub(crate) fn new(
        core: Arc<Core>,
        order: Order,
        stages: Vec<StagePolicy>,
        outcomes: Arc<Outcomes>,
        ending: Ending,
        producers: usize,
    ) -> Self {
        Reporter {
            core,
            order,
            stages,
            outcomes,
            courses: HashMap::new(),
            last_failures: VecDeque::new(),
            producer_errors: Vec::new(),
            producers_left: producers,
            ending,
            driver: None,
            scrap: Vec::new(),
        }
    }

    fn policy(&self, stage: StageIx) -> &StagePolicy {
        &self.stages[(stage as usize).min(self.stages.len() - 1)]
    }

    /// Goes on once a change is recorded: at once where nothing is kept.
    fn after(&mut self, slot: u32, recorded: Recorded, then: Then, ctx: &mut Context<Self>) {
        match recorded.ready() {
            Ok(result) => self.recorded(slot, result, then, ctx),
            Err(later) => {
                if let Some(course) = self.courses.get_mut(&slot) {
                    course.waiting = Waiting::Record;
                }
                let to_self = ctx.address();
                actix_rt::spawn(async move {
                    let result = later.await;
                    to_self.do_send(Step::Recorded { slot, result, then });
                });
            }
        }
    }

    fn recorded(
        &mut self,
        slot: u32,
        result: Result<(), LedgerError>,
        then: Then,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = result {
            self.core.unrecorded(&error);
        }
        // What is recorded last is what a file of a suspended pipeline shows.
        if self.core.is_suspended() {
            return;
        }
        match then {
            Then::Begin => {
                if let Some(course) = self.courses.get_mut(&slot) {
                    let next = course.rollback.next();
                    self.step(slot, next, ctx);
                }
            }
            Then::Send(undo) => self.send(slot, undo),
            Then::Settle(failed) => {
                if let Some(course) = self.courses.get_mut(&slot) {
                    let next = course.rollback.settle(failed);
                    self.step(slot, next, ctx);
                }
            }
            Then::File(end) => {
                if let Some(course) = self.courses.remove(&slot) {
                    let (end, went) = *end;
                    self.file(&course.task, end, went, ctx);
                }
            }
        }
    }

    /// Nothing works on this task any more: begins its rollback.
    fn stopped(&mut self, task: TaskRef, ctx: &mut Context<Self>) {
        let order = self.order;
        let slot = task.slot;
        let life = task.life();
        let Some(end) = life.end.clone() else { return };
        let id = life.id;
        let rollback = Rollback::last(&life.undos, order, |stage| self.policy(stage).on_stuck);
        drop(life);
        let change = match &*end {
            Ended::Failed(stage, failure) => Change::Failed {
                stage: *stage,
                failure,
            },
            Ended::TimedOut(stage) => Change::TimedOut { stage: *stage },
            Ended::Cancelled(stage, cause) => Change::Cancelled {
                stage: *stage,
                cause: *cause,
            },
        };
        let recorded = self.core.record(id, change);
        self.courses.insert(slot, Course::new(task, rollback));
        self.after(slot, recorded, Then::Begin, ctx);
    }

    /// An attempt failed and will be repeated: cancels what it registered first.
    fn clean_up(
        &mut self,
        task: TaskRef,
        stage: StageIx,
        failure: Failure,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        let life = task.life();
        let (id, attempt) = (life.id, life.attempt);
        let rollback = Rollback::clean_up(&life.undos, stage, attempt, self.order);
        drop(life);
        let change = Change::AttemptFailed {
            stage,
            attempt,
            failure: &failure,
        };
        let recorded = self.core.record(id, change);
        let mut course = Course::new(task, rollback);
        course.cleaning = Some((stage, failure));
        self.courses.insert(slot, course);
        self.after(slot, recorded, Then::Begin, ctx);
    }

    fn step(&mut self, slot: u32, next: Next, ctx: &mut Context<Self>) {
        // A clean-up whose task was ended meanwhile becomes the final rollback.
        let retrying = match next {
            Next::Again(undo, _) => Some(undo),
            Next::Cancel(_) | Next::Over(_) => None,
        };
        if self.interrupt(slot, retrying, ctx) {
            return;
        }
        match next {
            Next::Cancel(undo) => self.announce(slot, undo, ctx),
            Next::Again(undo, n) => {
                let Some(course) = self.courses.get(&slot) else {
                    return;
                };
                let stage = course.task.life().undos[undo].stage;
                let delay = self.policy(stage).cancel_retry.delay(n);
                let Some(course) = self.courses.get_mut(&slot) else {
                    return;
                };
                course.waiting = Waiting::Delay(undo);
                let (to_self, task) = (ctx.address(), course.task.clone());
                // Not in the context, which polls all it holds at every wake.
                let timer = actix_rt::spawn(async move {
                    tokio::time::sleep(delay).await;
                    to_self.do_send(Step::Delayed { task, undo });
                });
                course.timer = Some(timer.abort_handle());
            }
            Next::Over(left) => self.over(slot, &left, ctx),
        }
    }

    /// Records that an undo's cancel begins, then sends it.
    fn announce(&mut self, slot: u32, undo: usize, ctx: &mut Context<Self>) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        course.waiting = Waiting::Record;
        let mut life = course.task.life();
        let id = life.id;
        let entry = &mut life.undos[undo];
        entry.tries += 1;
        let attempt = entry.tries;
        drop(life);
        let recorded = self
            .core
            .record(id, Change::CancelStarted { undo, attempt });
        self.after(slot, recorded, Then::Send(undo), ctx);
    }

    fn send(&mut self, slot: u32, undo: usize) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        course.waiting = Waiting::Cancel(undo);
        let task = course.task.clone();
        let life = task.life();
        let (stage, attempt) = (life.undos[undo].stage, life.undos[undo].tries);
        drop(life);
        self.core.tell_pool(
            stage,
            ToPool::Cancel {
                task,
                undo,
                attempt,
            },
        );
    }

    fn cancel_done(
        &mut self,
        task: &TaskRef,
        undo: usize,
        result: Result<(), Failure>,
        ctx: &mut Context<Self>,
    ) {
        let slot = task.slot;
        match self.courses.get(&slot) {
            Some(course)
                if Arc::ptr_eq(&course.task, task) && course.waiting == Waiting::Cancel(undo) => {}
            // Of a task that was given up.
            _ => return,
        }
        let failure = result.err();
        let mut life = task.life();
        let (id, stage) = (life.id, life.undos[undo].stage);
        life.undos[undo].status = match &failure {
            None => UndoStatus::Cancelled,
            Some(failure) => UndoStatus::Failed(failure.clone()),
        };
        drop(life);
        let policy = self.policy(stage);
        let failed = failure.as_ref().map(|failure| Policy {
            retries: policy.cancel_retry.retries(),
            retryable: failure.is_retryable() || failure.kind() == crate::FailureKind::Panic,
            on_stuck: policy.on_stuck,
        });
        let change = Change::CancelEnded {
            undo,
            failure: failure.as_ref(),
        };
        let recorded = self.core.record(id, change);
        self.after(slot, recorded, Then::Settle(failed), ctx);
    }

    /// A clean-up whose task was ended: if no cancel is under way, begins the final rollback.
    /// `retrying` is the undo whose cancel has failed, but not for good.
    fn interrupt(&mut self, slot: u32, retrying: Option<usize>, ctx: &mut Context<Self>) -> bool {
        let Some(course) = self.courses.get(&slot) else {
            return false;
        };
        let Some((stage, _)) = course.cleaning else {
            return false;
        };
        let mut life = course.task.life();
        if life.apply(Event::Stopped(stage)).is_err() {
            return false;
        }
        if let Some(undo) = retrying.and_then(|undo| life.undos.get_mut(undo)) {
            undo.status = UndoStatus::Registered;
        }
        drop(life);
        if let Some(course) = self.courses.remove(&slot) {
            self.stopped(course.task.clone(), ctx);
            // Its pool still holds the input for the attempt that won't come.
            self.core.tell_pool(stage, ToPool::Cleaned);
        }
        true
    }

    fn over(&mut self, slot: u32, left: &[usize], ctx: &mut Context<Self>) {
        let Some(course) = self.courses.get_mut(&slot) else {
            return;
        };
        if let Some((stage, failure)) = course.cleaning.take() {
            let undone = course.rollback.cancelled() > 0;
            let task = course.task.clone();
            self.courses.remove(&slot);
            let mut life = task.life();
            if undone {
                life.generation += 1;
            }
            let on = left.is_empty() && life.apply(Event::Cleaned(stage)).is_ok();
            if on {
                life.attempt += 1;
                life.queued = self.core.clock.count();
            } else if life.fail(stage, failure).is_err() {
                // Ended from outside just now, after `step` had looked for that.
                life.apply(Event::Stopped(stage)).ok();
            }
            drop(life);
            if !on {
                self.stopped(task, ctx);
            }
            self.core.tell_pool(stage, ToPool::Cleaned);
            return;
        }
        let went = if left.is_empty() {
            match course.rollback.cancelled() {
                0 => Went::None,
                undos => Went::Complete { undos },
            }
        } else {
            Went::Stuck(stuck(&self.core, &course.task, left, None))
        };
        let task = course.task.clone();
        self.conclude(&task, went, ctx);
    }

    /// Records a task's end, then files it.
    fn conclude(&mut self, task: &TaskRef, went: Went, ctx: &mut Context<Self>) {
        let life = task.life();
        let id = life.id;
        let Some(end) = end_of(&life, &self.core.stages) else {
            return;
        };
        drop(life);
        let recorded = self.core.record(
            id,
            Change::Ended {
                end: &end,
                rollback: &went,
            },
        );
        self.after(task.slot, recorded, Then::File(Box::new((end, went))), ctx);
    }

    /// A task has its outcome.
    fn file(&mut self, task: &TaskRef, end: End, went: Went, ctx: &mut Context<Self>) {
        let mut life = task.life();
        life.apply(Event::RolledBack).ok();
        let id = life.id;
        self.scrap.append(&mut life.undos);
        drop(life);
        self.clear_scrap();
        let outcome = Outcome {
            task: id,
            end,
            rollback: went,
            output: None,
        };
        if log::log_enabled!(log::Level::Debug) {
            log::debug!("{}", guard::shown(&outcome));
        }
        self.core.table.keep_stuck(&outcome.rollback);
        if self.last_failures.len() == LAST_FAILURES {
            self.last_failures.pop_front();
        }
        self.last_failures.push_back(outcome.clone());
        let in_flight = self.core.table.file(std::iter::once((task, &outcome.end)));
        self.outcomes.send(&outcome);
        task.answer(Answer::Outcome(Box::new(outcome)));
        self.look_for_end(in_flight, ctx);
    }

    fn clear_scrap(&mut self) {
        for undo in self.scrap.drain(..) {
            guard::drop_quietly(undo);
        }
    }

    /// Tasks that every stage returned in time for: nearly all of them.
    fn done<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        if self.core.ledger.is_some() {
            return self.done_on_record(batch, ctx);
        }
        let debug = log::log_enabled!(log::Level::Debug);
        let listened = self.outcomes.is_listened_to();
        batch.reverse();
        let mut tasks = Vec::with_capacity(batch.len());
        while let Some((task, output)) = batch.pop() {
            let mut life = task.life();
            self.scrap.append(&mut life.undos);
            let wants_output = life.wants_output;
            let id = life.id;
            if wants_output {
                life.output = Some(Box::new(output));
                drop(life);
            } else {
                drop(life);
                guard::drop_quietly(output);
            }
            // The table's hold, this one, and a ticket's.
            if Arc::strong_count(&task) > 2 || listened || debug {
                let outcome = Outcome {
                    task: id,
                    end: End::Done,
                    rollback: Went::None,
                    output: None,
                };
                log::debug!("{outcome}");
                if listened {
                    self.outcomes.send(&outcome);
                }
                tasks.push((task, Some(outcome)));
            } else {
                tasks.push((task, None));
            }
        }
        self.clear_scrap();
        let in_flight = self
            .core
            .table
            .file_done(tasks.iter().map(|(task, _)| task));
        // Answered once counted: who has an outcome sees it in a snapshot.
        for (task, outcome) in tasks {
            if let Some(outcome) = outcome {
                task.answer(Answer::Outcome(Box::new(outcome)));
            }
        }
        self.look_for_end(in_flight, ctx);
    }

    /// As `done`, each end recorded first.
    fn done_on_record<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        batch.reverse();
        while let Some((task, output)) = batch.pop() {
            let mut life = task.life();
            let id = life.id;
            if life.wants_output {
                life.output = Some(Box::new(output));
                drop(life);
            } else {
                drop(life);
                guard::drop_quietly(output);
            }
            let change = Change::Ended {
                end: &End::Done,
                rollback: &Went::None,
            };
            let recorded = self.core.record(id, change);
            let to_self = ctx.address();
            match recorded.ready() {
                Ok(result) => self.done_recorded(&task, result, ctx),
                Err(later) => {
                    actix_rt::spawn(async move {
                        let result = later.await;
                        to_self.do_send(Step::DoneRecorded { task, result });
                    });
                }
            }
        }
    }

    fn done_recorded(
        &mut self,
        task: &TaskRef,
        result: Result<(), LedgerError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = result {
            self.core.unrecorded(&error);
        }
        if self.core.is_suspended() {
            return;
        }
        let mut life = task.life();
        let id = life.id;
        self.scrap.append(&mut life.undos);
        drop(life);
        self.clear_scrap();
        let outcome = Outcome {
            task: id,
            end: End::Done,
            rollback: Went::None,
            output: None,
        };
        log::debug!("{outcome}");
        let in_flight = self.core.table.file_done(std::iter::once(task));
        self.outcomes.send(&outcome);
        task.answer(Answer::Outcome(Box::new(outcome)));
        self.look_for_end(in_flight, ctx);
    }

    /// Gives up a task whose call has not returned: it ends stuck, its undos listed, not run.
    pub(super) fn give_up(&mut self, task: &TaskRef, ctx: &mut Context<Self>) {
        let life = task.life();
        if !life.is_live() {
            return;
        }
        let Some(end) = end_of(&life, &self.core.stages) else {
            return;
        };
        let running = match life.state {
            crate::task::State::Stopping(stage) => Some(stage),
            _ => None,
        };
        let mut left: Vec<usize> = (0..life.undos.len())
            .filter(|n| {
                matches!(
                    life.undos[*n].status,
                    UndoStatus::Registered | UndoStatus::Failed(_)
                )
            })
            .collect();
        let id = life.id;
        drop(life);
        if self.order == Order::Lifo {
            left.reverse();
        }
        let went = Went::Stuck(stuck(&self.core, task, &left, running));
        log::warn!("task {id} is given up: {went}");
        let mut life = task.life();
        if let Some(stage) = running {
            life.apply(Event::Stopped(stage)).ok();
        }
        drop(life);
        // In place of the course it may have been on.
        let over = Rollback::last(&[], self.order, |_| OnStuck::Continue);
        self.courses
            .insert(task.slot, Course::new(task.clone(), over));
        let recorded = self.core.record(
            id,
            Change::Ended {
                end: &end,
                rollback: &went,
            },
        );
        self.after(task.slot, recorded, Then::File(Box::new((end, went))), ctx);
    }

    pub(super) fn report(&mut self, suspended: Option<Arc<str>>) -> Report {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
        Report {
            pipeline: self.core.name.clone(),
            counts: self.core.table.counts(),
            elapsed: std::time::Duration::from_nanos(self.core.clock.now()),
            stages: self
                .stages
                .iter()
                .zip(&self.core.stages)
                .map(|(stage, name)| stage.board.report(name))
                .collect(),
            producer_errors: std::mem::take(&mut self.producer_errors),
            last_failures: std::mem::take(&mut self.last_failures).into(),
            stuck: self.core.table.stuck(),
            suspended,
        }
    }

    /// Every task that has no outcome gets this answer instead: the runtime is gone, or the ledger.
    fn forsake(&self, tasks: &[TaskRef], answer: impl Fn() -> Answer) {
        for task in tasks {
            task.answer(answer());
        }
    }

    pub(super) fn suspend(&mut self, why: &Arc<str>) {
        let tasks = self.core.table.suspend();
        self.courses.clear();
        self.forsake(&tasks, || Answer::Suspended(why.clone()));
    }
}

/// What is left of a task, for a person.
fn stuck(core: &Core, task: &TaskRef, left: &[usize], running: Option<StageIx>) -> Stuck {
    let undos = left
        .iter()
        .filter_map(|number| {
            let mut life = task.life();
            let undo = life.undos.get_mut(*number)?;
            let stage = core.stage_name(undo.stage).clone();
            let error = match &undo.status {
                UndoStatus::Failed(failure) => Some(failure.clone()),
                _ => None,
            };
            let value = undo.value.take();
            drop(life);
            // Printing an undo is the user's code, as is printing an error.
            let shown = match &value {
                Some(value) => guard::run(|| value.debug())
                    .unwrap_or_else(|_| "(printing it panicked)".to_owned()),
                None => "(its cancel is still running)".to_owned(),
            };
            if let Some(undo) = task.life().undos.get_mut(*number) {
                undo.value = value;
            }
            let error = error.map_or("not tried".to_owned(), |failure| guard::shown(&failure));
            Some(StuckUndo {
                stage,
                undo: shown,
                error,
            })
        })
        .collect();
    let still_running = running.map(|stage| core.stage_name(stage).clone());
    Stuck {
        task: task.id(),
        still_running,
        undos,
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.driver = Some(actix_rt::spawn(deadline::drive(self.core.clone())));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.ending.leave();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
        if self.ending.phase() != Phase::Over {
            // The runtime went first.
            self.core.table.refuse(crate::task::Refused::Closed);
            self.forsake(&self.core.table.live(), || Answer::Gone);
        }
    }
}

impl<O: Send + 'static> Handler<TaskMsg<O>> for Reporter {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<O>, ctx: &mut Self::Context) {
        self.done(message.batch, ctx);
    }
}

impl Handler<Step> for Reporter {
    type Result = ();

    fn handle(&mut self, step: Step, ctx: &mut Self::Context) {
        match step {
            Step::Recorded { slot, result, then } => self.recorded(slot, result, then, ctx),
            Step::DoneRecorded { task, result } => self.done_recorded(&task, result, ctx),
            Step::Delayed { task, undo } => {
                let slot = task.slot;
                let due = self.courses.get(&slot).is_some_and(|course| {
                    Arc::ptr_eq(&course.task, &task) && course.waiting == Waiting::Delay(undo)
                });
                if due {
                    self.announce(slot, undo, ctx);
                }
            }
        }
    }
}

impl Handler<ToReporter> for Reporter {
    type Result = ();

    fn handle(&mut self, message: ToReporter, ctx: &mut Self::Context) {
        if self.core.is_suspended() && message.is_about_a_task() {
            return;
        }
        match message {
            ToReporter::Stopped(task) => self.stopped(task, ctx),
            ToReporter::CleanUp {
                task,
                stage,
                failure,
            } => {
                self.clean_up(task, stage, failure, ctx);
            }
            ToReporter::Interrupted(task) => {
                let waiting = self.courses.get(&task.slot).map(|course| course.waiting);
                if let Some(Waiting::Delay(undo)) = waiting {
                    self.interrupt(task.slot, Some(undo), ctx);
                }
            }
            ToReporter::CancelDone { task, undo, result } => {
                self.cancel_done(&task, undo, result, ctx);
            }
            ToReporter::ProducerEnded { name, result } => {
                self.producers_left = self.producers_left.saturating_sub(1);
                if let Err(failure) = result
                    && !(self.ending.phase() != Phase::Open && is_closed(&failure))
                {
                    self.producer_errors.push(ProducerError {
                        producer: name,
                        failure,
                    });
                }
                self.look_for_end(self.core.table.counts().in_flight(), ctx);
            }
            ToReporter::Deserted => self.deserted(ctx),
            ToReporter::ShutDown(how) => self.shut_down(how, ctx),
            ToReporter::Unrecorded(why) => self.unrecorded(why, ctx),
            ToReporter::PoolClosed => self.pool_closed(ctx),
        }
    }
}

/// A producer that ended because the pipeline did has not failed.
fn is_closed(failure: &Failure) -> bool {
    failure.error().to_string() == crate::error::CLOSED
}
