//! The live tasks by their keys; those that come back, and those that go elsewhere.

use std::{mem, sync::Arc};

use super::{LiveTask, LiveTasks};
use crate::{
    journal::{store::Take, task_state::TaskState, undo_state::UndoState},
    task::{EndKind, Outcome, TaskId},
};

/// The task that has a key and isn't over: it has no outcome yet, or it is stuck.
pub(in crate::journal) struct LiveByKey<'a> {
    pub(in crate::journal) task: TaskId,
    /// The digest of its context.
    pub(in crate::journal) digest: Option<u64>,
    pub(in crate::journal) stuck: Option<&'a Outcome>,
    pub(in crate::journal) is_taken_back: bool,
}

impl LiveTasks {
    /// The task that has this key, unless it is over.
    pub(in crate::journal) fn with_key(&self, key: &str) -> Option<LiveByKey<'_>> {
        let id = *self.keys.get(key)?;
        let details = &self.tasks.get(&id)?.state.details;
        let end = details.end.as_ref().map(|end| end.0.kind());
        Some(LiveByKey {
            task: TaskId(id),
            digest: details.digest,
            stuck: details.stuck.as_ref().map(|outcome| &*outcome.0),
            is_taken_back: end == Some(EndKind::TakenBack),
        })
    }

    /// Adds a task that was done and is to be taken back, with its undos, which the store has kept.
    pub(in crate::journal) fn take_back(
        &mut self,
        task: u64,
        (key, label): (Box<str>, Option<Arc<str>>),
        digest: Option<u64>,
        undos: Vec<UndoState>,
        renumbered: bool,
    ) {
        self.keys.insert(key.clone(), task);
        if renumbered {
            let numbers = 0..undos.len();
            let undos = &mut self.batch.undos;
            undos.extend(numbers.map(|undo| (task, undo, None)));
        }
        let state = TaskState::taken_back(key, label, digest, undos);
        let mut live = LiveTask::new(state, false);
        live.context = Some(Vec::new());
        live.takes = Some(Take::Back);
        (live.dirty, live.stale) = (true, true);
        self.tasks.insert(task, live);
        self.batch.dirty.push(task);
        self.batch.stale.push(task);
    }

    /// Forgets the tasks that are other processes' since the last commit.
    pub(in crate::journal) fn forget_handed_on(&mut self) {
        for task in mem::take(&mut self.handed_on) {
            self.forget(task);
        }
    }

    /// Forgets a task that was left out of a commit: another one has its key. Returns the digest of its
    /// context.
    pub(in crate::journal) fn forget(&mut self, task: u64) -> Option<u64> {
        let live = self.tasks.remove(&task)?;
        if let Some(key) = live.state.details.key
            && self.keys.get(&key) == Some(&task)
        {
            self.keys.remove(&key);
        }
        live.state.details.digest
    }
}
