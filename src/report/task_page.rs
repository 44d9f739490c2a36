//! One page of a list that is ordered by the numbers of tasks, collected from tasks in any order.

use std::collections::BTreeMap;

use crate::task::TaskId;

/// Collects the tasks with the lowest numbers after a cursor.
pub(crate) struct PageBuilder<T> {
    after: u64,
    limit: usize,
    tasks: BTreeMap<u64, T>,
    /// There are more than fit.
    more: bool,
    /// All that were offered, those before the cursor included.
    total: usize,
}

impl<T> PageBuilder<T> {
    pub(crate) fn new(after: Option<TaskId>, limit: usize) -> Self {
        PageBuilder {
            after: after.map_or(0, |task| task.0),
            limit,
            tasks: BTreeMap::new(),
            more: false,
            total: 0,
        }
    }

    /// Returns what has to make room, for the caller to drop where that is allowed.
    pub(crate) fn offer(&mut self, task: TaskId, value: impl FnOnce() -> T) -> Option<T> {
        self.total += 1;
        if task.0 <= self.after {
            return None;
        }
        if self.tasks.len() < self.limit {
            self.tasks.insert(task.0, value());
            return None;
        }
        self.more = true;
        let last = *self.tasks.last_key_value()?.0;
        if task.0 > last {
            return None;
        }
        self.tasks.insert(task.0, value());
        self.tasks.pop_last().map(|(_, value)| value)
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The page, and the cursor of the next one if there is one.
    pub(crate) fn finish(self) -> (Vec<T>, Option<TaskId>) {
        let last = self.tasks.last_key_value().map(|(task, _)| TaskId(*task));
        let next = last.filter(|_| self.more);
        (self.tasks.into_values().collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_a_page_has_the_lowest_numbers_after_its_cursor() {
        let page = |after: Option<u64>, limit| {
            let mut page = PageBuilder::new(after.map(TaskId), limit);
            for task in [9, 2, 7, 4, 1, 8] {
                page.offer(TaskId(task), || task);
            }
            assert_eq!(page.total(), 6);
            let (tasks, next) = page.finish();
            (tasks, next.map(|task| task.0))
        };
        assert_eq!(page(None, 2), (vec![1, 2], Some(2)));
        assert_eq!(page(Some(2), 2), (vec![4, 7], Some(7)));
        assert_eq!(page(Some(7), 2), (vec![8, 9], None));
        assert_eq!(page(Some(9), 2), (vec![], None));
        assert_eq!(page(None, 6), (vec![1, 2, 4, 7, 8, 9], None));
        assert_eq!(page(None, 0), (vec![], None));
    }
}
