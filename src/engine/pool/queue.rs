//! Tasks that wait for a stage: in its queue, or for their next attempt.

use std::sync::Arc;

use crate::{
    clock::Nanos,
    engine::backlog::Backlog,
    panic_guard,
    report::StageStats,
    shared::hop::Batch,
    task::{StageIx, State, TaskRef, fence},
};

pub(crate) struct Queue<I> {
    stage: StageIx,
    backlog: Arc<Backlog<I>>,
    /// Waiting for their next attempt, in the order in which they failed.
    resting: Vec<Resting<I>>,
    /// Number of tasks in here that were stopped, as far as is known.
    dead: usize,
}

struct Resting<I> {
    task: TaskRef,
    input: I,
    due: Nanos,
}

/// A queue this short is searched for stopped tasks at once; a longer one when half of it was
/// stopped, or a little later.
const SHORT: usize = 1024;

/// Tasks that were taken out because their end was decided. Their pool lets go of them.
#[derive(Default)]
pub(crate) struct Evicted {
    pub(super) tasks: Vec<TaskRef>,
    /// Number of those that filled a place of the queue.
    pub(super) room: usize,
}

impl Evicted {
    /// Takes a task out for good, and drops its value, which is the user's.
    fn add<I>(&mut self, task: TaskRef, value: I) {
        panic_guard::drop_quietly(value);
        self.room += usize::from(task.attempt() == 1);
        self.tasks.push(task);
    }
}

impl<I> Queue<I> {
    pub(crate) fn new(stage: StageIx, stats: Arc<StageStats>) -> Self {
        Queue {
            stage,
            backlog: Arc::new(Backlog::new(stats)),
            resting: Vec::new(),
            dead: 0,
        }
    }

    /// Those that wait for a worker.
    pub(super) fn backlog(&self) -> &Arc<Backlog<I>> {
        &self.backlog
    }

    pub(super) fn len(&self) -> usize {
        self.backlog.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in tasks from elsewhere. Those that were stopped on the way are handed out: the
    /// stopper may not know that they came here.
    pub(crate) fn push(&mut self, batch: Batch<I>, evicted: &mut Evicted) {
        self.backlog.push(open(batch, evicted));
    }

    /// Puts tasks back that were taken and not started.
    pub(super) fn put_back(&mut self, batch: Batch<I>, evicted: &mut Evicted) {
        self.backlog.put_back(open(batch, evicted));
    }

    pub(crate) fn take(&mut self, most: usize) -> Batch<I> {
        self.backlog.take(most)
    }

    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    pub(super) fn rest(&mut self, task: TaskRef, input: I, due: Nanos) {
        self.resting.push(Resting { task, input, due });
    }

    /// Puts the tasks whose next attempt is due into the queue, unless they are still being cleaned
    /// up. Returns when the next ones are due.
    pub(super) fn wake(&mut self, now: Nanos, evicted: &mut Evicted) -> Option<Nanos> {
        let mut next: Option<Nanos> = None;
        let mut due_now = Batch::new();
        let mut at = 0;
        fence();
        while at < self.resting.len() {
            let Resting { task, due, .. } = &self.resting[at];
            match task.state() {
                State::Queued(stage) if stage == self.stage => {
                    if *due <= now {
                        let Resting { task, input, .. } = self.resting.remove(at);
                        due_now.push(task, input);
                        continue;
                    }
                    next = Some(next.map_or(*due, |next| next.min(*due)));
                }
                // It waits for its next attempt, and there is none.
                State::Stopping(_) if task.is_queued() => {
                    let Resting { task, input, .. } = self.resting.remove(at);
                    evicted.add(task, input);
                    continue;
                }
                // The reporter has it, and says so when it is through.
                State::Cleaning(_) | State::Stopping(_) => {}
                // Rolled back or ended meanwhile: nobody needs its input.
                _ => {
                    let ended = self.resting.remove(at);
                    panic_guard::drop_quietly(ended.input);
                    continue;
                }
            }
            at += 1;
        }
        self.push(due_now, evicted);
        next
    }

    /// Some tasks that may wait here were stopped: takes them out, or, where that takes long, remembers
    /// to, and returns `false`.
    pub(super) fn purge(&mut self, count: usize, evicted: &mut Evicted) -> bool {
        self.dead += count;
        let len = self.len();
        if len > SHORT && self.dead * 2 < len {
            return false;
        }
        self.sweep(evicted);
        true
    }

    /// Takes out all tasks that were stopped.
    pub(super) fn sweep(&mut self, evicted: &mut Evicted) {
        if std::mem::take(&mut self.dead) == 0 {
            return;
        }
        fence();
        for (task, value) in self.backlog.take_stopped() {
            evicted.add(task, value);
        }
    }

    /// The tasks that came last, and that somebody can do without here: nobody has a ticket, or it can be asked for by
    /// their key. None that waits for another attempt.
    #[cfg(feature = "journal")]
    pub(super) fn last(&self, most: usize) -> Vec<TaskRef> {
        let can_go = |task: &TaskRef| {
            task.attempt() == 1
                && !task.is_ending()
                && (!task.has_ticket() || task.names().key.is_some())
        };
        self.backlog.last(most, can_go)
    }

    /// Takes out all tasks that wait for a worker, except those that are being cleaned up: the reporter
    /// has those.
    pub(super) fn drain_waiting(&mut self) -> Batch<I> {
        let mut waiting = self.take(usize::MAX);
        let mut at = 0;
        while at < self.resting.len() {
            if self.resting[at].task.is_queued() {
                let Resting { task, input, .. } = self.resting.remove(at);
                waiting.push(task, input);
            } else {
                at += 1;
            }
        }
        waiting
    }
}

/// Takes stopped tasks out of a batch that comes in.
fn open<I>(mut batch: Batch<I>, evicted: &mut Evicted) -> Batch<I> {
    fence();
    if !batch.tasks.iter().any(|task| task.is_ending()) {
        return batch;
    }
    let mut open = Batch::new();
    batch.reverse();
    while let Some((task, value)) = batch.pop() {
        if task.is_ending() {
            evicted.add(task, value);
        } else {
            open.push(task, value);
        }
    }
    open
}

impl<I> Drop for Queue<I> {
    fn drop(&mut self) {
        for Resting { input, .. } in self.resting.drain(..) {
            panic_guard::drop_quietly(input);
        }
    }
}
