//! A rollback goes on once a change is recorded: at once where there is no ledger.

use actix::{AsyncContext, Context};

use super::{Reporter, ToSelf, rollback_driver::WaitingFor, rollback_plan::FailedCancel};
use crate::{
    ledger::{LedgerError, Recorded},
    task::{End, Rollback},
};

/// The step that follows once a change is recorded.
pub(super) enum AfterRecord {
    /// Begin with the first undo.
    Begin,
    /// Send the `Cancel` of this undo.
    SendCancel(usize),
    /// Go on to the next undo, or try this one again.
    Settle(Option<FailedCancel>),
    /// It is another process's.
    #[cfg(feature = "journal")]
    Release,
    /// File the outcome.
    File(Box<(End, Rollback)>),
}

impl Reporter {
    /// Goes on once a change is recorded: at once where there is no ledger.
    pub(super) fn after(
        &mut self,
        slot: u32,
        recorded: Recorded,
        then: AfterRecord,
        ctx: &mut Context<Self>,
    ) {
        match recorded.ready() {
            Ok(result) => self.recorded(slot, result, then, ctx),
            Err(later) => {
                let Some(active) = self.rollbacks.get_mut(&slot) else {
                    return;
                };
                active.waiting_for = match then {
                    AfterRecord::File(_) => WaitingFor::EndRecord,
                    #[cfg(feature = "journal")]
                    AfterRecord::Release => WaitingFor::EndRecord,
                    _ => WaitingFor::Record,
                };
                let (to_self, rollback) = (ctx.address(), active.number);
                actix_rt::spawn(async move {
                    let result = later.await;
                    to_self.do_send(ToSelf::Recorded {
                        slot,
                        rollback,
                        result,
                        then,
                    });
                });
            }
        }
    }

    /// A change of that rollback is recorded, which may have been given up meanwhile.
    pub(super) fn recorded_later(
        &mut self,
        slot: u32,
        rollback: u64,
        result: Result<(), LedgerError>,
        then: AfterRecord,
        ctx: &mut Context<Self>,
    ) {
        let active = self.rollbacks.get(&slot);
        if active.is_some_and(|active| active.number == rollback) {
            self.recorded(slot, result, then, ctx);
        } else if let Err(error) = result {
            self.shared.suspend(&error);
        }
    }

    fn recorded(
        &mut self,
        slot: u32,
        result: Result<(), LedgerError>,
        then: AfterRecord,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = result {
            self.shared.suspend(&error);
        }
        // The last record is what the journal of a suspended pipeline shows: nothing may follow it.
        if self.shared.is_suspended() {
            return;
        }
        match then {
            AfterRecord::Begin => {
                if self.waits_for_turn(slot, ctx) {
                    return;
                }
                if let Some(active) = self.rollbacks.get_mut(&slot) {
                    let next = active.plan.next();
                    self.step(slot, next, ctx);
                }
            }
            AfterRecord::SendCancel(undo) => self.send_cancel(slot, undo),
            AfterRecord::Settle(failed) => {
                if let Some(active) = self.rollbacks.get_mut(&slot) {
                    let next = active.plan.settle(failed);
                    self.step(slot, next, ctx);
                }
            }
            #[cfg(feature = "journal")]
            AfterRecord::Release => {
                if let Some(active) = self.rollbacks.remove(&slot) {
                    self.released(&active.task, ctx);
                }
            }
            AfterRecord::File(outcome) => {
                if let Some(active) = self.rollbacks.remove(&slot) {
                    let (end, rollback) = *outcome;
                    self.file(active, end, rollback, ctx);
                }
            }
        }
    }
}
