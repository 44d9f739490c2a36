//! Takes requests in, and builds the next commit from them.

use std::{collections::HashMap, mem};

use super::{
    replies::{Replies, ReplyTo, StoredOutcome},
    requests::Request,
    store_slot::StoreSlot,
};
use crate::journal::{
    key_index::{Kept, KeyChange},
    key_rules::KeyRules,
    live_tasks::LiveTasks,
    retention::Retention,
    rows::keyed_outcome::KeyedOutcome,
    store::RowOp,
    time::wall_clock,
};

/// The number of the oldest outcome blocks that are looked at together.
const OLD_BLOCKS_AT_ONCE: usize = 64;

/// The next commit, and the replies that depend on it.
pub(super) struct CommitBuilder {
    pub(super) tasks: LiveTasks,
    retention: Retention,
    pub(super) rules: KeyRules,
    /// Questions for the outcome of a task that has none yet, by its key.
    waiting: HashMap<Box<str>, Vec<ReplyTo<Option<StoredOutcome>>>>,
    /// Outcomes of tasks with keys that are not written yet.
    pub(super) keyed_outcomes: Vec<KeyedOutcome>,
    pub(super) replies: Replies,
    pub(super) ops: Vec<RowOp>,
}

impl CommitBuilder {
    pub(super) fn new(tasks: LiveTasks, retention: Retention, rules: KeyRules) -> Self {
        CommitBuilder {
            tasks,
            retention,
            rules,
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
                Request::Accept(task, entry, to) => {
                    let checked = self.check_key(&entry, store)?;
                    if checked.is_ok() {
                        let keyed = self.tasks.apply(task.0, entry, now)?;
                        self.keyed_outcomes.extend(keyed);
                    }
                    self.replies.accepted.push((to, checked));
                }
                Request::ByKey(key, what) => self.take_in_by_key(key, what, store)?,
                Request::OutcomeOf(key, to) => match self.tasks.with_key(&key) {
                    Some(live) => match live.stuck.cloned() {
                        None => self.wait_for_outcome(key, to),
                        Some(stuck) => self.replies.outcomes.push((to, Some((stuck, None)))),
                    },
                    None => {
                        let outcome = self.find_outcome(&key, store)?;
                        self.replies.outcomes.push((to, outcome));
                    }
                },
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
            let kept = Kept {
                task: keyed.outcome.task,
                at: now,
                end: keyed.outcome.end.kind(),
            };
            self.replies
                .keys
                .push(KeyChange::Kept(keyed.key.clone(), kept));
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
            let dropped = keys.iter().map(|(key, task)| KeyChange::Dropped {
                key: key.clone(),
                task: *task,
                at: row.at,
            });
            self.replies.keys.extend(dropped);
            self.ops.push(RowOp::DeleteOutcomes {
                block: row.number,
                at: row.at,
                keys,
            });
            // The numbers of its tasks must not be given out again.
            self.ops.push(self.tasks.store_last_id());
        }
        Ok(())
    }
}
