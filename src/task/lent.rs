//! Undos of live tasks that are being shown: out of their place while they are printed, since that is the
//! user's code and runs under no lock. Nobody else finds them there meanwhile, so those who need one wait
//! for it: a moment, or until the time is up that a text may take.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{id::TaskId, record::Task, state::Event, undo::AnyUndo};
use crate::panic_guard;

/// A text that takes longer has lost its undo: whoever waits goes on without it, as if a call that never
/// returns had it.
const MOST: Duration = Duration::from_secs(1);

/// The place of an undo: its task's slot in the table, and its number there.
type Place = (u32, usize);

/// The undos that are being shown, each with the time at which that began.
pub(crate) struct LentUndos {
    most: Duration,
    lent: Mutex<HashMap<Place, Instant>>,
    returned: Condvar,
}

impl Default for LentUndos {
    fn default() -> Self {
        LentUndos {
            most: MOST,
            lent: Mutex::default(),
            returned: Condvar::new(),
        }
    }
}

impl LentUndos {
    /// Takes an undo out to be shown. `None` if the task has ended, or if somebody else has it.
    pub(crate) fn lend(&self, task: &Task, id: TaskId, number: usize) -> Option<Box<dyn AnyUndo>> {
        let mut lent = panic_guard::lock(&self.lent);
        if !task.is_live() || task.id() != id {
            return None;
        }
        let value = task.details().undos.get_mut(number)?.value.take()?;
        lent.insert((task.slot, number), Instant::now());
        Some(value)
    }

    /// Puts it back, unless its task has ended meanwhile.
    pub(crate) fn give_back(
        &self,
        task: &Task,
        id: TaskId,
        number: usize,
        value: Box<dyn AnyUndo>,
    ) {
        let mut lent = panic_guard::lock(&self.lent);
        let mut value = Some(value);
        if lent.remove(&(task.slot, number)).is_some()
            && task.is_live()
            && task.id() == id
            && let Some(undo) = task.details().undos.get_mut(number)
            && undo.value.is_none()
        {
            undo.value = value.take();
        }
        drop(lent);
        self.returned.notify_all();
        panic_guard::drop_quietly(value);
    }

    /// Waits until nobody shows this undo.
    #[cold]
    pub(crate) fn wait(&self, task: &Task, number: usize) {
        let place = (task.slot, number);
        drop(self.wait_for(|lent| lent.remove_entry(&place)));
    }

    /// Waits until nobody shows any undo of this task, and ends it: from then on nobody will.
    pub(crate) fn end(&self, task: &Task) {
        let lent = self.wait_for(|lent| {
            let of_task = lent.keys().find(|(slot, _)| *slot == task.slot).copied();
            lent.remove_entry(&of_task?)
        });
        task.apply(Event::RolledBack).ok();
        drop(lent);
    }

    /// Waits until `take` finds nothing, or what it finds has been there for too long, which it takes out.
    fn wait_for(
        &self,
        mut take: impl FnMut(&mut HashMap<Place, Instant>) -> Option<(Place, Instant)>,
    ) -> MutexGuard<'_, HashMap<Place, Instant>> {
        let mut lent = panic_guard::lock(&self.lent);
        while let Some((place, since)) = take(&mut lent) {
            let Some(left) = self.most.checked_sub(since.elapsed()) else {
                continue;
            };
            lent.insert(place, since);
            let waited = self.returned.wait_timeout(lent, left);
            lent = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        lent
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        sync::{Weak, mpsc},
        thread,
    };

    use super::*;
    use crate::{
        clock::Cycles,
        task::{EndReason, Limits, State, TaskOwner, TaskRef, Undo, UndoStatus},
    };

    const ID: TaskId = TaskId(1);

    struct Nobody;

    impl TaskOwner for Nobody {
        fn task_lost(&self, _: TaskRef) {}
    }

    /// A task that is being rolled back, with an undo.
    fn task() -> Task {
        let owner: Weak<Nobody> = Weak::new();
        let task = Task::new(0, owner);
        task.renew(ID, &Limits::none(false), 0, Cycles(1));
        let mut details = task.details();
        details.undos.push(Undo {
            stage: 0,
            attempt: 1,
            generation: 0,
            value: Some(Box::new(7u32)),
            status: UndoStatus::Registered,
            tries: 0,
        });
        details.end = Some(Box::new(EndReason::TimedOut(0)));
        drop(details);
        task.apply(Event::Stop).unwrap();
        task.apply(Event::Stopped(0)).unwrap();
        task
    }

    fn has_value(task: &Task) -> bool {
        task.details().undos[0].value.is_some()
    }

    /// Has this wait for an undo that is being shown.
    fn waits(wait: impl FnOnce(&LentUndos, &Task) + Send) -> Task {
        let (lent, task) = (LentUndos::default(), task());
        let value = lent.lend(&task, ID, 0).unwrap();
        assert!(lent.lend(&task, ID, 0).is_none() && !has_value(&task));
        let (to, from) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                wait(&lent, &task);
                to.send(()).unwrap();
            });
            let too_soon = from.recv_timeout(Duration::from_millis(50));
            assert!(too_soon.is_err(), "it goes on without the undo");
            lent.give_back(&task, ID, 0, value);
            from.recv().unwrap();
        });
        assert!(has_value(&task));
        task
    }

    #[test]
    fn d1_an_undo_that_is_shown_is_waited_for() {
        waits(|lent, task| lent.wait(task, 0));
    }

    #[test]
    fn d1_a_task_ends_with_its_undos_in_their_place() {
        let task = waits(LentUndos::end);
        assert_eq!(task.state(), State::Ended);
        // From then on nobody takes it.
        assert!(LentUndos::default().lend(&task, ID, 0).is_none() && has_value(&task));
    }

    #[test]
    fn d1_nobody_waits_for_ever_for_an_undo_that_is_being_shown() {
        let lent = LentUndos {
            most: Duration::ZERO,
            ..LentUndos::default()
        };
        let task = task();
        let value = lent.lend(&task, ID, 0).unwrap();
        lent.wait(&task, 0);
        // It comes too late.
        lent.give_back(&task, ID, 0, value);
        assert!(!has_value(&task));
    }

    #[test]
    fn d1_an_undo_does_not_go_back_into_another_task() {
        let (lent, first) = (LentUndos::default(), task());
        let value = lent.lend(&first, ID, 0).unwrap();
        let second = task();
        second.details().undos[0].value = None;
        lent.give_back(&second, TaskId(2), 0, value);
        assert!(!has_value(&second));
    }
}
