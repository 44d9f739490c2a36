//! The timelines of tasks that have ended, in a store of bounded size.

use std::{collections::VecDeque, sync::Mutex};

use super::timeline::{Event, Events};
use crate::{panic_guard, task::TaskId};

/// The size of the store where there is no recorder, in bytes.
pub(crate) const BYTES: usize = 1 << 20;

/// The store: the newest timelines, as many as fit.
pub(crate) struct Timelines(Mutex<Store>);

/// All events in one ring, so that a task needs no memory of its own.
struct Store {
    most_bytes: usize,
    events: VecDeque<Event>,
    tasks: VecDeque<Kept>,
}

/// A timeline in the store.
#[derive(Clone, Copy)]
struct Kept {
    task: TaskId,
    events: u32,
    left_out: u32,
    recorded: bool,
}

/// A timeline, taken out.
pub(crate) struct Found {
    pub(crate) events: Vec<Event>,
    pub(crate) left_out: usize,
    pub(crate) recorded: bool,
}

impl Timelines {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Timelines(Mutex::new(Store {
            most_bytes,
            events: VecDeque::new(),
            tasks: VecDeque::new(),
        }))
    }

    /// Keeps the events of a task, in place of the oldest ones.
    pub(crate) fn keep(&self, task: TaskId, events: &Events, recorded: bool) {
        panic_guard::lock(&self.0).keep(task, events, recorded);
    }

    /// The last one of this task.
    pub(crate) fn find(&self, task: TaskId) -> Option<Found> {
        panic_guard::lock(&self.0).find(task)
    }
}

impl Store {
    fn bytes(&self) -> usize {
        size_of::<Event>() * self.events.len() + size_of::<Kept>() * self.tasks.len()
    }

    fn keep(&mut self, task: TaskId, events: &Events, recorded: bool) {
        let more = size_of::<Event>() * events.len() + size_of::<Kept>();
        if more > self.most_bytes {
            return;
        }
        while self.bytes() + more > self.most_bytes
            && let Some(oldest) = self.tasks.pop_front()
        {
            self.events.drain(..oldest.events as usize);
        }
        self.events.extend(events.in_order());
        self.tasks.push_back(Kept {
            task,
            events: events.len() as u32,
            left_out: u32::try_from(events.left_out()).unwrap_or(u32::MAX),
            recorded,
        });
    }

    fn find(&self, task: TaskId) -> Option<Found> {
        let mut end = self.events.len();
        for kept in self.tasks.iter().rev() {
            let begin = end - kept.events as usize;
            if kept.task == task {
                return Some(Found {
                    events: self.events.range(begin..end).copied().collect(),
                    left_out: kept.left_out as usize,
                    recorded: kept.recorded,
                });
            }
            end = begin;
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::timeline::tests::events, *};

    #[test]
    fn d1_timelines_are_bounded_in_bytes_and_the_newest_stay() {
        const BYTES: usize = 1_000;
        let mut store = Store {
            most_bytes: BYTES,
            events: VecDeque::new(),
            tasks: VecDeque::new(),
        };
        for task in 1..=200 {
            store.keep(TaskId(task), &events(task as u32 % 7), false);
            assert!(store.bytes() <= BYTES);
            let found = store.find(TaskId(task)).unwrap();
            assert_eq!(found.events.len() as u64, task % 7);
            let numbers = found.events.iter().map(|event| event.number);
            assert!(numbers.eq(0..task as u32 % 7));
        }
        assert!(store.find(TaskId(199)).is_some());
        assert!(store.find(TaskId(1)).is_none());
        // One that fits nowhere drives none out.
        store.keep(TaskId(201), &events(100), false);
        assert!(store.find(TaskId(201)).is_none() && store.find(TaskId(200)).is_some());
    }

    #[test]
    fn d1_the_last_timeline_of_a_task_is_found() {
        let timelines = Timelines::new(BYTES);
        timelines.keep(TaskId(1), &events(3), true);
        timelines.keep(TaskId(2), &events(1), false);
        timelines.keep(TaskId(1), &events(300), false);
        let found = timelines.find(TaskId(1)).unwrap();
        assert_eq!((found.events.len(), found.left_out), (256, 44));
        assert!(!found.recorded);
        assert!(timelines.find(TaskId(3)).is_none());
    }
}
