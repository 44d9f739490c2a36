//! What waits for a stage: a queue of tasks, and those that wait for their next attempt.

use std::collections::VecDeque;

use crate::{
    clock::Nanos,
    guard,
    message::Batch,
    task::{StageIx, State, TaskRef, fence},
};

pub(crate) struct Queue<I> {
    stage: StageIx,
    /// As they came, so that nothing is moved on the way of nearly every batch.
    pieces: VecDeque<Piece<I>>,
    len: usize,
    /// Waiting for their next attempt, in no order.
    resting: Vec<Resting<I>>,
    /// How many in here were ended, as far as is known.
    dead: usize,
}

/// A batch of which some may have been taken.
struct Piece<I> {
    tasks: VecDeque<TaskRef>,
    values: VecDeque<I>,
    /// What it came in, without what it held.
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

    /// The first ones of more than that.
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
            guard::drop_quietly(value);
        }
    }
}

struct Resting<I> {
    task: TaskRef,
    input: I,
    due: Nanos,
}

/// A queue this short is searched for ended tasks at once; a longer one when half of it has ended,
/// or a little later.
const SHORT: usize = 1024;

/// Tasks whose end was decided, taken out: their pool lets go of them.
#[derive(Default)]
pub(crate) struct Decided {
    pub(super) tasks: Vec<TaskRef>,
    /// How many of them filled a place of the queue.
    pub(super) room: usize,
}

impl Decided {
    /// Takes a task out, for good. Its value is the user's, and dropped here.
    fn add<I>(&mut self, task: TaskRef, value: I) {
        guard::drop_quietly(value);
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

    /// Takes in what comes from elsewhere. What was decided on the way is handed out: whoever did
    /// that may not know that it came here.
    pub(crate) fn push(&mut self, batch: Batch<I>, decided: &mut Decided) {
        let batch = open(batch, decided);
        if !batch.is_empty() {
            self.len += batch.len();
            self.pieces.push_back(Piece::new(batch));
        }
    }

    /// Puts back what was taken and not started.
    pub(super) fn put_back(&mut self, batch: Batch<I>, decided: &mut Decided) {
        let batch = open(batch, decided);
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
    /// up. Says when the next ones are due.
    pub(super) fn wake(&mut self, now: Nanos, decided: &mut Decided) -> Option<Nanos> {
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
                    decided.add(task, input);
                    continue;
                }
                // The reporter has it, and says so when it is through.
                State::Cleaning(_) | State::Stopping(_) => {}
                _ => {
                    let ended = self.resting.remove(at);
                    guard::drop_quietly(ended.input);
                    continue;
                }
            }
            at += 1;
        }
        self.push(due_now, decided);
        next
    }

    /// The end of some tasks that may wait here was decided: takes them out, or, where that takes
    /// long, remembers to; `false` then.
    pub(super) fn purge(&mut self, count: usize, decided: &mut Decided) -> bool {
        self.dead += count;
        if self.len > SHORT && self.dead * 2 < self.len {
            return false;
        }
        self.sweep(decided);
        true
    }

    /// Takes out whatever was decided.
    pub(super) fn sweep(&mut self, decided: &mut Decided) {
        if std::mem::take(&mut self.dead) == 0 {
            return;
        }
        self.len = 0;
        for piece in std::mem::take(&mut self.pieces) {
            self.push(piece.whole(), decided);
        }
    }

    /// Takes out what waits for a worker. Not what is still being cleaned up: the reporter has that.
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

/// Looks at what comes in.
fn open<I>(mut batch: Batch<I>, decided: &mut Decided) -> Batch<I> {
    fence();
    if !batch.tasks.iter().any(|task| task.is_decided()) {
        return batch;
    }
    let mut open = Batch::new();
    batch.reverse();
    while let Some((task, value)) = batch.pop() {
        if task.is_decided() {
            decided.add(task, value);
        } else {
            open.push(task, value);
        }
    }
    open
}

impl<I> Drop for Queue<I> {
    fn drop(&mut self) {
        for Resting { input, .. } in self.resting.drain(..) {
            guard::drop_quietly(input);
        }
    }
}
