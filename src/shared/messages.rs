//! Messages to the pools, the reporter and the producers.
//!
//! Tasks themselves travel in a [`TaskMsg`](super::hop::TaskMsg). A worker has messages of its own: from
//! its pool in `engine/worker/inbox.rs`, to its pool in `engine/worker/env.rs`.

use std::{future::Future, pin::Pin, sync::Arc};

use actix::Message;

use crate::{
    failure::Failure,
    ledger::Recorded,
    policy::{RateLimit, Shutdown},
    task::{Reopened, StageIx, TaskRef},
};

/// To a pool.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToPool {
    /// From the reporter: run this undo, before any new work.
    Cancel {
        task: TaskRef,
        undo: usize,
        attempt: u32,
    },
    /// The task that this worker is on was stopped.
    StopRunning { worker: u32 },
    /// These tasks, which wait here or in the batch of a worker, were stopped: let go of them.
    StopQueued(Vec<TaskRef>),
    /// From the reporter: the failed attempt's undos have run, the next attempt may come.
    CleanedUp,
    /// Leave so many of the tasks that wait here, or fewer, to another process: those that came last.
    #[cfg(feature = "journal")]
    Release(usize),
    /// Have this many workers.
    Resize(usize),
    /// Start no more attempts than that; `None` for no limit.
    SetRate(Option<RateLimit>),
    /// The pipeline was paused or resumed: see what is to be done now.
    Dispatch,
    /// From the reporter: end.
    Close(Closing),
    /// From the reporter: your workers were given up, leave them behind.
    Abandon,
}

/// The way in which a pool is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Once the workers have nothing left.
    WhenIdle,
    /// At once, with everything left where it is.
    Suspended,
}

/// A detached future.
pub(crate) type Detached = Pin<Box<dyn Future<Output = ()> + Send>>;

/// To the reporter.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToReporter {
    /// The holder of this task, whose end is decided, has let go of it: roll it back.
    Stopped(TaskRef),
    /// An attempt failed and will be repeated: run the undos that it registered first.
    CleanUp {
        task: TaskRef,
        stage: StageIx,
        failure: Failure,
    },
    /// An attempt was interrupted by the end of the process: run the undos that it registered first.
    #[cfg(feature = "journal")]
    CleanUpRestored {
        task: TaskRef,
        stage: StageIx,
    },
    /// A rollback was under way when the process ended, and had run so many undos: go on with it.
    #[cfg(feature = "journal")]
    RollBackRestored {
        task: TaskRef,
        undone: usize,
    },
    /// The restored task that comes next was at work at several kills, or an undo of its own was: those
    /// go on one at a time.
    #[cfg(feature = "journal")]
    Suspect {
        task: TaskRef,
        undo: bool,
    },
    /// Tasks were stuck when the process ended.
    #[cfg(feature = "journal")]
    StuckRestored,
    /// A task was not accepted after all.
    Revoked,
    /// The rest of a stuck task's rollback is to run again, or a done task is to be taken back, once that
    /// is recorded.
    Reopened(Reopened, Recorded),
    /// Collect the room that tasks fill which have not asked for any: each future takes some out of a
    /// semaphore.
    #[cfg(feature = "journal")]
    CollectRoom(Vec<Detached>),
    /// Tasks of another process go on here: does that, unless the pipeline ends.
    #[cfg(feature = "journal")]
    Adopt(Box<dyn FnOnce() + Send>),
    /// A task that is being cleaned up was stopped.
    StoppedWhileCleaning(TaskRef),
    /// From a pool: an undo has run, or failed to.
    CancelDone {
        task: TaskRef,
        undo: usize,
        result: Result<(), Failure>,
    },
    /// Run this to its end; nobody else does.
    RunDetached(Detached),
    ProducerEnded {
        name: Arc<str>,
        result: Result<(), Failure>,
    },
    /// The last handle and the last intake are gone.
    AllHandlesDropped,
    /// Begin to end, or hasten the end.
    ShutDown(Shutdown),
    /// Something could not be recorded.
    LedgerFailed(Arc<str>),
    PoolClosed,
}

impl ToReporter {
    pub(crate) fn is_about_a_task(&self) -> bool {
        use ToReporter as T;
        matches!(
            self,
            T::Stopped(_)
                | T::CleanUp { .. }
                | T::StoppedWhileCleaning(_)
                | T::CancelDone { .. }
                | T::Reopened(..)
        )
    }
}

/// To a producer actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToProducer {
    /// Send on what was submitted.
    Flush,
    End,
}
