//! Tasks that wait for a stage: in its queue, or for their next attempt.

use std::collections::VecDeque;

use crate::{
    clock::Nanos,
    panic_guard,
    shared::hop::Batch,
    task::{StageIx, State, TaskRef, fence},
};

pub(crate) struct Queue<I> {
    stage: StageIx,
    /// Batches as they came, so that nearly none has to be moved.
    pieces: VecDeque<Piece<I>>,
    len: usize,
    /// Waiting for their next attempt, in the order in which they failed.
    resting: Vec<Resting<I>>,
    /// Number of tasks in here that were stopped, as far as is known.
    dead: usize,
}

/// A batch of which some may have been taken.
struct Piece<I> {
    tasks: VecDeque<TaskRef>,
    values: VecDeque<I>,
    /// The batch that it came in, emptied, so that its memory goes back where it came from.
    shell: Batch<I>,
}

impl<I> Piece<I> {
    fn new(mut shell: Batch<I>) -> Self {
        Piece {
            tasks: std::mem::take(&mut shell.tasks).into(),
            values: std::mem::take(&mut shell.values).into(),
            shell,
        }
    }

    fn whole(mut self) -> Batch<I> {
        self.shell.tasks = std::mem::take(&mut self.tasks).into();
        self.shell.values = std::mem::take(&mut self.values).into();
        std::mem::replace(&mut self.shell, Batch::new())
    }

    /// The first `most` of more than that.
    fn first(&mut self, most: usize) -> Batch<I> {
        let mut first = Batch::new();
        first.tasks.extend(self.tasks.drain(..most));
        first.values.extend(self.values.drain(..most));
        first
    }
}

impl<I> Drop for Piece<I> {
    fn drop(&mut self) {
        for value in self.values.drain(..) {
            panic_guard::drop_quietly(value);
        }
    }
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
    pub(crate) fn new(stage: StageIx) -> Self {
        Queue {
            stage,
            pieces: VecDeque::new(),
            len: 0,
            resting: Vec::new(),
            dead: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in tasks from elsewhere. Those that were stopped on the way are handed out: the
    /// stopper may not know that they came here.
    pub(crate) fn push(&mut self, batch: Batch<I>, evicted: &mut Evicted) {
        let batch = open(batch, evicted);
        if !batch.is_empty() {
            self.len += batch.len();
            self.pieces.push_back(Piece::new(batch));
        }
    }

    /// Puts tasks back that were taken and not started.
    pub(super) fn put_back(&mut self, batch: Batch<I>, evicted: &mut Evicted) {
        let batch = open(batch, evicted);
        if !batch.is_empty() {
            self.len += batch.len();
            self.pieces.push_front(Piece::new(batch));
        }
    }

    pub(crate) fn take(&mut self, most: usize) -> Batch<I> {
        let Some(mut piece) = self.pieces.pop_front() else {
            return Batch::new();
        };
        if piece.tasks.len() > most {
            let first = piece.first(most);
            self.pieces.push_front(piece);
            self.len -= most;
            return first;
        }
        let mut batch = piece.whole();
        while let Some(next) = self.pieces.front_mut()
            && batch.len() < most
        {
            let missing = most - batch.len();
            if next.tasks.len() > missing {
                batch.append(&mut next.first(missing));
            } else if let Some(next) = self.pieces.pop_front() {
                batch.append(&mut next.whole());
            }
        }
        self.len -= batch.len();
        batch
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
        if self.len > SHORT && self.dead * 2 < self.len {
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
        self.len = 0;
        for piece in std::mem::take(&mut self.pieces) {
            self.push(piece.whole(), evicted);
        }
    }

    /// The tasks that came last, and that somebody can do without here: nobody has a ticket, or it can be asked for by
    /// their key. None that waits for another attempt.
    #[cfg(feature = "journal")]
    pub(super) fn last(&self, most: usize) -> Vec<TaskRef> {
        let tasks = self
            .pieces
            .iter()
            .rev()
            .flat_map(|piece| piece.tasks.iter().rev());
        let can_go = |task: &&TaskRef| {
            task.attempt() == 1
                && !task.is_ending()
                && (!task.has_ticket() || task.names().key.is_some())
        };
        tasks.filter(can_go).take(most).cloned().collect()
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
