//! Takes requests in, and builds the next commit from them.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use super::{
    ask::Told,
    replies::{Replies, ReplyTo, StoredOutcome},
    requests::{Adopted, Request},
    store_slot::StoreSlot,
};
use crate::journal::{
    key_index::{Kept, KeyChange},
    key_rules::KeyRules,
    lease::Lease,
    live_tasks::LiveTasks,
    retention::Retention,
    rows::keyed_outcome::KeyedOutcome,
    store::{Elsewhere, Lost, RowOp},
    time::wall_clock,
};
use crate::{ledger::LedgerError, task::TaskId};

/// The number of the oldest outcome blocks that are looked at together.
const OLD_BLOCKS_AT_ONCE: usize = 64;

/// The task with a key, as any process has it.
enum Anywhere {
    Unknown,
    InFlight,
    Ended(StoredOutcome),
}

/// The next commit, and the replies that depend on it.
pub(super) struct CommitBuilder {
    pub(super) tasks: LiveTasks,
    retention: Retention,
    pub(super) rules: KeyRules,
    /// Questions for the outcome of a task that has none yet, by its key.
    waiting: HashMap<Box<str>, Vec<ReplyTo<Option<StoredOutcome>>>>,
    /// Decisions of which other processes have not said yet what came of them.
    pub(super) told: Vec<Told>,
    /// Outcomes of tasks with keys that are not written yet.
    pub(super) keyed_outcomes: Vec<KeyedOutcome>,
    pub(super) replies: Replies,
    pub(super) ops: Vec<RowOp>,
    /// It knows the clock of a store that other processes use, too.
    lease: Option<Arc<Lease>>,
}

impl CommitBuilder {
    pub(super) fn new(
        tasks: LiveTasks,
        retention: Retention,
        rules: KeyRules,
        lease: Option<Arc<Lease>>,
    ) -> Self {
        CommitBuilder {
            tasks,
            retention,
            rules,
            waiting: HashMap::new(),
            told: Vec::new(),
            keyed_outcomes: Vec::new(),
            replies: Replies::default(),
            ops: Vec::new(),
            lease,
        }
    }

    /// Milliseconds since 1970, by the clock that all processes of the store share.
    fn now(&self) -> u64 {
        let lease = self.lease.as_ref();
        lease.map_or_else(wall_clock, |lease| lease.wall_clock())
    }

    /// Takes requests in, in their order.
    pub(super) fn take_in(
        &mut self,
        requests: &mut Vec<Request>,
        store: &mut StoreSlot,
    ) -> Result<(), String> {
        let now = self.now();
        for request in requests.drain(..) {
            self.forget_lost(store);
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
                    self.replies.accepted.push((to, task, checked));
                }
                Request::ByKey(key, what) => self.take_in_by_key(key, what, store)?,
                Request::OutcomeOf(key, to) => match self.tasks.with_key(&key) {
                    Some(live) => match live.stuck.cloned() {
                        None => self.wait_for_outcome(key, to),
                        Some(stuck) => self.replies.outcomes.push((to, Some((stuck, None)))),
                    },
                    None => match self.find_anywhere(&key, store)? {
                        Anywhere::InFlight => self.wait_for_outcome(key, to),
                        Anywhere::Ended(outcome) => {
                            self.replies.outcomes.push((to, Some(outcome)));
                        }
                        Anywhere::Unknown => self.replies.outcomes.push((to, None)),
                    },
                },
                Request::Adopt(adopted, to) => {
                    let Adopted {
                        tasks,
                        quarantined,
                        mut ops,
                    } = *adopted;
                    for (id, state) in tasks {
                        self.tasks.restore(id, state);
                    }
                    for outcome in quarantined {
                        let (task, at, end) = (outcome.task, now, outcome.end.kind());
                        if let Some(key) = outcome.key.as_deref().map(Into::into) {
                            let kept = Kept { task, at, end };
                            self.replies.keys.push(KeyChange::Kept(key, kept));
                        }
                        self.tasks.quarantine(outcome, now)?;
                    }
                    self.ops.append(&mut ops);
                    self.replies.adopted.push(to);
                }
                Request::Ask(ask) => self.take_in_ask(ask, store)?,
            }
        }
        self.tasks.encode_rows()
    }

    /// Another process has the task with this key, which is in flight.
    fn is_elsewhere(&self, key: &str, store: &mut StoreSlot) -> Result<bool, String> {
        if !store.is_shared {
            return Ok(false);
        }
        let elsewhere = store.get()?.task_elsewhere(key);
        let elsewhere = elsewhere.map_err(|error| error.to_string())?;
        // A stuck one has an outcome.
        Ok(matches!(elsewhere, Some(Elsewhere::InFlight(_))))
    }

    /// The task with this key, which is not one of this process's that are in flight.
    fn find_anywhere(&mut self, key: &str, store: &mut StoreSlot) -> Result<Anywhere, String> {
        loop {
            if self.is_elsewhere(key, store)? {
                return Ok(Anywhere::InFlight);
            }
            // It may have ended since then,
            if let Some(outcome) = self.find_outcome(key, store)? {
                return Ok(Anywhere::Ended(outcome));
            }
            // or have been taken back before that.
            if !self.is_elsewhere(key, store)? {
                return Ok(Anywhere::Unknown);
            }
        }
    }

    /// Answers those who wait for the outcome of another process's task that has one by now, or whose key is
    /// nobody's any more.
    pub(super) fn look_elsewhere(&mut self, store: &mut StoreSlot) -> Result<(), String> {
        let mut keys: Vec<_> = self.waiting.keys().cloned().collect();
        if store.is_shared && !keys.is_empty() {
            let others = keys.iter().filter(|key| self.tasks.with_key(key).is_none());
            let others: Vec<_> = others.cloned().collect();
            let still = store.get()?.in_flight(&others);
            let still: HashSet<_> = still
                .map_err(|error| error.to_string())?
                .into_iter()
                .collect();
            keys.retain(|key| !still.contains(key));
        }
        for key in keys {
            match self.tasks.with_key(&key).map(|live| live.stuck.cloned()) {
                None => {}
                Some(None) => continue,
                // It has come here meanwhile, and was set aside.
                Some(Some(stuck)) => {
                    for to in self.waiting.remove(&key).unwrap_or_default() {
                        let outcome = Some((stuck.clone(), None));
                        self.replies.outcomes.push((to, outcome));
                    }
                    continue;
                }
            }
            let outcome = match self.find_anywhere(&key, store)? {
                Anywhere::InFlight => continue,
                Anywhere::Ended(outcome) => Some(outcome),
                Anywhere::Unknown => None,
            };
            for to in self.waiting.remove(&key).unwrap_or_default() {
                self.replies.outcomes.push((to, outcome.clone()));
            }
        }
        Ok(())
    }

    /// Forgets the tasks that were left out of a commit, before anything more is made of them.
    pub(super) fn forget_lost(&mut self, store: &mut StoreSlot) {
        for lost in &mut store.lost {
            if let Some(digest) = self.tasks.forget(lost.task) {
                lost.own_digest = Some(digest);
            }
        }
    }

    /// The answer for the one who submitted a task that was left out of a commit.
    pub(super) fn refusal(&self, lost: &Lost) -> (TaskId, LedgerError) {
        let task = TaskId(lost.task);
        let differ = lost
            .own_digest
            .zip(lost.digest)
            .is_some_and(|(own, its)| own != its);
        let owner = TaskId(lost.owner.unwrap_or_default());
        let error = match self.rules.same_context && differ {
            true => LedgerError::conflict(owner),
            false => LedgerError::known(owner),
        };
        (task, error)
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
        let now = self.now();
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
        self.told.clear();
    }

    /// Adds the deletion of outcomes that are too old or too many.
    fn delete_old_outcomes(&mut self, now: u64, store: &mut StoreSlot) -> Result<(), String> {
        if !self.retention.is_due(self.tasks.outcomes, now) {
            return Ok(());
        }
        if self.tasks.outcomes > self.retention.max_outcomes {
            let count = store.get()?.count_outcomes();
            let count = count.map_err(|error| error.to_string())?;
            self.tasks.outcomes = count.unwrap_or(self.tasks.outcomes);
        }
        let oldest = store.get()?.oldest_outcomes(OLD_BLOCKS_AT_ONCE);
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
