//! The reporter: the actor that learns how every task ended, drives rollbacks, and ends the
//! pipeline.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
#[cfg(feature = "journal")]
use tokio::task::AbortHandle;
use tokio::task::JoinHandle;

#[cfg(feature = "journal")]
use crate::message::Debt;

use super::{
    course::{Course, Then, Waiting},
    deadline,
    ending::{Ending, Phase},
};
use crate::{
    Failure,
    core::Core,
    guard,
    ledger::{AllRecorded, Change, LedgerError},
    message::{Batch, TaskMsg, ToReporter},
    outcomes::Outcomes,
    policy::{OnStuck, Order, Retry},
    report::{Board, LAST_FAILURES, ProducerError, Report},
    task::{Answer, End, Event, Outcome, Rollback as Went, TaskRef, Undo},
};

/// What the reporter knows of a stage.
pub(crate) struct StagePolicy {
    pub(crate) cancel_retry: Retry,
    pub(crate) on_stuck: OnStuck,
    pub(crate) board: Arc<Board>,
}

pub(crate) struct Reporter {
    pub(super) core: Arc<Core>,
    pub(super) order: Order,
    pub(super) stages: Vec<StagePolicy>,
    outcomes: Arc<Outcomes>,
    /// Every rollback and clean-up under way, by the record's slot.
    pub(super) courses: HashMap<u32, Course>,
    pub(super) last_course: u64,
    last_failures: VecDeque<Outcome>,
    producer_errors: Vec<ProducerError>,
    pub(super) producers_left: usize,
    pub(super) ending: Ending,
    driver: Option<JoinHandle<()>>,
    /// See `collect`.
    #[cfg(feature = "journal")]
    collectors: Vec<AbortHandle>,
    /// Undos of ended tasks, on their way out.
    scrap: Vec<Undo>,
}

/// From the reporter to itself.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Step {
    Recorded {
        slot: u32,
        course: u64,
        result: Result<(), LedgerError>,
        then: Then,
    },
    DoneRecorded {
        tasks: Vec<TaskRef>,
        result: Result<(), LedgerError>,
    },
    Delayed {
        task: TaskRef,
        undo: usize,
    },
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
            last_course: 0,
            last_failures: VecDeque::new(),
            producer_errors: Vec::new(),
            producers_left: producers,
            ending,
            driver: None,
            #[cfg(feature = "journal")]
            collectors: Vec::new(),
            scrap: Vec::new(),
        }
    }

    /// A task has its outcome.
    pub(super) fn file(&mut self, task: &TaskRef, end: End, went: Went, ctx: &mut Context<Self>) {
        task.apply(Event::RolledBack).ok();
        let id = task.id();
        self.clear_undos(task);
        let outcome = Outcome {
            task: id,
            end,
            rollback: went,
            output: None,
        };
        if log::log_enabled!(log::Level::Debug) {
            log::debug!("{}", guard::shown(&outcome));
        }
        if let Went::Stuck(stuck) = &outcome.rollback {
            self.core.table.keep_stuck(stuck.clone());
        }
        if self.last_failures.len() == LAST_FAILURES {
            self.last_failures.pop_front();
        }
        self.last_failures.push_back(outcome.clone());
        let in_flight = self.core.table.file(task.clone(), &outcome.end);
        self.outcomes.send(&outcome);
        task.answer(Answer::Outcome(Box::new(outcome)));
        self.look_for_end(in_flight, ctx);
    }

    /// Drops what a task registered, under no lock.
    fn clear_undos(&mut self, task: &TaskRef) {
        task.clear_undos(&mut self.scrap);
        for undo in self.scrap.drain(..) {
            guard::drop_quietly(undo);
        }
    }

    /// Tasks that every stage returned in time for: nearly all of them.
    fn done<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        if self.core.ledger.is_some() {
            return self.done_on_record(batch, ctx);
        }
        let told = self.outcomes.is_listened_to() || log::log_enabled!(log::Level::Debug);
        let mut answers = Vec::new();
        for (task, output) in batch.tasks.iter().zip(batch.values.drain(..)) {
            let ticket = task.has_ticket();
            if ticket && task.wants_output() {
                task.life().output = Some(Box::new(output));
            } else {
                guard::drop_quietly(output);
            }
            if task.is_touched() {
                self.clear_undos(task);
            }
            if ticket || told {
                let outcome = Outcome {
                    task: task.id(),
                    end: End::Done,
                    rollback: Went::None,
                    output: None,
                };
                log::debug!("{outcome}");
                self.outcomes.send(&outcome);
                answers.push((task.clone(), outcome));
            }
        }
        let in_flight = self.core.table.file_done(batch.tasks.drain(..));
        // Answered once counted: who has an outcome sees it in a snapshot.
        for (task, outcome) in answers {
            task.answer(Answer::Outcome(Box::new(outcome)));
        }
        self.look_for_end(in_flight, ctx);
    }

    /// As `done`, each end recorded first.
    fn done_on_record<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        batch.reverse();
        let mut tasks = Vec::with_capacity(batch.len());
        let mut held = AllRecorded::default();
        let mut result = Ok(());
        while let Some((task, output)) = batch.pop() {
            let id = task.id();
            if task.has_ticket() && task.wants_output() {
                task.life().output = Some(Box::new(output));
            } else {
                guard::drop_quietly(output);
            }
            let change = Change::Ended {
                end: &End::Done,
                rollback: &Went::None,
            };
            match self.core.record(id, change).ready() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error),
                Err(later) => held.add(later),
            }
            tasks.push(task);
        }
        if held.is_empty() || result.is_err() {
            return self.done_recorded(tasks, result, ctx);
        }
        let to_self = ctx.address();
        actix_rt::spawn(async move {
            let result = held.wait().await;
            to_self.do_send(Step::DoneRecorded { tasks, result });
        });
    }

    pub(super) fn done_recorded(
        &mut self,
        tasks: Vec<TaskRef>,
        result: Result<(), LedgerError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = result {
            self.core.unrecorded(&error);
        }
        if self.core.is_suspended() {
            return;
        }
        let mut answers = Vec::with_capacity(tasks.len());
        for task in &tasks {
            self.clear_undos(task);
            let outcome = Outcome {
                task: task.id(),
                end: End::Done,
                rollback: Went::None,
                output: None,
            };
            log::debug!("{outcome}");
            self.outcomes.send(&outcome);
            if task.has_ticket() {
                answers.push((task.clone(), outcome));
            }
        }
        let in_flight = self.core.table.file_done(tasks.into_iter());
        for (task, outcome) in answers {
            task.answer(Answer::Outcome(Box::new(outcome)));
        }
        self.look_for_end(in_flight, ctx);
    }

    /// Room that restored tasks fill without having asked for it is given back to nobody until it
    /// has all come back.
    #[cfg(feature = "journal")]
    fn collect(&mut self, debts: Vec<Debt>) {
        for debt in debts {
            self.collectors.push(actix_rt::spawn(debt).abort_handle());
        }
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
    pub(super) fn forsake(&self, tasks: &[TaskRef], answer: impl Fn() -> Answer) {
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
        #[cfg(feature = "journal")]
        self.collectors.drain(..).for_each(|task| task.abort());
        if self.ending.phase() != Phase::Over {
            // The runtime went first.
            self.outcomes.close();
            self.core.table.refuse(crate::task::Refused::Closed);
            self.forsake(&self.core.table.live(), || Answer::Gone);
            self.ending.forsake();
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
            Step::Recorded {
                slot,
                course,
                result,
                then,
            } => {
                self.recorded_later(slot, course, result, then, ctx);
            }
            Step::DoneRecorded { tasks, result } => self.done_recorded(tasks, result, ctx),
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
            ToReporter::Await(task) => drop(actix_rt::spawn(task)),
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
            #[cfg(feature = "journal")]
            ToReporter::Resumed { task, stage } => self.resumed(task, stage, ctx),
            #[cfg(feature = "journal")]
            ToReporter::RollBack { task, cancelled } => self.roll_back(task, cancelled, ctx),
            #[cfg(feature = "journal")]
            ToReporter::Debts(debts) => self.collect(debts),
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
