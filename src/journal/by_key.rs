//! A pipeline's questions and decisions by the key of a task.

use std::sync::Arc;

use super::{
    ledger::{JournalLedger, closed},
    undo_state::UndoState,
    writer::replies::{FoundByKey, KeptEnd},
};
use crate::{
    ledger::LedgerError,
    panic_guard,
    task::{EndKind, TaskId, Undo},
};

/// The task that was found by a key.
pub(crate) enum Found {
    Unknown,
    InFlight(TaskId),
    BeingTakenBack(TaskId),
    Stuck(TaskId),
    Ended {
        task: TaskId,
        end: EndKind,
        label: Option<Arc<str>>,
        /// The undos that take it back: `None` if its undos are not kept; the error says why they can't
        /// be used.
        undos: Option<Result<Vec<Undo>, String>>,
    },
}

impl JournalLedger {
    /// The task that has ended with this key, at once.
    pub(crate) fn ended_with_key(&self, key: &str) -> Option<(TaskId, EndKind)> {
        let kept = self.keys.get(key)?;
        Some((kept.task, kept.end))
    }

    /// The task that has this key, and its undos if they are kept.
    pub(crate) async fn find(&self, key: &str) -> Result<Found, LedgerError> {
        let found = self.writer.look(key)?.await.map_err(|_| closed())??;
        Ok(self.found(found))
    }

    /// Gives the key of a task that has ended back. Returns what was there.
    pub(crate) async fn forget(&self, key: &str) -> Result<Found, LedgerError> {
        let found = self.writer.forget(key)?.await.map_err(|_| closed())??;
        Ok(self.found(without_undos(found)))
    }

    /// Records that this task, which is done, is taken back. The error is what is there instead.
    pub(crate) async fn take_back(
        &self,
        key: &str,
        task: TaskId,
    ) -> Result<Result<(), Found>, LedgerError> {
        let begun = self.writer.take_back(key, task)?;
        let begun = begun.await.map_err(|_| closed())??;
        Ok(begun.map_err(|found| self.found(without_undos(found))))
    }

    fn found(&self, found: FoundByKey) -> Found {
        match found {
            FoundByKey::Unknown => Found::Unknown,
            FoundByKey::InFlight(task) => Found::InFlight(task),
            FoundByKey::BeingTakenBack(task) => Found::BeingTakenBack(task),
            FoundByKey::Stuck(task) => Found::Stuck(task),
            FoundByKey::Ended(KeptEnd {
                task,
                end,
                label,
                undos,
                ..
            }) => Found::Ended {
                task,
                end,
                label,
                undos: undos.map(|undos| self.decoded(undos)),
            },
        }
    }

    fn decoded(&self, undos: Vec<(UndoState, Vec<u8>)>) -> Result<Vec<Undo>, String> {
        let mut decoded = Vec::with_capacity(undos.len());
        for (number, (state, value)) in undos.iter().enumerate() {
            match self.decoded_undo(number, state, value) {
                Ok(undo) => decoded.push(undo),
                Err(why) => {
                    // The user's values, whose drop may panic.
                    decoded.into_iter().for_each(panic_guard::drop_quietly);
                    return Err(why);
                }
            }
        }
        Ok(decoded)
    }

    fn decoded_undo(&self, number: usize, state: &UndoState, value: &[u8]) -> Result<Undo, String> {
        if state.is_settled() {
            return Ok(state.to_live(None));
        }
        // Stages that are gone, or have another version by now, have no codec.
        let codec = self.codecs.get(state.stage).map_err(|_| {
            format!("the stage of undo {number} is gone, or has another version by now")
        })?;
        let value = (codec.decode_undo)(value)
            .map_err(|why| format!("undo {number} can't be decoded: {why}"))?;
        Ok(state.to_live(Some(value)))
    }
}

/// The same, where nobody asks for the undos: decoded, they are the user's values, which somebody has to
/// drop.
fn without_undos(found: FoundByKey) -> FoundByKey {
    match found {
        FoundByKey::Ended(kept) => FoundByKey::Ended(KeptEnd {
            undos: None,
            ..kept
        }),
        other => other,
    }
}
