//! Questions and decisions by the key of a task.

use super::{
    commit_builder::CommitBuilder,
    replies::{FoundByKey, KeptEnd, StoredOutcome},
    requests::ByKey,
    store_slot::StoreSlot,
};
use crate::{
    journal::{
        corrupt::Corrupt,
        entry::Entry,
        key_index::KeyChange,
        key_rules::Ended,
        rows::keyed_outcome::KeyedOutcome,
        store::{Elsewhere, RowOp, StoreError},
        undo_state::UndoState,
    },
    ledger::LedgerError,
    task::{EndKind, StageIx, TaskId},
};

impl CommitBuilder {
    /// Refuses a task whose key is that of another one, with or without an outcome.
    pub(super) fn check_key(
        &mut self,
        entry: &Entry,
        store: &mut StoreSlot,
    ) -> Result<Result<(), LedgerError>, String> {
        let Entry::Accepted {
            key: Some(key),
            digest,
            ..
        } = entry
        else {
            return Ok(Ok(()));
        };
        let owner = match self.tasks.with_key(key) {
            Some(live) => Some((live.task, live.digest)),
            // The commit will say so.
            None if store.is_shared && !self.is_unwritten(key) => None,
            None => {
                let kept = self.find_kept(key, store)?;
                let has_key = |kept: &KeyedOutcome| {
                    self.rules.taken_by == Ended::Any || kept.outcome.is_done()
                };
                kept.filter(has_key)
                    .map(|kept| (kept.outcome.task, kept.digest))
            }
        };
        let Some((owner, its_digest)) = owner else {
            return Ok(Ok(()));
        };
        let differ = its_digest.zip(*digest).is_some_and(|(its, own)| its != own);
        Ok(Err(match self.rules.same_context && differ {
            true => LedgerError::conflict(owner),
            false => LedgerError::known(owner),
        }))
    }

    /// The outcome of the task that had this key.
    pub(super) fn find_outcome(
        &mut self,
        key: &str,
        store: &mut StoreSlot,
    ) -> Result<Option<StoredOutcome>, String> {
        let kept = self.find_kept(key, store)?;
        Ok(kept.map(|kept| (kept.outcome, kept.output)))
    }

    /// The task with this key has ended, and that is not written yet.
    fn is_unwritten(&self, key: &str) -> bool {
        self.keyed_outcomes.iter().any(|keyed| *keyed.key == *key)
    }

    fn find_kept(
        &mut self,
        key: &str,
        store: &mut StoreSlot,
    ) -> Result<Option<KeyedOutcome>, String> {
        let mut unwritten = self.keyed_outcomes.iter().rev();
        if let Some(keyed) = unwritten.find(|keyed| *keyed.key == *key) {
            return Ok(Some(keyed.clone()));
        }
        let row = store.get()?.keyed_outcome(key);
        let Some(row) = row.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let outcome = row.outcome().map_err(|error| error.to_string())?;
        Ok(Some(KeyedOutcome {
            key: row.key,
            outcome,
            output: row.output,
            digest: row.digest,
            undos: row.undos,
        }))
    }

    /// Answers a question, or makes a decision, by a key.
    pub(super) fn take_in_by_key(
        &mut self,
        key: Box<str>,
        what: ByKey,
        store: &mut StoreSlot,
    ) -> Result<(), String> {
        // These are rare, so that all that was taken in before may be written first: then the store alone
        // says what is kept.
        // The running commit may have left tasks out, which has to be known first.
        store.get()?;
        self.forget_lost(store);
        self.build(store)?;
        store.commit(&mut self.ops)?;
        self.forget_lost(store);
        let found = self.find(&key, store)?;
        match (what, found) {
            (ByKey::Look(to), found) => self.replies.found.push((to, found)),
            (ByKey::Forget(to), found) => {
                if let FoundByKey::Ended(kept) = &found {
                    self.drop_key(key, kept);
                }
                self.replies.found.push((to, found));
            }
            (ByKey::TakeBack(task, to), FoundByKey::Ended(kept))
                if kept.task == task && kept.end == EndKind::Done && kept.undos.is_some() =>
            {
                let undos = kept.undos.into_iter().flatten();
                let undos = undos.map(|(undo, _)| undo).collect();
                let names = (key, kept.label);
                self.tasks
                    .take_back(task.0, names, kept.digest, undos, kept.renumbered);
                self.replies.taken_back.push((to, task, Ok(())));
            }
            (ByKey::TakeBack(task, to), found) => {
                self.replies.taken_back.push((to, task, Err(found)));
            }
        }
        Ok(())
    }

    /// Gives a key back, with what is kept of its task but for the outcome.
    fn drop_key(&mut self, key: Box<str>, kept: &KeptEnd) {
        let (task, at) = (kept.task.0, kept.at);
        self.ops.push(RowOp::DeleteKey {
            key: key.clone(),
            task,
        });
        let dropped = KeyChange::Dropped { key, task, at };
        self.replies.keys.push(dropped);
    }

    /// The task that has this key. No outcome is unwritten.
    pub(super) fn find(&mut self, key: &str, slot: &mut StoreSlot) -> Result<FoundByKey, String> {
        if let Some(live) = self.tasks.with_key(key) {
            return Ok(match live.stuck {
                Some(_) => FoundByKey::Stuck(live.task),
                None if live.is_taken_back => FoundByKey::BeingTakenBack(live.task),
                None => FoundByKey::InFlight(live.task),
            });
        }
        let failed = |error: StoreError| error.to_string();
        let store = slot.get()?;
        match store.task_elsewhere(key).map_err(failed)? {
            Some(Elsewhere::InFlight(task)) => return Ok(FoundByKey::InFlight(TaskId(task))),
            Some(Elsewhere::Stuck(task)) => return Ok(FoundByKey::Stuck(TaskId(task))),
            None => {}
        }
        let Some(row) = store.keyed_outcome(key).map_err(failed)? else {
            return Ok(FoundByKey::Unknown);
        };
        let label = row.outcome().map_err(|corrupt| corrupt.to_string())?.label;
        let end = row.end().map_err(|corrupt| corrupt.to_string())?;
        let mut renumbered = false;
        let undos = match row.undos {
            None => None,
            Some(count) => {
                let numbers = store.numbers_of_kept(key, row.task).map_err(failed)?;
                renumbered = numbers.is_some();
                let own_number = |stage: StageIx| match &numbers {
                    None => stage,
                    // No stage has that number.
                    Some(own) => own.get(&stage).copied().unwrap_or(StageIx::MAX),
                };
                let rows = store.kept_undos(row.task).map_err(failed)?;
                let undos = rows.into_iter().map(|(undo, value)| {
                    let number = undo.undo;
                    let mut state = undo.state()?;
                    state.stage = match own_number(state.stage) {
                        // Nobody needs its stage any more.
                        StageIx::MAX if state.is_settled() => 0,
                        stage => stage,
                    };
                    Ok((state, value.into_undo(row.task, number)?))
                });
                let undos: Result<Vec<(UndoState, Vec<u8>)>, _> = undos.collect();
                let undos = undos.map_err(|corrupt: Corrupt| corrupt.to_string())?;
                if undos.len() != count as usize {
                    // Another process may have changed both in between.
                    if store.keyed_outcome(key).map_err(failed)?.as_ref() != Some(&row) {
                        return self.find(key, slot);
                    }
                    return Err(format!("undos of task {} are missing", row.task));
                }
                Some(undos)
            }
        };
        Ok(FoundByKey::Ended(KeptEnd {
            task: TaskId(row.task),
            at: row.at,
            end,
            label,
            digest: row.digest,
            undos,
            renumbered,
        }))
    }
}
