//! The ledger of a pipeline with a journal: encodes each change, hands it to the writer, and says
//! whether the task has to wait until it is written.

use std::{
    sync::{Arc, Mutex, mpsc::Sender},
    thread::JoinHandle,
};

use super::{
    digest::digest,
    entry::Entry,
    key_index::KeyIndex,
    lease::Lease,
    stage_codecs::StageCodecs,
    time::nanos_left,
    users_text::{as_text, shortened},
    writer::{handle::Writer, replies::StoredOutcome, requests::Urgency},
};
use crate::{
    ledger::{
        Change, KeptOutcome, Ledger, LedgerError, Recorded, Transition, read_journal::ReadJournal,
    },
    logging, panic_guard,
    task::{End, Names, Outcome, StageIx, StageName, TaskId},
};

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// A journal that a pipeline records to.
pub(crate) struct JournalLedger {
    pub(super) writer: Writer,
    pub(super) codecs: Arc<StageCodecs>,
    /// The keys of tasks that have ended.
    pub(super) keys: Arc<KeyIndex>,
    stage_names: Vec<StageName>,
    /// The tasks of this process come after this one, in its series.
    last_recovered: TaskId,
    /// The lease of this process, if others would take its tasks over.
    lease: Option<Arc<Lease>>,
    /// Looks into it beside the writer.
    reader: Option<Arc<dyn ReadJournal>>,
    /// The thread that takes over tasks of other processes, and its end.
    takeover: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl JournalLedger {
    pub(super) fn new(
        writer: Writer,
        codecs: Arc<StageCodecs>,
        keys: Arc<KeyIndex>,
        stage_names: Vec<StageName>,
        last_recovered: TaskId,
        lease: Option<Arc<Lease>>,
        reader: Option<Arc<dyn ReadJournal>>,
    ) -> Self {
        JournalLedger {
            writer,
            codecs,
            keys,
            stage_names,
            last_recovered,
            lease,
            reader,
            takeover: Mutex::default(),
        }
    }

    /// Gives it the thread that takes over tasks, which ends when the other end of this channel does.
    pub(super) fn has_takeover(&self, stop: Sender<()>, thread: JoinHandle<()>) {
        *panic_guard::lock(&self.takeover) = Some((stop, thread));
    }

    /// Looks into the journal beside this; `None` if nobody else can.
    pub(crate) fn reader(&self) -> Option<Arc<dyn ReadJournal>> {
        self.reader.clone()
    }

    fn is_doubtful(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_doubtful())
    }

    /// This process has accepted the task, and it has seen no crash.
    fn is_own(&self, task: TaskId) -> bool {
        task > self.last_recovered && task.series() == self.last_recovered.series()
    }

    /// Says if the task has to wait until the entry is written.
    ///
    /// A start need not be: after a crash the stage or the undo starts again anyway. For tasks that
    /// have seen a crash it is awaited all the same, so that one that crashes the process each time
    /// is noticed. And once the lease is in doubt, only a commit says that the task is still this process's.
    fn urgency(&self, task: TaskId, entry: &Entry) -> Urgency {
        match entry {
            Entry::Started { .. } | Entry::UndoStarted { .. }
                if self.is_own(task) && !self.is_doubtful() =>
            {
                Urgency::Deferred
            }
            // The outcome follows at once, and is awaited.
            Entry::Finished { stage, .. } if self.codecs.is_last(*stage) => Urgency::Deferred,
            _ => Urgency::Awaited,
        }
    }

    fn entry(&self, change: Change<'_>, task: TaskId) -> Result<Entry, LedgerError> {
        Ok(match change {
            Change::Accepted {
                context,
                key,
                label,
                deadline,
                work_timeout,
            } => {
                let key = key.map(checked_key).transpose()?;
                let context = self.codecs.encode_context(context)?;
                Entry::Accepted {
                    digest: key.is_some().then(|| digest(&context)),
                    key,
                    label: label.map(Into::into),
                    context,
                    deadline_left: nanos_left(deadline),
                    work_timeout: nanos_left(work_timeout),
                }
            }
            Change::Started {
                stage,
                attempt,
                deadline,
            } => Entry::Started {
                stage,
                attempt,
                deadline_left: nanos_left(deadline),
            },
            Change::UndoRegistered {
                stage,
                attempt,
                undo,
                value,
            } => Entry::UndoRegistered {
                stage,
                attempt,
                undo,
                value: self.codecs.encode_undo(stage, value)?,
            },
            Change::UndoWithdrawn { undo } => Entry::UndoWithdrawn { undo },
            Change::Finished { stage, output } => Entry::Finished {
                stage,
                output: self.codecs.encode_output(stage, output)?,
            },
            Change::AttemptFailed { stage, .. } => Entry::AttemptFailed { stage },
            Change::Failed { stage, failure } => rollback_started(End::Failed {
                stage: self.stage_name(stage),
                failure: as_text(failure),
            }),
            Change::TimedOut { stage } => rollback_started(End::TimedOut {
                stage: self.stage_name(stage),
            }),
            Change::Cancelled { stage, cause } => rollback_started(End::Cancelled {
                stage: self.stage_name(stage),
                cause,
            }),
            Change::CancelStarted { undo, attempt } => Entry::UndoStarted { undo, attempt },
            Change::CancelEnded { undo, failure } => Entry::UndoEnded {
                undo,
                failure: failure.map(|failure| Box::new(as_text(failure))),
            },
            Change::Ended { end: End::Done, .. } => Entry::Done,
            Change::Ended { end, rollback } => {
                let end = match end {
                    End::Failed { stage, failure } => End::Failed {
                        stage: stage.clone(),
                        failure: as_text(failure),
                    },
                    other => other.clone(),
                };
                // The writer knows them.
                let names = Names::default();
                let outcome = Outcome::new(task, names, end, shortened(rollback));
                Entry::Ended(Box::new(outcome))
            }
            Change::Retried => Entry::Retried,
            Change::Resolved => Entry::Resolved,
            Change::Released => Entry::Released,
        })
    }

    fn stage_name(&self, stage: StageIx) -> StageName {
        let last = self.stage_names.len() - 1;
        self.stage_names[(stage as usize).min(last)].clone()
    }
}

impl Ledger for JournalLedger {
    fn record(&self, Transition { task, change }: Transition<'_>) -> Recorded {
        let entry = match self.entry(change, task) {
            Ok(entry) => entry,
            Err(error) => return Recorded::failed(error),
        };
        // The key may be another task's, which only the writer knows.
        if let Entry::Accepted { key: Some(_), .. } = &entry {
            return match self.writer.accept(task, entry) {
                Err(error) => Recorded::failed(error),
                Ok(reply) => Recorded::later(async { reply.await.map_err(|_| closed())? }),
            };
        }
        let urgency = self.urgency(task, &entry);
        match (self.writer.record(task, entry, urgency), urgency) {
            (Err(error), _) => Recorded::failed(error),
            (Ok(mark), Urgency::Awaited) => Recorded::at(mark),
            (Ok(_), Urgency::Deferred) => Recorded::now(),
        }
    }

    fn outcome_of(&self, key: &str) -> KeptOutcome {
        let reply = self.writer.outcome_of(key);
        let decode = self.codecs.last().map(|codec| codec.decode_output);
        Box::pin(async move {
            let found: Option<StoredOutcome> = reply?.await.map_err(|_| closed())??;
            let Some((outcome, output)) = found else {
                return Ok(None);
            };
            let decoded = output.zip(decode).map(|(bytes, decode)| decode(&bytes));
            let output = decoded.and_then(|decoded| {
                let task = outcome.task;
                let warn =
                    |why| logging::warning!("the output of task {task} can't be decoded: {why}");
                decoded.map_err(warn).ok()
            });
            Ok(Some(outcome.with_output(output)))
        })
    }

    fn close(&self) {
        if let Some((stop, thread)) = panic_guard::lock(&self.takeover).take() {
            drop(stop);
            thread.join().ok();
        }
        self.writer.finish();
    }
}

fn rollback_started(end: End) -> Entry {
    Entry::RollbackStarted { end: Box::new(end) }
}

pub(super) fn checked_key(key: &str) -> Result<Box<str>, LedgerError> {
    if key.is_empty() {
        return Err(LedgerError::refused(
            "the key is empty; give one, or leave .key(..) out",
        ));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(LedgerError::refused(format_args!(
            "the key has {} bytes, and at most {MAX_KEY_BYTES} are allowed",
            key.len()
        )));
    }
    Ok(key.into())
}

pub(super) fn closed() -> LedgerError {
    LedgerError::new("the journal is closed")
}
