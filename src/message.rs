//! Everything that actors say to each other.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
};

use actix::{Message, Recipient};
use tokio::sync::Semaphore;

use crate::{
    Failure, guard,
    task::{StageIx, TaskRef},
};

/// Tasks on their way: a producer sends them to the first pool, each pool to the next one, the
/// last one to the reporter.
///
/// A message carries one task or many. A stage that is an actor of yours gets
/// `TaskMsg<In, Reply<Out, Undo>>`, which carries one and its [`Reply`](crate::Reply).
#[derive(Message)]
#[rtype(result = "()")]
pub struct TaskMsg<C, R = Onward> {
    pub(crate) batch: Batch<C>,
    pub(crate) reply: R,
}

/// The tasks of this message go on by themselves: nobody waits for a reply.
pub struct Onward(pub(crate) ());

/// Tasks and their contexts, in two columns, so that neither is copied when only the other moves.
pub(crate) struct Batch<C> {
    pub(crate) tasks: Vec<TaskRef>,
    pub(crate) values: Vec<C>,
    /// Where its memory goes when it is empty.
    home: Option<Arc<Empties<C>>>,
}

/// The memory of batches that went along a hop, for the next ones: what is too large for the quick
/// lists of an allocator costs a tenth of a microsecond to get and to give back.
pub(crate) struct Empties<C>(Mutex<Vec<Batch<C>>>);

/// How many are kept, and how many bytes of contexts each of them may hold.
const EMPTIES: usize = 8;
const EMPTY_BYTES: usize = 1 << 16;

impl<C> Empties<C> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Empties(Mutex::new(Vec::new())))
    }

    /// A batch that comes back here when it is dropped.
    fn batch(self: &Arc<Self>) -> Batch<C> {
        let mut batch = guard::lock(&self.0).pop().unwrap_or_else(Batch::new);
        batch.home = Some(self.clone());
        batch
    }
}

impl<C> Batch<C> {
    pub(crate) fn new() -> Self {
        Batch {
            tasks: Vec::new(),
            values: Vec::new(),
            home: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, task: TaskRef, value: C) {
        self.tasks.push(task);
        self.values.push(value);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(TaskRef, C)> {
        let last = self.values.len().checked_sub(1)?;
        // `swap_remove` hands the value over whole, where `pop` would wrap it into an option: a
        // copy the processor stalls on, once per task and stage.
        Some((self.tasks.swap_remove(last), self.values.swap_remove(last)))
    }

    /// Takes over what another one has, and leaves that empty.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.tasks.append(&mut other.tasks);
        self.values.append(&mut other.values);
    }

    pub(crate) fn reverse(&mut self) {
        self.tasks.reverse();
        self.values.reverse();
    }
}

impl<C> Drop for Batch<C> {
    fn drop(&mut self) {
        for value in self.values.drain(..) {
            guard::drop_quietly(value);
        }
        self.tasks.clear();
        if let Some(home) = self.home.take()
            && self.values.capacity() > 0
            && self.values.capacity() * size_of::<C>() <= EMPTY_BYTES
        {
            let mut empties = guard::lock(&home.0);
            if empties.len() < EMPTIES {
                empties.push(Batch {
                    tasks: mem::take(&mut self.tasks),
                    values: mem::take(&mut self.values),
                    home: None,
                });
            }
        }
    }
}

/// Where a pool sends what it has finished, and how much of it fits there.
pub(crate) struct Hop<C: Send + 'static> {
    to: Recipient<TaskMsg<C>>,
    /// Room in the queue at the other end; `None` where that end takes everything at once.
    pub(crate) room: Option<Arc<Semaphore>>,
    empties: Arc<Empties<C>>,
}

impl<C: Send + 'static> Clone for Hop<C> {
    fn clone(&self) -> Self {
        Hop {
            to: self.to.clone(),
            room: self.room.clone(),
            empties: self.empties.clone(),
        }
    }
}

impl<C: Send + 'static> Hop<C> {
    pub(crate) fn new(to: Recipient<TaskMsg<C>>, room: Option<Arc<Semaphore>>) -> Self {
        Hop {
            to,
            room,
            empties: Empties::new(),
        }
    }

    /// For what is to be sent, with memory for so many tasks.
    pub(crate) fn batch(&self, tasks: usize) -> Batch<C> {
        let mut batch = self.empties.batch();
        let tasks = tasks.min(EMPTY_BYTES / size_of::<C>().max(1));
        batch.tasks.reserve(tasks);
        batch.values.reserve(tasks);
        batch
    }

    pub(crate) fn send(&self, batch: Batch<C>) {
        self.to.do_send(TaskMsg {
            batch,
            reply: Onward(()),
        });
    }
}

/// What the others say to a pool.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToPool {
    /// From the reporter: cancel this undo, before any new work.
    Cancel {
        task: TaskRef,
        undo: usize,
        attempt: u32,
    },
    /// Someone ended a task that this worker is on.
    Halt { worker: u32 },
    /// The end of these tasks, which wait here or in the hands of a worker, was decided: let go of
    /// them.
    Decided(Vec<TaskRef>),
    /// From the reporter: the failed attempt's undos are cancelled, the next attempt may come.
    Cleaned,
    /// Have this many workers.
    Resize(usize),
    /// The pipeline was paused or resumed.
    Look,
    /// From the reporter: stop where you are, or (`false`) once the workers have nothing left.
    Close { suspend: bool },
    /// From the reporter: your workers were given up, leave them.
    Leave,
}

/// Waits for room that is filled already.
#[cfg(feature = "journal")]
pub(crate) type Debt = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the others say to the reporter.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToReporter {
    /// Its holder has let go of this task, whose end is decided: roll it back.
    Stopped(TaskRef),
    /// An attempt failed and will be repeated: cancel what it registered first.
    CleanUp {
        task: TaskRef,
        stage: StageIx,
        failure: Failure,
    },
    /// An attempt was interrupted by the end of the process: cancel what it registered first.
    #[cfg(feature = "journal")]
    Resumed { task: TaskRef, stage: StageIx },
    /// A rollback was under way when the process ended: go on with it.
    #[cfg(feature = "journal")]
    RollBack { task: TaskRef, cancelled: usize },
    /// Collect so much room, which restored tasks fill.
    #[cfg(feature = "journal")]
    Debts(Vec<Debt>),
    /// A task that is being cleaned up was ended.
    Interrupted(TaskRef),
    /// From a pool: a cancel returned.
    CancelDone {
        task: TaskRef,
        undo: usize,
        result: Result<(), Failure>,
    },
    /// Nobody else sees to this.
    Await(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// A producer has ended.
    ProducerEnded {
        name: Arc<str>,
        result: Result<(), Failure>,
    },
    /// The last handle and the last intake are gone.
    Deserted,
    /// Begin to end, or make haste.
    ShutDown(crate::policy::Shutdown),
    /// Something could not be recorded.
    Unrecorded(Arc<str>),
    /// A pool has stopped.
    PoolClosed,
}

impl ToReporter {
    pub(crate) fn is_about_a_task(&self) -> bool {
        use ToReporter as T;
        matches!(
            self,
            T::Stopped(_) | T::CleanUp { .. } | T::Interrupted(_) | T::CancelDone { .. }
        )
    }
}

/// To a producer actor: send on what was submitted, or end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToProducer {
    Flush,
    End,
}
