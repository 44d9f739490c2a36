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
    batch: Batch<I>,
    /// Its first task is the last one in it: taken one by one, they move none of the others.
    is_reversed: bool,
}

impl<I> Piece<I> {
    fn new(batch: Batch<I>) -> Self {
        Piece {
            batch,
            is_reversed: false,
        }
    }

    fn len(&self) -> usize {
        self.batch.len()
    }

    fn set_reversed(&mut self, reversed: bool) {
        if self.is_reversed != reversed {
            self.is_reversed = reversed;
            self.batch.reverse();
        }
    }

    fn whole(mut self) -> Batch<I> {
        self.set_reversed(false);
        self.batch
    }

    /// The first `most` of more than that.
    fn first(&mut self, most: usize) -> Batch<I> {
        let mut first = Batch::new();
        if !self.is_reversed && most * 4 > self.len() {
            first.tasks.extend(self.batch.tasks.drain(..most));
            first.values.extend(self.batch.values.drain(..most));
            return first;
        }
        self.set_reversed(true);
        while first.len() < most
            && let Some((task, value)) = self.batch.pop()
        {
            first.push(task, value);
        }
        first
    }

    fn take_stopped(&mut self, stopped: &mut Vec<(TaskRef, I)>) {
        if !self.batch.tasks.iter().any(|task| task.is_ending()) {
            return;
        }
        self.set_reversed(true);
        let mut open = Batch::new();
        while let Some((task, value)) = self.batch.pop() {
            if task.is_ending() {
                stopped.push((task, value));
            } else {
                open.push(task, value);
            }
        }
        *self = Piece::new(open);
    }

    /// The last one first.
    #[cfg(feature = "journal")]
    fn last(&self) -> impl Iterator<Item = &TaskRef> {
        let tasks = &self.batch.tasks;
        let place = |n| match self.is_reversed {
            true => n,
            false => tasks.len() - 1 - n,
        };
        (0..tasks.len()).map(move |n| &tasks[place(n)])
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
            if piece.len() > most {
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
                if next.len() > missing {
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
            pieces.retain(|piece| piece.len() > 0);
            *len -= stopped.len();
            stopped
        })
    }

    /// Those of the last tasks that meet a condition.
    #[cfg(feature = "journal")]
    pub(crate) fn last(&self, most: usize, condition: impl Fn(&TaskRef) -> bool) -> Vec<TaskRef> {
        self.change(|pieces, _| {
            let tasks = pieces.iter().rev().flat_map(Piece::last);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Cycles,
        report::PoolSettings,
        task::{Limits, StopReason, Task, TaskId, TaskOwner},
    };

    struct Nobody;

    impl TaskOwner for Nobody {
        fn task_lost(&self, _: TaskRef) {}
    }

    fn batch(ids: std::ops::Range<u64>) -> Batch<u64> {
        let mut batch = Batch::new();
        for id in ids {
            let owner: std::sync::Weak<Nobody> = std::sync::Weak::new();
            let task = Task::new(0, owner);
            task.renew(TaskId(id), &Limits::none(false), 0, Cycles(1));
            batch.push(Arc::new(task), id);
        }
        batch
    }

    fn ids(batch: &Batch<u64>) -> Vec<u64> {
        let tasks: Vec<u64> = batch.tasks.iter().map(|task| task.id().0).collect();
        assert_eq!(tasks, batch.values);
        tasks
    }

    #[test]
    fn tasks_are_taken_in_order_however_many_at_once() {
        let backlog = Backlog::new(Arc::new(StageStats::new(PoolSettings::default())));
        backlog.push(batch(10..30));
        backlog.push(batch(30..40));
        backlog.put_back(batch(5..10));
        // Across pieces, one by one, nearly a whole one, and what is left of one.
        let mut seen = Vec::new();
        for most in [6, 1, 1, 12, 5, 1, 3, 100] {
            let taken = backlog.take(most);
            seen.extend(ids(&taken));
            assert_eq!(backlog.len(), 35 - seen.len());
        }
        assert_eq!(seen, (5..40).collect::<Vec<u64>>());
        assert!(backlog.take(1).is_empty());
    }

    #[test]
    fn the_order_stays_where_stopped_tasks_are_taken_out() {
        let backlog = Backlog::new(Arc::new(StageStats::new(PoolSettings::default())));
        for of in [0..20, 20..40] {
            let tasks = batch(of);
            for task in tasks.tasks.iter().step_by(4) {
                task.stop(StopReason::Late);
            }
            backlog.push(tasks);
        }
        // One piece is reversed by now, the other is not.
        assert_eq!(ids(&backlog.take(1)), [0]);
        let stopped = backlog.take_stopped();
        let mut stopped: Vec<u64> = stopped.into_iter().map(|(_, id)| id).collect();
        stopped.sort_unstable();
        assert_eq!(stopped, [4, 8, 12, 16, 20, 24, 28, 32, 36]);
        let left: Vec<u64> = (0..40).filter(|id| id % 4 != 0).collect();
        assert_eq!(backlog.len(), left.len());
        assert_eq!(ids(&backlog.take(100)), left);
    }

    #[cfg(feature = "journal")]
    #[test]
    fn the_last_tasks_are_found_where_some_were_taken() {
        let backlog = Backlog::new(Arc::new(StageStats::new(PoolSettings::default())));
        backlog.push(batch(0..10));
        backlog.push(batch(10..13));
        assert_eq!(ids(&backlog.take(2)), [0, 1]);
        let last = backlog.last(5, |task| task.id().0 != 11);
        let last: Vec<u64> = last.iter().map(|task| task.id().0).collect();
        assert_eq!(last, [12, 10, 9, 8, 7]);
    }
}
