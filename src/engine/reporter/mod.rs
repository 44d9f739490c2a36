//! The reporter: the actor that learns how every task ended, drives rollbacks, and ends the
//! pipeline.
//!
//! [`done`] is the end of nearly every task. All others are rolled back by [`rollback_driver`], in the
//! order that [`rollback_plan`] says; [`after_record`] is what it does once a change is recorded,
//! [`stuck`] what is left to a person, [`retry`] another try of it. [`suspects`] go on one at a time. By
//! [`release`] a task that has not begun is left to another process.
//! [`shutdown`] is how the pipeline ends.

mod done;
mod rollback_driver;
pub(crate) mod rollback_plan;
mod after_record;
mod stuck;
mod retry;
mod suspects;
mod timeline;
#[cfg(feature = "journal")]
mod release;
pub(crate) mod shutdown;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Context, Handler, Message};
use tokio::task::{AbortHandle, JoinHandle};

use self::{
    after_record::AfterRecord,
    retry::StuckRetries,
    rollback_driver::{ActiveRollback, WaitingFor},
    shutdown::{Phase, ShutdownState},
    suspects::Suspects,
};
use crate::{
    engine::deadline_driver,
    failure::Failure,
    ledger::LedgerError,
    logging, panic_guard,
    policy::{OnStuck, Order, Retry},
    report::{Events, LAST_FAILURES, OutcomeFeed, ProducerError, Report, StageStats},
    shared::{
        Shared,
        messages::{Detached, ToReporter},
    },
    submit::{CLOSED, answer},
    task::{End, Outcome, Refusal, Rollback, StuckTask, TaskId, TaskRef, TicketAnswer, Undo},
};

/// A stage as the reporter knows it.
pub(crate) struct StagePolicy {
    pub(crate) cancel_retry: Retry,
    pub(crate) on_stuck: OnStuck,
    pub(crate) stats: Arc<StageStats>,
}

pub(crate) struct Reporter {
    shared: Arc<Shared>,
    order: Order,
    stages: Vec<StagePolicy>,
    outcomes: Arc<OutcomeFeed>,
    /// Every rollback and clean-up under way, by the record's slot.
    rollbacks: HashMap<u32, ActiveRollback>,
    last_rollback: u64,
    suspects: Suspects,
    last_failures: VecDeque<Outcome>,
    producer_errors: Vec<ProducerError>,
    producers_left: usize,
    shutdown: ShutdownState,
    deadline_driver: Option<JoinHandle<()>>,
    /// See `collect_room`.
    collectors: Vec<AbortHandle>,
    /// Default: stuck tasks wait for a person.
    retry_stuck: Option<Retry>,
    stuck_retries: HashMap<TaskId, StuckRetries>,
    /// Memory for the steps of rollbacks to come.
    spare_steps: Vec<Events>,
    /// Undos of ended tasks, on their way out.
    scrap: Vec<Undo>,
}

/// From the reporter to itself.
#[derive(Message)]
#[rtype(result = "()")]
enum ToSelf {
    Recorded {
        slot: u32,
        /// The number of the rollback, which may have been given up meanwhile.
        rollback: u64,
        result: Result<(), LedgerError>,
        then: AfterRecord,
    },
    DoneRecorded {
        tasks: Vec<TaskRef>,
        result: Result<(), LedgerError>,
    },
    /// The delay before another try of this undo has passed.
    Delayed { task: TaskRef, undo: usize },
    /// The delay before another try of this stuck task has passed.
    RetryStuck(TaskId),
}

impl Reporter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        order: Order,
        retry_stuck: Option<Retry>,
        stages: Vec<StagePolicy>,
        outcomes: Arc<OutcomeFeed>,
        shutdown: ShutdownState,
        producers: usize,
    ) -> Self {
        Reporter {
            shared,
            order,
            stages,
            outcomes,
            rollbacks: HashMap::new(),
            last_rollback: 0,
            suspects: Suspects::default(),
            last_failures: VecDeque::new(),
            producer_errors: Vec::new(),
            producers_left: producers,
            shutdown,
            deadline_driver: None,
            collectors: Vec::new(),
            retry_stuck,
            stuck_retries: HashMap::new(),
            spare_steps: Vec::new(),
            scrap: Vec::new(),
        }
    }

    /// A task that is not done has its outcome.
    fn file(
        &mut self,
        mut active: ActiveRollback,
        end: End,
        rollback: Rollback,
        ctx: &mut Context<Self>,
    ) {
        let (task, undone) = (&active.task, active.plan.undone());
        // Nobody looks at its undos from now on.
        self.shared.table.lent.end(task);
        let id = task.id();
        let outcome = Outcome::new(id, task.names(), end, rollback);
        if outcome.rollback.is_stuck() {
            logging::warning!("{}", panic_guard::shown(&outcome));
        } else if logging::is_on(log::Level::Debug) {
            logging::debug!("{}", panic_guard::shown(&outcome));
        }
        let rollback_time = self.keep_timeline(&active);
        if let Rollback::Stuck(stuck) = &outcome.rollback {
            let mut details = task.details();
            let (why, undos) = (details.end.as_deref().cloned(), details.undos.take());
            drop(details);
            let stuck = StuckTask::new(stuck.clone(), why, undos, undone);
            self.shared.table.keep_stuck(stuck);
        }
        // Only now: by its key it is always found, in flight or stuck.
        self.shared.keyed.remove(task);
        self.clear_undos(task);
        self.plan_retry(&outcome, ctx);
        if self.last_failures.len() == LAST_FAILURES {
            self.last_failures.pop_front();
        }
        self.last_failures.push_back(outcome.clone());
        let board = &self.shared.board;
        board.rolled_back(rollback_time);
        board
            .ended
            .add(outcome.clone(), Duration::from_nanos(rollback_time));
        let in_flight = self.shared.table.file(task.clone(), &outcome.end);
        self.outcomes.send(&outcome);
        answer(task, TicketAnswer::Outcome(Box::new(outcome)));
        self.spare(std::mem::take(&mut active.steps));
        self.suspect_ended(id, ctx);
        self.end_if_empty(in_flight, ctx);
    }

    /// Drops the undos that a task has registered, under no lock.
    fn clear_undos(&mut self, task: &TaskRef) {
        task.clear_undos(&mut self.scrap);
        for undo in self.scrap.drain(..) {
            panic_guard::drop_quietly(undo);
        }
    }

    /// Takes the room that some tasks fill out of the semaphores, as it comes back: they have not asked
    /// for it.
    fn collect_room(&mut self, collectors: Vec<Detached>) {
        self.collectors.retain(|collector| !collector.is_finished());
        for collector in collectors {
            self.collectors
                .push(actix_rt::spawn(collector).abort_handle());
        }
    }

    fn producer_ended(&mut self, producer: Arc<str>, result: Result<(), Failure>) {
        self.producers_left = self.producers_left.saturating_sub(1);
        // A producer that ended because the pipeline did has not failed.
        let is_closed =
            |failure: &Failure| panic_guard::printed(|| failure.error().to_string()) == CLOSED;
        if let Err(failure) = result
            && !(self.shutdown.phase() != Phase::Open && is_closed(&failure))
        {
            self.producer_errors
                .push(ProducerError { producer, failure });
        }
    }

    fn report(&mut self, suspended: Option<Arc<str>>) -> Report {
        if let Some(driver) = self.deadline_driver.take() {
            driver.abort();
        }
        let elapsed = self.shared.clock.now();
        self.shared.board.set_ended(elapsed);
        Report {
            pipeline: self.shared.name.clone(),
            counts: self.shared.table.counts(),
            elapsed: Duration::from_nanos(elapsed),
            stages: self
                .stages
                .iter()
                .zip(&self.shared.stages)
                .map(|(stage, name)| stage.stats.report(name))
                .collect(),
            producer_errors: std::mem::take(&mut self.producer_errors),
            last_failures: std::mem::take(&mut self.last_failures).into(),
            stuck: self.shared.table.stuck(),
            suspended,
        }
    }

    /// Leaves every task where it is, and tells their tickets.
    fn suspend(&mut self, why: &Arc<str>) {
        let tasks = self.shared.table.suspend();
        self.rollbacks.clear();
        self.suspects.clear();
        for task in &tasks {
            answer(task, TicketAnswer::Suspended(why.clone()));
        }
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The places of tasks in flight bound what can come in.
        ctx.set_mailbox_capacity(0);
        let driver = deadline_driver::drive(self.shared.clone());
        self.deadline_driver = Some(actix_rt::spawn(driver));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.shutdown.leave();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(driver) = self.deadline_driver.take() {
            driver.abort();
        }
        self.collectors.drain(..).for_each(|task| task.abort());
        if self.shutdown.phase() != Phase::Over {
            // The runtime went first.
            self.shared.board.set_ended(self.shared.clock.now());
            self.outcomes.close();
            self.shared.table.refuse(Refusal::Closed);
            for task in self.shared.table.live() {
                answer(&task, TicketAnswer::Gone);
            }
            self.shutdown.runtime_gone();
        }
    }
}

impl Handler<ToSelf> for Reporter {
    type Result = ();

    fn handle(&mut self, message: ToSelf, ctx: &mut Self::Context) {
        match message {
            ToSelf::Recorded {
                slot,
                rollback,
                result,
                then,
            } => self.recorded_later(slot, rollback, result, then, ctx),
            ToSelf::DoneRecorded { tasks, result } => self.done_recorded(tasks, result, ctx),
            ToSelf::Delayed { task, undo } => {
                let due = self.rollbacks.get(&task.slot).is_some_and(|active| {
                    Arc::ptr_eq(&active.task, &task)
                        && active.waiting_for == WaitingFor::Delay(undo)
                });
                if due {
                    self.record_cancel(task.slot, undo, ctx);
                }
            }
            ToSelf::RetryStuck(task) => self.retry_now(task),
        }
    }
}

impl Handler<ToReporter> for Reporter {
    type Result = ();

    fn handle(&mut self, message: ToReporter, ctx: &mut Self::Context) {
        if self.shared.is_suspended() && message.is_about_a_task() {
            return;
        }
        match message {
            ToReporter::Stopped(task) => self.stopped(task, ctx),
            ToReporter::CleanUp {
                task,
                stage,
                failure,
            } => self.clean_up(task, stage, failure, ctx),
            ToReporter::StoppedWhileCleaning(task) => {
                let active = self.rollbacks.get(&task.slot);
                match active.map(|active| active.waiting_for) {
                    Some(WaitingFor::Delay(undo)) => {
                        self.interrupt_clean_up(task.slot, Some(undo), ctx);
                    }
                    Some(WaitingFor::Turn) => {
                        self.interrupt_clean_up(task.slot, None, ctx);
                    }
                    _ => {}
                }
            }
            ToReporter::CancelDone { task, undo, result } => {
                self.cancel_done(&task, undo, result, ctx);
            }
            ToReporter::RunDetached(task) => drop(actix_rt::spawn(task)),
            ToReporter::ProducerEnded { name, result } => {
                self.producer_ended(name, result);
                self.end_if_empty(self.shared.table.counts().in_flight(), ctx);
            }
            #[cfg(feature = "journal")]
            ToReporter::CleanUpRestored { task, stage } => {
                self.clean_up_restored(task, stage, ctx);
            }
            #[cfg(feature = "journal")]
            ToReporter::RollBackRestored { task, undone } => {
                self.roll_back_restored(task, undone, ctx);
            }
            #[cfg(feature = "journal")]
            ToReporter::StuckRestored => self.plan_retries(ctx),
            ToReporter::Revoked => self.end_if_empty(self.shared.table.counts().in_flight(), ctx),
            ToReporter::Reopened(reopened, recorded) => self.reopened(reopened, recorded, ctx),
            #[cfg(feature = "journal")]
            ToReporter::Suspect { task, undo } => self.suspect(&task, undo),
            #[cfg(feature = "journal")]
            ToReporter::CollectRoom(collectors) => self.collect_room(collectors),
            #[cfg(feature = "journal")]
            ToReporter::Adopt(adopt) => {
                // Otherwise they are left to another process, once this one has gone.
                let goes_on = matches!(self.shutdown.phase(), Phase::Open | Phase::Draining);
                if goes_on && !self.shared.is_suspended() {
                    adopt();
                }
            }
            ToReporter::AllHandlesDropped => self.all_handles_dropped(ctx),
            ToReporter::ShutDown(how) => self.shut_down(how, ctx),
            ToReporter::LedgerFailed(why) => self.ledger_failed(why, ctx),
            ToReporter::PoolClosed => self.pool_closed(ctx),
        }
    }
}
