//! Tasks on their way from one actor to the next: the message, the batch in it, and the hop it takes.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use actix::{Message, Recipient};
use tokio::sync::Semaphore;

use crate::{panic_guard, task::TaskRef};

/// Tasks on their way: a producer sends them to the first pool, each pool to the next one, the
/// last one to the reporter.
///
/// A message carries one task or many. A stage that is an actor of yours gets
/// `TaskMsg<In, Reply<Out, Undo>>`, which carries one and its [`Reply`](crate::actor::Reply).
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
    /// Takes its memory back once it is empty.
    home: Option<Arc<Empties<C>>>,
}

/// The memory of batches that went along a hop, for the next ones: an allocation too large for the
/// allocator's thread cache costs a tenth of a microsecond to get and to give back.
pub(crate) struct Empties<C>(Mutex<Vec<Batch<C>>>);

/// The most that are kept, and the most bytes of contexts that each of them may hold.
const EMPTIES: usize = 8;
const EMPTY_BYTES: usize = 1 << 16;

impl<C> Empties<C> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Empties(Mutex::new(Vec::new())))
    }

    /// A batch that comes back here when it is dropped.
    fn batch(self: &Arc<Self>) -> Batch<C> {
        let mut batch = panic_guard::lock(&self.0).pop().unwrap_or_else(Batch::new);
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

    /// Leaves out what stands without its partner at the end of one column.
    pub(crate) fn cut_to_pairs(&mut self) {
        let pairs = self.tasks.len().min(self.values.len());
        self.tasks.truncate(pairs);
        for value in self.values.drain(pairs..) {
            panic_guard::drop_quietly(value);
        }
    }

    pub(crate) fn reverse(&mut self) {
        self.tasks.reverse();
        self.values.reverse();
    }
}

impl<C> Drop for Batch<C> {
    fn drop(&mut self) {
        for value in self.values.drain(..) {
            panic_guard::drop_quietly(value);
        }
        if !self.tasks.is_empty() {
            report_lost(&mut self.tasks);
        }
        if let Some(home) = self.home.take()
            && self.values.capacity() > 0
            && self.values.capacity() * size_of::<C>() <= EMPTY_BYTES
        {
            let mut empties = panic_guard::lock(&home.0);
            if empties.len() < EMPTIES {
                empties.push(Batch {
                    tasks: mem::take(&mut self.tasks),
                    values: mem::take(&mut self.values),
                    // It would keep the very list alive that it is in.
                    home: None,
                });
            }
        }
    }
}

/// Ends tasks whose batch was dropped with an actor that had died, or with a message to it.
#[cold]
fn report_lost(tasks: &mut Vec<TaskRef>) {
    for task in tasks.drain(..) {
        if let Some(pipeline) = task.owner.upgrade() {
            pipeline.task_lost(task);
        }
    }
}

/// The way from a pool (or a producer) to the next one, and how much room there is at its end.
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

    /// An empty batch for what is to be sent, with memory for so many tasks.
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
