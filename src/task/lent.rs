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
#[derive(Default)]
pub(crate) struct LentUndos {
    lent: Mutex<HashMap<Place, Instant>>,
    returned: Condvar,
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
            let Some(left) = MOST.checked_sub(since.elapsed()) else {
                continue;
            };
            lent.insert(place, since);
            let waited = self.returned.wait_timeout(lent, left);
            lent = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        lent
    }
}
