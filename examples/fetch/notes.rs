//! A record of each task outside of the database, to compare the database with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use batrun::{
    Outcome,
    state::{End, Rollback, TaskId},
};

/// The record of a task.
#[derive(Default)]
pub(crate) struct Note {
    pub(crate) url: String,
    /// The size of its page.
    pub(crate) bytes: Option<u64>,
    /// Its end.
    pub(crate) end: Option<End>,
}

/// A note for each task.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<u64, Note>>>);

impl Notes {
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, task: TaskId, url: &str) {
        self.all().entry(task.0).or_default().url = url.to_owned();
    }

    pub(crate) fn measured(&self, task: TaskId, bytes: u64) {
        self.all().entry(task.0).or_default().bytes = Some(bytes);
    }

    /// Records a task's end, and prints a line unless it is done.
    pub(crate) fn end(&self, outcome: &Outcome) {
        let mut all = self.all();
        let note = all.entry(outcome.task.0).or_default();
        note.end = Some(outcome.end.clone());
        if outcome.is_done() {
            return;
        }
        match &outcome.rollback {
            Rollback::None => println!("{}  {}", note.url, outcome.end),
            rollback => println!("{}  {}; {rollback}", note.url, outcome.end),
        }
    }
}
