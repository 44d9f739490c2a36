//! The writer as its callers see it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool, mpsc},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::{
    ask::{Ask, Looking},
    commit_builder::CommitBuilder,
    replies::{FoundByKey, ReplyTo, StoredOutcome},
    requests::{Adopted, ByKey, Request, RequestQueue, Urgency},
    store_slot::StoreSlot,
    thread::{WriterThread, run_commits},
};
use crate::{
    journal::{
        command::{Answer, Decision},
        entry::Entry,
        key_index::KeyIndex,
        key_rules::KeyRules,
        live_tasks::LiveTasks,
        retention::Retention,
        stats::JournalStats,
        store::Store,
    },
    ledger::{LedgerError, Mark},
    panic_guard,
    task::{Stuck, TaskId, TaskStatus},
};

type ReplyFrom<T> = oneshot::Receiver<Result<T, LedgerError>>;

/// The writer of a journal. Dropping it writes everything that is left, as [`finish`](Self::finish).
pub(in crate::journal) struct Writer {
    requests: Arc<RequestQueue>,
    /// A look is asked for.
    looking: Arc<AtomicBool>,

    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the threads. The path is for error texts.
    pub(in crate::journal) fn start(
        store: Box<dyn Store>,
        path: PathBuf,
        tasks: LiveTasks,
        retention: Retention,
        keys: (KeyRules, Arc<KeyIndex>),
        stats: Arc<JournalStats>,
    ) -> io::Result<Self> {
        stats.set_outcomes(tasks.outcomes);
        let requests = Arc::new(RequestQueue::new());
        let (jobs, given) = mpsc::channel();
        let lease = store.lease();
        let mut writer = WriterThread::new(
            requests.clone(),
            StoreSlot::new(store, jobs, requests.clone(), stats.clone()),
            CommitBuilder::new(tasks, retention, keys.0, lease),
            keys.1,
            stats.clone(),
            path,
        );
        let finished = requests.clone();
        let committer = thread::Builder::new()
            .name("batrun-commit".to_owned())
            .spawn(move || run_commits(&given, &finished, &stats))?;
        let thread = thread::Builder::new()
            .name("batrun-journal".to_owned())
            .spawn(move || {
                writer.run();
                // With it goes the sender of jobs, which ends the second thread.
                drop(writer);
                committer.join().ok();
            })?;
        Ok(Writer {
            requests,
            looking: Arc::default(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// It writes nothing any more.
    #[cfg(feature = "postgres")]
    pub(in crate::journal) fn has_ended(&self) -> bool {
        let thread = panic_guard::lock(&self.thread);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Records an entry. The mark is reached once it is written.
    pub(in crate::journal) fn record(
        &self,
        task: TaskId,
        entry: Entry,
        urgency: Urgency,
    ) -> Result<Mark, LedgerError> {
        let number = self.requests.push(Request::Record(task, entry), urgency)?;
        Ok(Mark::new(&self.requests.progress, number))
    }

    /// Records that a task with a key was accepted. The reply is [`LedgerError::known`] if another
    /// task has the key; nothing is recorded then.
    pub(in crate::journal) fn accept(
        &self,
        task: TaskId,
        entry: Entry,
    ) -> Result<ReplyFrom<()>, LedgerError> {
        let (to, from) = oneshot::channel();
        let request = Request::Accept(task, entry, to);
        self.requests.push(request, Urgency::Awaited)?;
        Ok(from)
    }

    /// Asks for the outcome of the task with this key. The reply waits until the task has one.
    pub(in crate::journal) fn outcome_of(
        &self,
        key: &str,
    ) -> Result<ReplyFrom<Option<StoredOutcome>>, LedgerError> {
        let (to, from) = oneshot::channel();
        let request = Request::OutcomeOf(key.into(), to);
        self.requests.push(request, Urgency::Awaited)?;
        Ok(from)
    }

    /// Takes the tasks of another process in. The reply comes once that is written.
    pub(in crate::journal) fn adopt(&self, adopted: Adopted) -> Result<ReplyFrom<()>, LedgerError> {
        let (to, from) = oneshot::channel();
        let request = Request::Adopt(Box::new(adopted), to);
        self.requests.push(request, Urgency::Awaited)?;
        Ok(from)
    }

    /// Looks for the outcomes of tasks of other processes that somebody waits for.
    pub(in crate::journal) fn look_elsewhere(&self) {
        if let Some(looking) = Looking::new(&self.looking) {
            let look = Request::Ask(Ask::Look(looking));
            self.requests.push(look, Urgency::Awaited).ok();
        }
    }

    /// Has the process that has this task decide. The reply comes once it has; `None` if there is no such task.
    pub(in crate::journal) fn tell(
        &self,
        task: TaskId,
        decision: Decision,
    ) -> Result<ReplyFrom<Option<Answer>>, LedgerError> {
        self.ask(|to| Ask::Tell(task, decision, to))
    }

    /// The stuck tasks of other processes.
    pub(in crate::journal) fn stuck_elsewhere(&self) -> Result<ReplyFrom<Vec<Stuck>>, LedgerError> {
        self.ask(Ask::Stuck)
    }

    /// The place of the task with this key; `None` if it is this process's.
    pub(in crate::journal) fn status_elsewhere(
        &self,
        key: &str,
    ) -> Result<ReplyFrom<Option<TaskStatus>>, LedgerError> {
        self.ask(|to| Ask::Status(key.into(), to))
    }

    fn ask<T>(&self, what: impl FnOnce(ReplyTo<T>) -> Ask) -> Result<ReplyFrom<T>, LedgerError> {
        let (to, from) = oneshot::channel();
        self.requests
            .push(Request::Ask(what(to)), Urgency::Awaited)?;
        Ok(from)
    }

    /// Looks for the task that has this key.
    pub(in crate::journal) fn look(&self, key: &str) -> Result<ReplyFrom<FoundByKey>, LedgerError> {
        self.by_key(key, ByKey::Look)
    }

    /// Gives the key of a task that has ended back. The reply is what was there.
    pub(in crate::journal) fn forget(
        &self,
        key: &str,
    ) -> Result<ReplyFrom<FoundByKey>, LedgerError> {
        self.by_key(key, ByKey::Forget)
    }

    /// Makes this task, which is done, one that is rolled back. The reply is what was there if that is
    /// no longer so.
    pub(in crate::journal) fn take_back(
        &self,
        key: &str,
        task: TaskId,
    ) -> Result<ReplyFrom<Result<(), FoundByKey>>, LedgerError> {
        self.by_key(key, |to| ByKey::TakeBack(task, to))
    }

    fn by_key<T>(
        &self,
        key: &str,
        what: impl FnOnce(ReplyTo<T>) -> ByKey,
    ) -> Result<ReplyFrom<T>, LedgerError> {
        let (to, from) = oneshot::channel();
        let request = Request::ByKey(key.into(), what(to));
        self.requests.push(request, Urgency::Awaited)?;
        Ok(from)
    }

    /// Writes everything that is left and closes the journal. Blocks until that has happened.
    pub(in crate::journal) fn finish(&self) {
        self.requests.stop_accepting();
        if let Some(thread) = panic_guard::lock(&self.thread).take() {
            thread.join().ok();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}
