//! A process without stages: it accepts tasks, and leaves them to the others.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use super::{
    command::{Answer, Decision},
    digest::digest,
    entry::Entry,
    error::JournalError,
    key_index::KeyIndex,
    key_rules::{Ended, KeyRules},
    lease::Lease,
    ledger::{checked_key, closed},
    live_tasks::LiveTasks,
    options::{Journal, on_a_thread},
    retention::Retention,
    rows::meta::PIPELINE,
    store::{Begin, Claimer, Reopen, StoreError},
    time::nanos_left,
    writer::{handle::Writer, replies::StoredOutcome, requests::Urgency},
};
use crate::{
    ledger::{LedgerError, Recorded},
    logging,
    task::{Names, TaskId, TaskStatus},
};

/// A process that only submits.
pub(crate) struct Enqueuer {
    writer: Arc<Writer>,
    /// For error texts.
    path: PathBuf,
    rules: KeyRules,
    last: AtomicU64,
    lease: Arc<Lease>,
    /// As many tasks wait for a process with stages as may.
    is_full: Arc<AtomicBool>,
    /// Makes another one, once this one's lease is over.
    reopen: Reopen,
    /// The thread that looks ends with this.
    _stop: Sender<()>,
}

/// A task that is to be accepted, encoded.
pub(crate) struct NewTask {
    pub(crate) context: Vec<u8>,
    pub(crate) names: Names,
    pub(crate) timeout: Option<Duration>,
    pub(crate) work_timeout: Option<Duration>,
}

impl Journal {
    /// Makes this process one that submits to the pipeline with this name. Waits on a thread of its own.
    pub(crate) async fn enqueuer(
        self,
        pipeline: String,
        most_waiting: u64,
    ) -> Result<Enqueuer, JournalError> {
        let path = self.path.clone();
        on_a_thread(path, move || self.enqueue(&pipeline, most_waiting)).await
    }

    fn enqueue(self, pipeline: &str, most_waiting: u64) -> Result<Enqueuer, JournalError> {
        let Journal {
            mut store,
            path,
            rules,
            ..
        } = self;
        let failed = |error| JournalError::store(&path, error);
        let Some(reopen) = store.reopen() else {
            let why = "a file is one process's: submit to a journal in a database".to_owned();
            return Err(failed(StoreError::Failed(why)));
        };
        let begun = store.begin(Begin {
            pipeline,
            stages: &[],
            reuses_keys: rules.taken_by == Ended::Done,
        });
        let begun = begun.map_err(failed)?;
        for (name, value) in store.facts().map_err(failed)? {
            if name == PIPELINE && value != pipeline {
                return Err(JournalError::OtherPipeline {
                    path: path.clone(),
                    found: value,
                    wanted: pipeline.to_owned(),
                });
            }
        }
        let after = begun.after.unwrap_or_default();
        let mut tasks = LiveTasks::new(0, after, after, 0);
        tasks.hands_on = true;
        let (claimer, lease) = (store.claimer().map_err(failed)?, store.lease());
        let (Some(claimer), Some(lease)) = (claimer, lease) else {
            return Err(failed(StoreError::Failed("it has no lease".to_owned())));
        };
        let keys = (rules, Arc::new(KeyIndex::default()));
        let writer = Writer::start(
            store,
            path.clone(),
            tasks,
            Retention::never(),
            keys,
            Arc::default(),
        );
        let writer = Arc::new(writer.map_err(|error| JournalError::io(&path, error))?);
        let is_full = Arc::<AtomicBool>::default();
        let stop = look(
            claimer,
            Arc::downgrade(&writer),
            is_full.clone(),
            most_waiting,
        );
        Ok(Enqueuer {
            writer,
            path: path.clone(),
            rules,
            last: AtomicU64::new(after),
            lease,
            is_full,
            reopen,
            _stop: stop.map_err(|error| JournalError::io(&path, error))?,
        })
    }
}

/// Starts the thread that looks for outcomes and answers, and how many tasks wait.
fn look(
    mut claimer: Box<dyn Claimer>,
    writer: std::sync::Weak<Writer>,
    is_full: Arc<AtomicBool>,
    most_waiting: u64,
) -> std::io::Result<Sender<()>> {
    let (stop, stopped) = mpsc::channel::<()>();
    thread::Builder::new()
        .name("batrun-submitter".to_owned())
        .spawn(move || {
            let mut fails = false;
            loop {
                match claimer.is_waiting(most_waiting) {
                    Ok(full) => {
                        is_full.store(full, Ordering::Relaxed);
                        fails = false;
                    }
                    Err(error) => {
                        if !fails {
                            logging::warning!(
                                "the tasks that wait for a process can't be counted, it is tried again: {error}"
                            );
                        }
                        fails = true;
                    }
                }
                let rest = stopped.recv_timeout(claimer.pause());
                let (Err(RecvTimeoutError::Timeout), Some(writer)) = (rest, writer.upgrade()) else {
                    return;
                };
                writer.look_elsewhere();
            }
        })?;
    Ok(stop)
}

impl Enqueuer {
    /// Its lease is over, or a commit has failed: it records nothing any more.
    pub(crate) fn is_over(&self) -> bool {
        self.lease.is_over() || self.writer.has_ended()
    }

    /// Another one in its place.
    pub(crate) async fn again(
        &self,
        pipeline: String,
        most_waiting: u64,
    ) -> Result<Enqueuer, JournalError> {
        let (reopen, rules) = (self.reopen.clone(), self.rules);
        let path = self.path.clone();
        on_a_thread(path.clone(), move || {
            let store = reopen().map_err(|error| JournalError::store(&path, error))?;
            let journal = Journal {
                rules,
                ..Journal::on(store, path)
            };
            journal.enqueue(&pipeline, most_waiting)
        })
        .await
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Accepts a task: it is another process's once that is recorded.
    pub(crate) fn accept(&self, task: NewTask) -> Result<(TaskId, Recorded), LedgerError> {
        let NewTask {
            context,
            names,
            timeout,
            work_timeout,
        } = task;
        let key = names.key.as_deref().map(checked_key).transpose()?;
        let id = TaskId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let entry = Entry::Accepted {
            digest: key.is_some().then(|| digest(&context)),
            key,
            label: names.label,
            context,
            deadline_left: nanos_left(timeout),
            work_timeout: nanos_left(work_timeout),
        };
        let recorded = if names.key.is_some() {
            let reply = self.writer.accept(id, entry)?;
            Recorded::later(async { reply.await.map_err(|_| closed())? })
        } else {
            Recorded::at(self.writer.record(id, entry, Urgency::Awaited)?)
        };
        Ok((id, recorded))
    }

    /// The outcome of the task with this key, with its encoded output, once it has one.
    pub(crate) async fn outcome_of(&self, key: &str) -> Result<Option<StoredOutcome>, LedgerError> {
        self.writer.outcome_of(key)?.await.map_err(|_| closed())?
    }

    /// The place of the task with this key.
    pub(crate) async fn status(&self, key: &str) -> Result<TaskStatus, LedgerError> {
        loop {
            let status = self.writer.status_elsewhere(key)?;
            // `None` as long as it is just being written.
            if let Some(status) = status.await.map_err(|_| closed())?? {
                return Ok(status);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Has the process that has this task decide about it; `None` if there is no such task.
    pub(crate) async fn tell(
        &self,
        task: TaskId,
        decision: Decision,
    ) -> Result<Option<Answer>, LedgerError> {
        self.writer
            .tell(task, decision)?
            .await
            .map_err(|_| closed())?
    }

    /// Waits until everything is recorded, and leaves.
    pub(crate) fn close(&self) {
        self.writer.finish();
    }
}
