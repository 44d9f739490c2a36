//! The tasks that wait for a worker of a stage. Its pool puts them in and hands them out; a worker that waits
//! with each task takes the next one by itself, which saves a notice to the pool and a job from it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{panic_guard, report::StageStats, shared::hop::Batch, task::TaskRef};

pub(crate) struct Backlog<I> {
    /// Batches as they came, so that nearly none has to be moved.
    pieces: Mutex<VecDeque<Piece<I>>>,
    /// Its `queued` is the number of tasks in them, written under the lock.
    stats: Arc<StageStats>,
    /// Workers may take tasks by themselves.
    open: AtomicBool,
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

    fn take_stopped(&mut self, stopped: &mut Vec<(TaskRef, I)>) {
        if !self.tasks.iter().any(|task| task.is_ending()) {
            return;
        }
        for _ in 0..self.tasks.len() {
            let Some(next) = self.tasks.pop_front().zip(self.values.pop_front()) else {
                return;
            };
            if next.0.is_ending() {
                stopped.push(next);
            } else {
                self.tasks.push_back(next.0);
                self.values.push_back(next.1);
            }
        }
    }
}

impl<I> Drop for Piece<I> {
    fn drop(&mut self) {
        for value in self.values.drain(..) {
            panic_guard::drop_quietly(value);
        }
    }
}

impl<I> Backlog<I> {
    pub(crate) fn new(stats: Arc<StageStats>) -> Self {
        Backlog {
            pieces: Mutex::default(),
            stats,
            open: AtomicBool::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.stats.queued.load(Ordering::Relaxed)
    }

    /// The pool says, with each thing that happens to it, if workers may take tasks by themselves.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// One task for a worker that comes by itself, if it may and there is one.
    pub(crate) fn take_one(&self) -> Option<Batch<I>> {
        if !self.open.load(Ordering::Relaxed) || self.len() == 0 {
            return None;
        }
        Some(self.take(1)).filter(|batch| !batch.is_empty())
    }

    pub(crate) fn push(&self, batch: Batch<I>) {
        if !batch.is_empty() {
            self.change(|pieces, len| {
                *len += batch.len();
                pieces.push_back(Piece::new(batch));
            });
        }
    }

    pub(crate) fn put_back(&self, batch: Batch<I>) {
        if !batch.is_empty() {
            self.change(|pieces, len| {
                *len += batch.len();
                pieces.push_front(Piece::new(batch));
            });
        }
    }

    /// The first tasks, in order: none where a worker has been quicker.
    pub(crate) fn take(&self, most: usize) -> Batch<I> {
        self.change(|pieces, len| {
            let Some(mut piece) = pieces.pop_front() else {
                return Batch::new();
            };
            if piece.tasks.len() > most {
                let first = piece.first(most);
                pieces.push_front(piece);
                *len -= most;
                return first;
            }
            let mut batch = piece.whole();
            while let Some(next) = pieces.front_mut()
                && batch.len() < most
            {
                let missing = most - batch.len();
                if next.tasks.len() > missing {
                    batch.append(&mut next.first(missing));
                } else if let Some(next) = pieces.pop_front() {
                    batch.append(&mut next.whole());
                }
            }
            *len -= batch.len();
            batch
        })
    }

    /// Takes out the tasks whose end is decided, with their values, which the caller drops: under the lock no code of the
    /// user's runs.
    pub(crate) fn take_stopped(&self) -> Vec<(TaskRef, I)> {
        self.change(|pieces, len| {
            let mut stopped = Vec::new();
            for piece in &mut *pieces {
                piece.take_stopped(&mut stopped);
            }
            pieces.retain(|piece| !piece.tasks.is_empty());
            *len -= stopped.len();
            stopped
        })
    }

    /// Those of the last tasks that meet a condition.
    #[cfg(feature = "journal")]
    pub(crate) fn last(&self, most: usize, condition: impl Fn(&TaskRef) -> bool) -> Vec<TaskRef> {
        self.change(|pieces, _| {
            let tasks = pieces
                .iter()
                .rev()
                .flat_map(|piece| piece.tasks.iter().rev());
            tasks
                .filter(|task| condition(task))
                .take(most)
                .cloned()
                .collect()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Piece<I>>, &mut usize) -> T) -> T {
        let mut pieces = panic_guard::lock(&self.pieces);
        let mut len = self.len();
        let result = change(&mut pieces, &mut len);
        self.stats.queued.store(len, Ordering::Relaxed);
        result
    }
}
