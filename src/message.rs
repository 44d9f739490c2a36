//! Everything that actors say to each other.

use std::sync::Arc;

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
}

impl<C> Batch<C> {
    pub(crate) fn new() -> Self {
        Batch {
            tasks: Vec::new(),
            values: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    #[inline]
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

    /// Leaves the first ones, and gives the others.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        Batch {
            tasks: self.tasks.split_off(at),
            values: self.values.split_off(at),
        }
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
        if !self.values.is_empty() {
            for value in self.values.drain(..) {
                guard::drop_quietly(value);
            }
        }
    }
}

/// Where a pool sends what it has finished, and how much of it fits there.
pub(crate) struct Hop<C: Send + 'static> {
    pub(crate) to: Recipient<TaskMsg<C>>,
    /// Room in the queue at the other end; `None` where that end takes everything at once.
    pub(crate) room: Option<Arc<Semaphore>>,
}

impl<C: Send + 'static> Clone for Hop<C> {
    fn clone(&self) -> Self {
        Hop {
            to: self.to.clone(),
            room: self.room.clone(),
        }
    }
}

impl<C: Send + 'static> Hop<C> {
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
    /// A task that is being cleaned up was ended.
    Interrupted(TaskRef),
    /// From a pool: a cancel returned.
    CancelDone {
        task: TaskRef,
        undo: usize,
        result: Result<(), Failure>,
    },
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
