//! Takes requests in, and builds the next commit from them.

use std::{collections::HashMap, mem};

use super::{
    replies::{Replies, ReplyTo, StoredOutcome},
    requests::Request,
    store_slot::StoreSlot,
};
use crate::{
    journal::{
        entry::Entry,
        live_tasks::{KeyedOutcome, LiveTasks},
        retention::Retention,
        store::RowOp,
        time::wall_clock,
    },
    ledger::LedgerError,
    task::TaskId,
};

/// The number of the oldest outcome blocks that are looked at together.
const OLD_BLOCKS_AT_ONCE: usize = 64;

/// The next commit, and the replies that depend on it.
pub(super) struct CommitBuilder {
    tasks: LiveTasks,
    retention: Retention,
    /// Questions for the outcome of a task that has none yet, by its key.
    waiting: HashMap<Box<str>, Vec<ReplyTo<Option<StoredOutcome>>>>,
    /// Outcomes of tasks with keys that are not written yet.
    keyed_outcomes: Vec<KeyedOutcome>,
    pub(super) replies: Replies,
    pub(super) ops: Vec<RowOp>,
}

impl CommitBuilder {
    pub(super) fn new(tasks: LiveTasks, retention: Retention) -> Self {
        CommitBuilder {
            tasks,
            retention,
            waiting: HashMap::new(),
            keyed_outcomes: Vec::new(),
            replies: Replies::default(),
            ops: Vec::new(),
        }
    }

    /// Takes requests in, in their order.
    pub(super) fn take_in(
        &mut self,
        requests: &mut Vec<Request>,
        store: &mut StoreSlot,
    ) -> Result<(), String> {
        let now = wall_clock();
        for request in requests.drain(..) {
            match request {
                Request::Record(task, entry) => {
                    let keyed = self.tasks.apply(task.0, entry, now)?;
                    self.keyed_outcomes.extend(keyed);
                }
                Request::Accept(task, entry, to) => match self.owner_of_key(&entry, store)? {
                    Some(owner) => {
                        let known = LedgerError::known(owner);
                        self.replies.accepted.push((to, Err(known)));
                    }
                    None => {
                        let keyed = self.tasks.apply(task.0, entry, now)?;
                        self.keyed_outcomes.extend(keyed);
                        self.replies.accepted.push((to, Ok(())));
                    }
                },
                Request::OutcomeOf(key, to) => {
                    if self.tasks.with_key(&key).is_some() {
                        self.wait_for_outcome(key, to);
                    } else {
                        let outcome = self.find_outcome(&key, store)?;
                        self.replies.outcomes.push((to, outcome));
                    }
                }
            }
        }
        self.tasks.encode_rows()
    }

    fn wait_for_outcome(&mut self, key: Box<str>, to: ReplyTo<Option<StoredOutcome>>) {
        let waiting = self.waiting.entry(key).or_default();
        // Drop the senders of callers that gave up, so that abandoned waits don't pile up. Doing it
        // at powers of two keeps the cost per wait constant.
        if waiting.len() >= 16 && waiting.len().is_power_of_two() {
            waiting.retain(|to| !to.is_closed());
        }
        waiting.push(to);
    }

    /// Finishes `ops`: everything that has to be written of the requests since the last commit.
    pub(super) fn build(&mut self, store: &mut StoreSlot) -> Result<(), String> {
        let now = wall_clock();
        for keyed in mem::take(&mut self.keyed_outcomes) {
            self.tasks.write_keyed_outcome(&keyed, now)?;
            for to in self.waiting.remove(&keyed.key).unwrap_or_default() {
                let outcome = (keyed.outcome.clone(), keyed.output.clone());
                self.replies.outcomes.push((to, Some(outcome)));
            }
        }
        self.tasks.drain(now, &mut self.ops)?;
        self.delete_old_outcomes(now, store)
    }

    /// Drops the callers that still wait for an outcome: there will be none.
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// The other task, with or without an outcome, that has the key of this one.
    fn owner_of_key(
        &mut self,
        entry: &Entry,
        store: &mut StoreSlot,
    ) -> Result<Option<TaskId>, String> {
        let Entry::Accepted { key: Some(key), .. } = entry else {
            return Ok(None);
        };
        if let Some(owner) = self.tasks.with_key(key) {
            return Ok(Some(owner));
        }
        let outcome = self.find_outcome(key, store)?;
        Ok(outcome.map(|(outcome, _)| outcome.task))
    }

    /// The outcome of the task that had this key.
    fn find_outcome(
        &mut self,
        key: &str,
        store: &mut StoreSlot,
    ) -> Result<Option<StoredOutcome>, String> {
        let mut unwritten = self.keyed_outcomes.iter().rev();
        if let Some(keyed) = unwritten.find(|keyed| *keyed.key == *key) {
            return Ok(Some((keyed.outcome.clone(), keyed.output.clone())));
        }
        let row = store.get()?.keyed_outcome(key);
        let Some(row) = row.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let outcome = row.outcome().map_err(|error| error.to_string())?;
        Ok(Some((outcome, row.output)))
    }

    /// Adds the deletion of outcomes that are too old or too many.
    fn delete_old_outcomes(&mut self, now: u64, store: &mut StoreSlot) -> Result<(), String> {
        if !self.retention.is_due(self.tasks.outcomes, now) {
            return Ok(());
        }
        let oldest = store.get()?.outcome_blocks(0, OLD_BLOCKS_AT_ONCE);
        let oldest = oldest.map_err(|error| error.to_string())?;
        if oldest.is_empty() {
            self.retention.check_again(now);
        }
        for row in oldest {
            if !self.retention.is_over(&row, self.tasks.outcomes, now) {
                self.retention.check_again(row.at);
                return Ok(());
            }
            let keys = row.block().map_err(|error| error.to_string())?.keys;
            self.tasks.outcomes = self.tasks.outcomes.saturating_sub(row.count);
            self.ops.push(RowOp::DeleteOutcomes {
                block: row.number,
                keys,
            });
            // The numbers of its tasks must not be given out again.
            self.ops.push(self.tasks.store_last_id());
        }
        Ok(())
    }
}
