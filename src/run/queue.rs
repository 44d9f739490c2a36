//! What waits for a stage: a queue of tasks, and those that wait for their next attempt.

use std::collections::VecDeque;

use crate::{
    clock::Nanos,
    guard,
    message::Batch,
    task::{StageIx, State, TaskRef},
};

pub(super) struct Queue<I> {
    stage: StageIx,
    tasks: VecDeque<TaskRef>,
    values: VecDeque<I>,
    /// Waiting for their next attempt, in no order.
    resting: Vec<Resting<I>>,
    /// How many in here were ended, as far as is known.
    dead: usize,
}

struct Resting<I> {
    task: TaskRef,
    input: I,
    due: Nanos,
}

/// A queue this short is searched for ended tasks at once; a longer one when half of it has ended,
/// or a little later.
const SHORT: usize = 1024;

/// What became of ended tasks.
pub(super) enum Purged {
    /// They were taken out, and so many of them filled a place of the queue.
    Now(usize),
    /// They are to be swept out soon, more of them at once.
    Later,
}

impl<I> Queue<I> {
    pub(super) fn new(stage: StageIx) -> Self {
        Queue {
            stage,
            tasks: VecDeque::new(),
            values: VecDeque::new(),
            resting: Vec::new(),
            dead: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn push(&mut self, mut batch: Batch<I>) {
        self.tasks.extend(batch.tasks.drain(..));
        self.values.extend(batch.values.drain(..));
    }

    /// Puts back what was taken and not started.
    pub(super) fn put_back(&mut self, mut batch: Batch<I>) {
        while let Some((task, value)) = batch.pop() {
            self.tasks.push_front(task);
            self.values.push_front(value);
        }
    }

    pub(super) fn take(&mut self, most: usize) -> Batch<I> {
        let count = most.min(self.tasks.len());
        Batch {
            tasks: self.tasks.drain(..count).collect(),
            values: self.values.drain(..count).collect(),
        }
    }

    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    pub(super) fn rest(&mut self, task: TaskRef, input: I, due: Nanos) {
        self.resting.push(Resting { task, input, due });
    }

    /// Puts the tasks whose next attempt is due into the queue, unless they are still being cleaned
    /// up. Says when the next ones are due.
    pub(super) fn wake(&mut self, now: Nanos) -> Option<Nanos> {
        let mut next: Option<Nanos> = None;
        let mut at = 0;
        while at < self.resting.len() {
            let state = self.resting[at].task.life().state;
            let due = self.resting[at].due;
            if state == State::Queued(self.stage) && due <= now {
                let Resting { task, input, .. } = self.resting.remove(at);
                self.tasks.push_back(task);
                self.values.push_back(input);
                continue;
            }
            match state {
                State::Queued(stage) if stage == self.stage => {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                State::Cleaning(_) | State::Stopping(_) => {}
                _ => {
                    let ended = self.resting.remove(at);
                    guard::drop_quietly(ended.input);
                    continue;
                }
            }
            at += 1;
        }
        next
    }

    /// Some tasks that wait here were ended: takes them out.
    pub(super) fn purge(&mut self, ended: usize) -> Purged {
        self.dead += ended;
        if self.tasks.len() > SHORT && self.dead * 2 < self.tasks.len() {
            return Purged::Later;
        }
        Purged::Now(self.sweep())
    }

    /// Takes out whatever has ended. Says how much of it filled a place of the queue.
    pub(super) fn sweep(&mut self) -> usize {
        if std::mem::take(&mut self.dead) == 0 {
            return 0;
        }
        let mut freed = 0;
        for _ in 0..self.tasks.len() {
            let (Some(task), Some(value)) = (self.tasks.pop_front(), self.values.pop_front())
            else {
                break;
            };
            let life = task.life();
            if life.state == State::Queued(self.stage) {
                drop(life);
                self.tasks.push_back(task);
                self.values.push_back(value);
            } else {
                freed += usize::from(life.attempt == 1);
                drop(life);
                guard::drop_quietly(value);
            }
        }
        freed
    }

    /// Takes out what waits for a worker. Not what is still being cleaned up: the reporter has that.
    pub(super) fn drain_waiting(&mut self) -> Batch<I> {
        let mut waiting = self.take(usize::MAX);
        let mut at = 0;
        while at < self.resting.len() {
            if self.resting[at].task.life().state == State::Queued(self.stage) {
                let Resting { task, input, .. } = self.resting.remove(at);
                waiting.push(task, input);
            } else {
                at += 1;
            }
        }
        waiting
    }

    /// Takes everything out, those that wait for their next attempt too.
    pub(super) fn drain(&mut self) -> Batch<I> {
        let mut all = self.take(usize::MAX);
        for Resting { task, input, .. } in self.resting.drain(..) {
            all.push(task, input);
        }
        all
    }
}

impl<I> Drop for Queue<I> {
    fn drop(&mut self) {
        drop(self.drain());
    }
}
