//! Notes of what happened, in order, and an outcome in a line.

use std::{
    fmt::Display,
    sync::{Arc, Mutex},
};

use batrun::Outcome;

/// Lines about what happened, in order.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub fn note(&self, what: impl Display) {
        self.0.lock().unwrap().push(what.to_string());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// True if one of them is this.
    pub fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line == what)
    }

    /// Forgets all, as a new process would.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The lines that begin so, without that beginning.
    pub fn of(&self, beginning: &str) -> Vec<String> {
        self.all()
            .iter()
            .filter_map(|line| line.strip_prefix(beginning))
            .map(str::to_owned)
            .collect()
    }
}

/// An outcome in a line, without the task's number.
pub fn summary<O>(outcome: &Outcome<O>) -> String {
    format!("{}; {}", outcome.end, outcome.rollback)
}
