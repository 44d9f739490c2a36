//! Tasks that every stage returned in time for, which are nearly all of them: the end of their way.

use actix::{AsyncContext, Context, Handler};

use super::{Reporter, ToSelf};
use crate::{
    ledger::{AllRecorded, Change, LedgerError},
    logging, panic_guard,
    shared::hop::{Batch, TaskMsg},
    submit::answer,
    task::{End, Outcome, Rollback, TaskRef, TicketAnswer},
};

impl<O: Send + 'static> Handler<TaskMsg<O>> for Reporter {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<O>, ctx: &mut Self::Context) {
        if self.shared.ledger.is_some() {
            self.record_done(message.batch, ctx);
        } else {
            self.done(message.batch, ctx);
        }
    }
}

impl Reporter {
    fn done<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        let told = self.outcomes.is_listened_to() || logging::is_on(log::Level::Debug);
        let mut answers = Vec::new();
        if !self.shared.is_plain {
            self.keep_chosen(&batch.tasks);
        }
        for (task, output) in batch.tasks.iter().zip(batch.values.drain(..)) {
            keep_output(task, output);
            if task.has_details() {
                self.clear_undos(task);
            }
            let ticket = task.has_ticket();
            if ticket || told {
                let outcome = Outcome::done(task.id(), task.names());
                logging::debug!("{outcome}");
                self.outcomes.send(&outcome);
                answers.push((task.clone(), outcome));
            }
        }
        let in_flight = self.shared.table.file_done(batch.tasks.drain(..));
        self.answer_done(answers, in_flight, ctx);
    }

    /// As `done`, once each end is recorded.
    fn record_done<O: Send + 'static>(&mut self, mut batch: Batch<O>, ctx: &mut Context<Self>) {
        batch.reverse();
        let mut tasks = Vec::with_capacity(batch.len());
        let mut unrecorded = AllRecorded::default();
        let mut result = Ok(());
        while let Some((task, output)) = batch.pop() {
            let id = task.id();
            keep_output(&task, output);
            let change = Change::Ended {
                end: &End::Done,
                rollback: &Rollback::None,
            };
            match self.shared.record(id, change).ready() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error),
                Err(later) => unrecorded.add(later),
            }
            tasks.push(task);
        }
        if unrecorded.is_empty() || result.is_err() {
            return self.done_recorded(tasks, result, ctx);
        }
        let to_self = ctx.address();
        actix_rt::spawn(async move {
            let result = unrecorded.wait().await;
            to_self.do_send(ToSelf::DoneRecorded { tasks, result });
        });
    }

    pub(super) fn done_recorded(
        &mut self,
        tasks: Vec<TaskRef>,
        result: Result<(), LedgerError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = result {
            self.shared.suspend(&error);
        }
        if self.shared.is_suspended() {
            return;
        }
        let mut answers = Vec::with_capacity(tasks.len());
        self.keep_chosen(&tasks);
        for task in &tasks {
            self.clear_undos(task);
            self.shared.keyed.remove(task);
            let outcome = Outcome::done(task.id(), task.names());
            logging::debug!("{outcome}");
            self.outcomes.send(&outcome);
            if task.has_ticket() {
                answers.push((task.clone(), outcome));
            }
        }
        let suspect = self.suspects.current_of(&tasks);
        let in_flight = self.shared.table.file_done(tasks.into_iter());
        if let Some(suspect) = suspect {
            self.suspect_ended(suspect, ctx);
        }
        self.answer_done(answers, in_flight, ctx);
    }

    /// Has the recorder, if there is one, throw away the events of these tasks, or keep them.
    #[cold]
    fn keep_chosen(&self, tasks: &[TaskRef]) {
        let board = &self.shared.board;
        if let Some(recorder) = &board.recorder {
            for task in tasks {
                recorder.done(task, |events| {
                    board.timelines.keep(task.id(), events, true);
                });
            }
        }
    }

    /// Answers tickets once their tasks are counted: a caller who has an outcome sees it in a snapshot.
    fn answer_done(
        &mut self,
        answers: Vec<(TaskRef, Outcome)>,
        in_flight: u64,
        ctx: &mut Context<Self>,
    ) {
        for (task, outcome) in answers {
            answer(&task, TicketAnswer::Outcome(Box::new(outcome)));
        }
        self.end_if_empty(in_flight, ctx);
    }
}

/// Keeps the last stage's output for a ticket that wants it.
fn keep_output<O: Send + 'static>(task: &TaskRef, output: O) {
    if task.has_ticket() && task.wants_output() {
        task.details().output = Some(Box::new(output));
    } else {
        panic_guard::drop_quietly(output);
    }
}
