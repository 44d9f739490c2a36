//! What a course does once a change is recorded: at once where nothing is kept.

use actix::{AsyncContext, Context};

use super::Waiting;
use crate::{
    ledger::{LedgerError, Recorded},
    run::{
        reporter::{Reporter, Step},
        rollback::Policy,
    },
    task::{End, Rollback as Went},
};

/// What follows once a change is recorded.
pub(in crate::run) enum Then {
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
    /// Goes on once a change is recorded: at once where nothing is kept.
    pub(super) fn after(
        &mut self,
        slot: u32,
        recorded: Recorded,
        then: Then,
        ctx: &mut Context<Self>,
    ) {
        match recorded.ready() {
            Ok(result) => self.recorded(slot, result, then, ctx),
            Err(later) => {
                let Some(course) = self.courses.get_mut(&slot) else {
                    return;
                };
                course.waiting = match then {
                    Then::File(_) => Waiting::End,
                    _ => Waiting::Record,
                };
                let (to_self, course) = (ctx.address(), course.number);
                actix_rt::spawn(async move {
                    let result = later.await;
                    to_self.do_send(Step::Recorded {
                        slot,
                        course,
                        result,
                        then,
                    });
                });
            }
        }
    }

    /// A change of that course is recorded, which may have been given up meanwhile.
    pub(in crate::run) fn recorded_later(
        &mut self,
        slot: u32,
        course: u64,
        result: Result<(), LedgerError>,
        then: Then,
        ctx: &mut Context<Self>,
    ) {
        if self
            .courses
            .get(&slot)
            .is_some_and(|now| now.number == course)
        {
            self.recorded(slot, result, then, ctx);
        } else if let Err(error) = result {
            self.core.unrecorded(&error);
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
}
