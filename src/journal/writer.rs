//! The journal's one writer: a thread that commits whatever has gathered while the commit before
//! ran. Nobody waits on a timer.

mod answers;
mod clerk;
mod desk;

use std::{
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

pub(super) use self::{
    answers::Kept,
    clerk::{ENDED, ON_PURPOSE},
};
use self::{
    clerk::Clerk,
    desk::{Back, Desk, Wish},
};
use super::{
    Retention,
    book::Book,
    note::Note,
    store::{Op, Store, StoreError},
};
use crate::{LedgerError, TaskId, guard, ledger::Mark};

pub(super) struct Writer {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        store: Box<dyn Store>,
        book: Book,
        retention: Retention,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::new());
        let (jobs, given) = mpsc::channel();
        let mut clerk = Clerk::new(desk.clone(), store, jobs, book, retention);
        let returned = desk.clone();
        let committer = std::thread::Builder::new()
            .name("batrun-commit".to_owned())
            .spawn(move || commit_all(&given, &returned))?;
        let thread = std::thread::Builder::new()
            .name("batrun-journal".to_owned())
            .spawn(move || {
                clerk.run();
                // Which ends the other one.
                drop(clerk);
                committer.join().ok();
            })?;
        Ok(Writer {
            desk,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Writes a change, in its turn. What nobody waits for isn't urgent.
    pub(super) fn note(&self, task: TaskId, note: Note, urgent: bool) -> Result<Mark, LedgerError> {
        let number = self.desk.ask(Wish::Note(task, note), urgent)?;
        Ok(Mark::new(&self.desk.progress, number))
    }

    /// Writes that a task with a key was accepted, unless the key is another one's.
    pub(super) fn keyed(
        &self,
        task: TaskId,
        note: Note,
    ) -> Result<oneshot::Receiver<Result<(), LedgerError>>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.desk.ask(Wish::Keyed(task, note, answer), true)?;
        Ok(answered)
    }

    pub(super) fn outcome_of(
        &self,
        key: &str,
    ) -> Result<oneshot::Receiver<Result<Option<Kept>, LedgerError>>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.desk.ask(Wish::OutcomeOf(key.into(), answer), true)?;
        Ok(answered)
    }

    /// Writes what is left, and lets go of the file.
    pub(super) fn close(&self) {
        self.desk.close();
        if let Some(thread) = guard::lock(&self.thread).take() {
            thread.join().ok();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Commits what it is given, beside the clerk, who takes in meanwhile what comes next.
fn commit_all(jobs: &mpsc::Receiver<(Box<dyn Store>, Vec<Op>)>, desk: &Desk) {
    while let Ok((mut store, ops)) = jobs.recv() {
        let result = guard::run(|| store.commit(&ops))
            .unwrap_or_else(|panic| Err(StoreError::Failed(guard::shown(&panic))));
        desk.give_back(Back { store, ops, result });
    }
}
