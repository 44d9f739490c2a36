//! A worker dies in the middle of something: by a panic that no guard has met, or because somebody has
//! stopped its thread.
//!
//! Nothing that it held may be lost. It says what it had not begun, what is finished, and the undo that it
//! was at; its pool fails the task that it was at, which only the table of tasks still knows.

use std::mem;

use super::{
    call_end::StageValue,
    env::{FromWorker, WorkerEnv},
    inbox::UndoJob,
    run_batch::BatchRun,
};
use crate::{
    clock::Cycles,
    failure::{Failure, FailureKind},
    panic_guard,
    shared::hop::Batch,
    stage::Stage,
};

/// The failure of what a worker was at when it died.
pub(crate) fn worker_died() -> Failure {
    let why = "its worker died: something outside of the stage's own code panicked, or stopped its \
               thread";
    Failure::of(FailureKind::Panic, why)
}

impl<S: Stage> Drop for BatchRun<'_, S> {
    fn drop(&mut self) {
        if self.over || self.inbox.is_suspended() {
            return;
        }
        // Of two panics at once the second one ends the process, unless it is caught in here.
        panic_guard::catch_quietly(|| {
            // The first may have come between the two columns.
            self.rest.cut_to_pairs();
            self.out.cut_to_pairs();
            if self.preparing {
                // It fails with the others, and is counted as failed.
                self.tally.start(Cycles::default());
            }
            self.flush();
            let mut rest = mem::replace(&mut self.rest, Batch::new());
            rest.reverse();
            self.env.tell(FromWorker::HandedBack { rest });
        });
    }
}

/// The answer that the reporter waits for, whatever becomes of this worker.
pub(super) struct Answer<'a, S: Stage> {
    pub(super) env: &'a WorkerEnv<S>,
    /// Taken when it is sent.
    pub(super) job: Option<UndoJob>,
}

impl<S: Stage> Answer<'_, S> {
    pub(super) fn send(mut self, result: Result<(), Failure>, stage_value: StageValue) {
        if let Some(UndoJob { task, undo, .. }) = self.job.take() {
            self.env.tell(FromWorker::UndoDone {
                worker: self.env.worker,
                task,
                undo,
                result,
                stage_value,
            });
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(mut self) {
        self.job = None;
    }
}

impl<S: Stage> Drop for Answer<'_, S> {
    fn drop(&mut self) {
        if let Some(UndoJob { task, undo, .. }) = self.job.take() {
            self.env.tell(FromWorker::UndoDied { task, undo });
        }
    }
}
