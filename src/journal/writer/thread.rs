//! The writer's thread: takes requests in, and commits them.

use std::{
    mem,
    path::PathBuf,
    sync::{Arc, mpsc},
};

use super::{
    commit_builder::CommitBuilder,
    replies::{FoundByKey, Replies, reply},
    requests::{FinishedCommit, Request, RequestQueue, Taken},
    store_slot::{CommitJob, StoreSlot},
};
use crate::{
    failure,
    journal::{
        key_index::KeyIndex,
        rows::meta::{ENDED, ON_PURPOSE},
        stats::JournalStats,
        store::{RowOp, StoreError},
    },
    ledger::LedgerError,
    logging, panic_guard,
    task::TaskId,
};

/// A commit of fewer changes runs on the writer's own thread: handing it to the other one would
/// cost more than it gains.
const SMALL_COMMIT: usize = 256;

pub(super) struct WriterThread {
    requests: Arc<RequestQueue>,
    store: StoreSlot,
    builder: CommitBuilder,
    keys: Arc<KeyIndex>,
    stats: Arc<JournalStats>,
    /// For error texts.
    path: PathBuf,
}

/// A commit on the second thread: the number of its last request, and the replies that depend on
/// it.
type RunningCommit = (u64, Replies);

impl WriterThread {
    pub(super) fn new(
        requests: Arc<RequestQueue>,
        store: StoreSlot,
        builder: CommitBuilder,
        keys: Arc<KeyIndex>,
        stats: Arc<JournalStats>,
        path: PathBuf,
    ) -> Self {
        WriterThread {
            requests,
            store,
            builder,
            keys,
            stats,
            path,
        }
    }

    /// Runs until the queue is closed and everything in it is written, or until a write fails.
    pub(super) fn run(&mut self) {
        let mut running = None;
        let mut requests = Vec::new();
        // Even after a panic nobody may wait for ever.
        let result = failure::catch(|| self.work(&mut requests, &mut running))
            .unwrap_or_else(|panic| Err(panic_guard::shown(&panic)));
        // Nothing is at work any more, so an attempt that was interrupted was so on purpose.
        let ended = RowOp::SetMeta(ENDED, ON_PURPOSE.to_owned());
        self.store.close_store(&[ended], &result);
        if let Err(why) = result {
            self.fail(why, running, requests);
        }
        self.builder.drop_waiting();
    }

    fn work(
        &mut self,
        requests: &mut Vec<Request>,
        running: &mut Option<RunningCommit>,
    ) -> Result<(), String> {
        // The number of the last request that was taken in.
        let mut taken_in = 0;
        loop {
            let Taken {
                last,
                finished,
                closed,
            } = match self.store.is_empty() {
                true => self.requests.take_during_commit(requests),
                false => self.requests.take(requests),
            };
            if let Some(finished) = finished {
                self.store.put_back(finished)?;
            }
            let none = requests.is_empty();
            self.builder.take_in(requests, &mut self.store)?;
            taken_in = taken_in.max(last);
            if self.store.is_empty() {
                // The commit still runs: take in what comes meanwhile.
                continue;
            }
            let mut written = running.take();
            self.settle_lost(written.as_mut().map(|(_, replies)| replies));
            self.store.reuse_ops(&mut self.builder.ops);
            self.builder.build(&mut self.store)?;
            self.stats.set_outcomes(self.builder.tasks.outcomes);
            if self.builder.ops.len() < SMALL_COMMIT {
                self.tell_written(written);
                self.store.commit(&mut self.builder.ops)?;
                self.settle_lost(None);
                let replies = mem::take(&mut self.builder.replies);
                self.tell_written(Some((taken_in, replies)));
                if none && closed {
                    return Ok(());
                }
                continue;
            }
            *running = Some((taken_in, mem::take(&mut self.builder.replies)));
            self.store.start_commit(&mut self.builder.ops)?;
            // Waking the callers of the last commit takes a while, and the next one runs meanwhile.
            self.tell_written(written);
        }
    }

    /// Refuses the tasks that were left out of the last commits: of the one whose replies these are, and of those
    /// whose replies are still with the builder.
    fn settle_lost(&mut self, mut written: Option<&mut Replies>) {
        self.builder.forget_lost(&mut self.store);
        for lost in mem::take(&mut self.store.lost) {
            let (task, error) = self.builder.refusal(&lost);
            let found = || match lost.owner {
                Some(owner) if owner == task.0 => FoundByKey::BeingTakenBack(task),
                Some(owner) => FoundByKey::InFlight(TaskId(owner)),
                None => FoundByKey::Unknown,
            };
            self.builder.replies.lose(task, &error, found);
            if let Some(written) = &mut written {
                written.lose(task, &error, found);
            }
        }
        self.builder.tasks.forget_handed_on();
    }

    fn tell_written(&self, written: Option<RunningCommit>) {
        if let Some((number, mut replies)) = written {
            // First, so that whoever has an outcome finds it by its key.
            self.keys.apply(replies.keys.drain(..));
            self.requests.progress.reach(number);
            replies.send();
        }
    }

    /// Refuses every request from now on, and those that are waiting.
    ///
    /// Nobody knows how much of the failed write is on the disk. Writing again would not help: a
    /// disk that could not sync once may claim success the next time, and have lost the data.
    fn fail(&mut self, why: String, running: Option<RunningCommit>, mut waiting: Vec<Request>) {
        let path = self.path.display();
        let error = LedgerError::new(format_args!("{path}: {why}"));
        logging::error!(
            "a write to a journal failed, and nothing more is written to it; start the pipeline \
             again once the cause is gone: {error}"
        );
        self.requests.progress.fail(error.clone());
        if let Some((_, replies)) = running {
            replies.send_error(&error);
        }
        mem::take(&mut self.builder.replies).send_error(&error);
        waiting.append(&mut self.requests.give_up());
        for request in waiting {
            match request {
                Request::Record(..) => {}
                Request::Ask(ask) => ask.refuse(&error),
                Request::Accept(_, _, to) | Request::Adopt(_, to) => {
                    reply(to, Err(error.clone()));
                }
                Request::OutcomeOf(_, to) => reply(to, Err(error.clone())),
                Request::ByKey(_, what) => what.refuse(&error),
            }
        }
    }
}

/// The second thread: commits until there are no jobs any more.
pub(super) fn run_commits(
    jobs: &mpsc::Receiver<CommitJob>,
    requests: &RequestQueue,
    stats: &JournalStats,
) {
    while let Ok((mut store, ops)) = jobs.recv() {
        let result = failure::catch(|| stats.timed_commit(|| store.commit(&ops)))
            .unwrap_or_else(|panic| Err(StoreError::Failed(panic_guard::shown(&panic))));
        requests.commit_finished(FinishedCommit { store, ops, result });
    }
}
