//! The newest tasks that ended other than done, in a list of bounded length.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    panic_guard,
    task::{Outcome, TaskId},
};

/// The number of ended tasks that are kept.
pub(crate) const MOST_ENDED: usize = 1_000;

/// A task that ended other than done: its outcome, with the time on the wall; made by
/// [`Control::ended`](crate::Control::ended).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndedTask {
    /// Its place among those that ended, from 1, without gaps: a [`Cursor`] for the next page. A task that is
    /// [retried](crate::Control::retry) has one for each of its ends.
    pub number: u64,
    /// The time at which it had its outcome, as the machine's clock showed it.
    pub at: SystemTime,
    /// The time from the end of its work to the end of its rollback.
    pub rollback_time: Duration,
    /// Its outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A place in the list of [ended tasks](crate::Control::ended).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cursor {
    /// The newest ones, the newest first.
    #[default]
    Newest,
    /// Those before this [number](EndedTask::number), the newest first: the next page.
    Before(u64),
    /// Those after this [number](EndedTask::number), the oldest first: what is new since.
    After(u64),
}

/// The list. The last ends are kept, whatever ran before.
#[derive(Default)]
pub(crate) struct EndedTasks(Mutex<List<EndedTask>>);

impl EndedTasks {
    /// The one that makes room is dropped under no lock: a failure is the user's.
    pub(crate) fn add(&self, outcome: Outcome, rollback_time: Duration) {
        let at = SystemTime::now();
        let mut list = panic_guard::lock(&self.0);
        let oldest = list.push(|number| EndedTask {
            number,
            at,
            rollback_time,
            outcome,
        });
        drop(list);
        panic_guard::drop_quietly(oldest);
    }

    pub(crate) fn page(&self, cursor: Cursor, limit: usize) -> Vec<EndedTask> {
        panic_guard::lock(&self.0).page(cursor, limit)
    }

    /// The last end of this task.
    pub(crate) fn find(&self, task: TaskId) -> Option<EndedTask> {
        let list = panic_guard::lock(&self.0);
        let mut newest = list.items.iter().rev();
        newest.find(|ended| ended.outcome.task == task).cloned()
    }
}

impl Drop for EndedTasks {
    fn drop(&mut self) {
        let list = std::mem::take(&mut *panic_guard::lock(&self.0));
        list.items.into_iter().for_each(panic_guard::drop_quietly);
    }
}

/// The last items of a sequence, each with its number from 1.
struct List<T> {
    items: VecDeque<T>,
    /// The number of the newest.
    last: u64,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List {
            items: VecDeque::new(),
            last: 0,
        }
    }
}

impl<T> List<T> {
    /// Returns the item that has to make room.
    fn push(&mut self, item: impl FnOnce(u64) -> T) -> Option<T> {
        let full = self.items.len() >= MOST_ENDED;
        let oldest = full.then(|| self.items.pop_front()).flatten();
        self.last += 1;
        self.items.push_back(item(self.last));
        oldest
    }
}

impl<T: Clone> List<T> {
    fn page(&self, cursor: Cursor, limit: usize) -> Vec<T> {
        let len = self.items.len() as u64;
        // The number of the one before the oldest.
        let gone = self.last - len;
        match cursor {
            Cursor::Newest => self.page(Cursor::Before(u64::MAX), limit),
            Cursor::Before(number) => {
                let older = number.saturating_sub(1).clamp(gone, self.last) - gone;
                let older = self.items.range(..older as usize).rev();
                older.take(limit).cloned().collect()
            }
            Cursor::After(number) => {
                let first = number.clamp(gone, self.last) - gone;
                let newer = self.items.range(first as usize..);
                newer.take(limit).cloned().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ends: u64) -> List<u64> {
        let mut list = List::default();
        for _ in 0..ends {
            list.push(|number| number);
        }
        list
    }

    #[test]
    fn d1_pages_meet_and_miss_nothing() {
        let list = list(25);
        let mut cursor = Cursor::Newest;
        let mut all = Vec::new();
        loop {
            let page = list.page(cursor, 10);
            let Some(last) = page.last() else { break };
            cursor = Cursor::Before(*last);
            all.extend(page);
        }
        assert_eq!(all, (1..=25).rev().collect::<Vec<_>>());
        assert_eq!(list.page(Cursor::After(0), 2), [1, 2]);
        assert_eq!(list.page(Cursor::After(23), 10), [24, 25]);
        assert_eq!(list.page(Cursor::After(25), 10), [0u64; 0]);
    }

    #[test]
    fn d1_the_list_keeps_the_newest_thousand() {
        let ends = MOST_ENDED as u64 + 7;
        let list = list(ends);
        assert_eq!(list.items.len(), MOST_ENDED);
        // The oldest that is left, for one who was away for too long.
        assert_eq!(list.page(Cursor::After(3), 1), [8]);
        assert_eq!(list.page(Cursor::Before(9), 10), [8]);
        assert_eq!(list.page(Cursor::Before(8), 10), [0u64; 0]);
        assert_eq!(list.page(Cursor::Newest, 1), [ends]);
    }

    #[test]
    fn d1_any_cursor_is_answered() {
        for list in [list(0), list(3), list(MOST_ENDED as u64 + 3)] {
            for number in [0, 1, 2, 5, 1_003, 1_004, u64::MAX] {
                for limit in [0, 1, usize::MAX] {
                    list.page(Cursor::Before(number), limit);
                    list.page(Cursor::After(number), limit);
                }
            }
        }
    }
}
