//! The environment of a worker: everything it knows of its place, and whom it tells.

use std::{
    cell::Cell,
    sync::{Arc, atomic::AtomicBool, mpsc},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{call_end::StageValue, inbox::UndoJob};
use crate::{
    clock::Nanos,
    engine::{backlog::Backlog, channel::Sender, threads::Present},
    failure::Failure,
    panic_guard,
    report::StageStats,
    shared::{
        Shared,
        hop::{Batch, Hop},
    },
    stage::{CopyInput, Stage, StageConfig, StageFactory},
    task::{StageIx, TaskRef},
};

/// From a worker to its pool.
pub(crate) enum FromWorker<I> {
    /// It has a stage value.
    Built { worker: u32 },
    /// It could not build one.
    NotBuilt { worker: u32, failure: Failure },
    /// It waits for something; the rest of its batch is for others.
    Waits {
        worker: u32,
        rest: Batch<I>,
        reason: WaitReason,
    },
    /// The undo that it runs waits for something.
    UndoWaits { worker: u32 },
    /// It is through with its batch, or hands the rest back.
    Idle {
        worker: u32,
        rest: Batch<I>,
        pace: Option<Nanos>,
    },
    /// It has to rebuild its stage value first.
    Rebuilds { worker: u32, rest: Batch<I> },
    /// This task is to be tried again, from then on and once it is cleaned up.
    Retry {
        task: TaskRef,
        input: I,
        due: Nanos,
        next: NextAttempt,
    },
    /// An undo has run, or failed to.
    UndoDone {
        worker: u32,
        task: TaskRef,
        undo: usize,
        result: Result<(), Failure>,
        stage_value: StageValue,
    },
    /// Tasks of a worker that is dying, which it had not started.
    HandedBack { rest: Batch<I> },
    /// An undo of a worker that is dying, which it had not started.
    UndoHandedBack(UndoJob),
    /// Its actor died while it ran this undo.
    UndoDied { task: TaskRef, undo: usize },
    /// Its actor died in the middle of something.
    Died { worker: u32 },
    /// It has left.
    Left { worker: u32 },
}

/// The reason why a worker waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// Its call, as others of this stage may.
    Call,
    /// Room at the next stage.
    Room,
    /// A record.
    Record,
}

/// The condition on which a failed task may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    /// Once its delay has passed.
    WhenDue,
    /// Once its delay has passed and the reporter has cleaned it up.
    AfterCleanUp,
}

/// Everything a worker knows of its place.
pub(crate) struct WorkerEnv<S: Stage> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stage: StageIx,
    pub(crate) worker: u32,
    pub(crate) config: Arc<StageConfig>,
    pub(crate) factory: StageFactory<S>,
    pub(crate) copy: Option<CopyInput<S>>,
    pub(crate) pool: Sender<FromWorker<S::Input>>,
    pub(crate) hop: Hop<S::Output>,
    /// Room in the own queue, given back for each task that has left it.
    pub(crate) room: Arc<Semaphore>,
    /// The tasks that wait for a worker.
    pub(crate) backlog: Arc<Backlog<S::Input>>,
    pub(crate) stats: Arc<StageStats>,
    /// The pool wants back what has not been started.
    pub(crate) hand_back: Arc<AtomicBool>,
    /// If it has a thread to itself: held until it has let go of its last task.
    pub(crate) _present: Option<mpsc::Sender<Present>>,
    /// The worker has taken leave of its pool.
    pub(crate) left: Cell<bool>,
}

impl<S: Stage> Drop for WorkerEnv<S> {
    /// A worker that drops it without a leave has died: by a panic that no guard has met, or because somebody
    /// has stopped the thread, perhaps before the worker came to it.
    fn drop(&mut self) {
        if !self.left.get() {
            let worker = self.worker;
            panic_guard::catch_quietly(|| self.tell(FromWorker::Died { worker }));
        }
    }
}

impl<S: Stage> WorkerEnv<S> {
    pub(super) fn tell(&self, message: FromWorker<S::Input>) {
        self.pool.send(message);
    }

    /// The same, of something that the pool need not know of before it has something to hand out.
    pub(super) fn leave(&self, message: FromWorker<S::Input>) {
        self.pool.leave(message);
    }

    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout.unwrap_or_default()
    }

    /// The last stage hands its results to the reporter.
    #[inline(always)]
    pub(super) fn is_last_stage(&self) -> bool {
        self.hop.room.is_none()
    }

    /// Lets go of a task whose end was decided: its rollback may begin (G5).
    pub(super) fn let_go(&self, task: &TaskRef) {
        self.shared.let_go(task, self.stage);
    }
}
