//! The undos of a task, as its record holds them.

use std::{
    any::Any,
    fmt::Debug,
    mem,
    ops::{Deref, DerefMut},
};

use super::state::StageIx;
use crate::{failure::Failure, panic_guard};

/// An undo of any stage. Its type is known to that stage's pool.
pub(crate) trait AnyUndo: Any + Send {
    fn duplicate(&self) -> Box<dyn Any>;
    fn debug(&self) -> String;
    /// It may be dropped anywhere, since no code of the user's runs then.
    fn is_plain(&self) -> bool;
}

impl<U: Clone + Debug + Send + 'static> AnyUndo for U {
    fn duplicate(&self) -> Box<dyn Any> {
        Box::new(self.clone())
    }

    fn debug(&self) -> String {
        format!("{self:?}")
    }

    fn is_plain(&self) -> bool {
        !mem::needs_drop::<U>()
    }
}

/// Number of places that a record keeps for the tasks to come: as many as most tasks need.
const KEPT: usize = 4;

/// A task's undos, in the order of registration.
///
/// The places of the tasks before are used again, with their boxes if they hold plain values: most tasks register as those
/// before them did, and allocate nothing.
#[derive(Default)]
pub(crate) struct Undos {
    /// The first `count` are this task's.
    places: Vec<Undo>,
    count: usize,
    /// There may be a value that isn't plain, or one that somebody has changed since it was registered.
    is_mixed: bool,
}

impl Undos {
    /// Adds one that is whole.
    #[inline(always)]
    pub(crate) fn register<U: Clone + Debug + Send + 'static>(
        &mut self,
        stage: StageIx,
        attempt: u32,
        generation: u32,
        undo: U,
    ) {
        if self.count == self.places.len() {
            self.add_place();
        }
        let place = &mut self.places[self.count];
        // One by one, into its place: an undo that is put together elsewhere and copied as a whole stalls
        // the processor, which has not yet written its parts.
        place.stage = stage;
        place.attempt = attempt;
        place.generation = generation;
        place.tries = 0;
        place.put(undo);
        self.count += 1;
        self.is_mixed |= mem::needs_drop::<U>();
    }

    #[cold]
    fn add_place(&mut self) {
        self.places.push(Undo {
            stage: 0,
            attempt: 0,
            generation: 0,
            value: None,
            status: UndoStatus::Registered,
            tries: 0,
        });
    }

    /// Adds one as it is.
    pub(crate) fn push(&mut self, undo: Undo) {
        self.is_mixed = true;
        self.places.truncate(self.count);
        self.places.push(undo);
        self.count += 1;
    }

    /// Takes the last one out.
    pub(crate) fn pop(&mut self) -> Option<Undo> {
        self.places.truncate(self.count);
        self.count = self.count.saturating_sub(1);
        self.places.pop()
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Vec<Undo> {
        self.places.truncate(mem::take(&mut self.count));
        mem::take(&mut self.places)
    }

    /// Takes everything out: what must not be dropped under a lock goes to `scrap`.
    pub(crate) fn clear(&mut self, scrap: &mut Vec<Undo>) {
        if self.is_mixed || self.count > KEPT {
            self.sort_out(scrap);
        }
        self.count = 0;
        self.is_mixed = false;
    }

    fn sort_out(&mut self, scrap: &mut Vec<Undo>) {
        for place in self.places[..self.count].iter_mut().rev() {
            let status = mem::replace(&mut place.status, UndoStatus::Registered);
            let value = match &place.value {
                Some(value) if value.is_plain() => None,
                _ => place.value.take(),
            };
            if value.is_some() || matches!(status, UndoStatus::Failed(_)) {
                scrap.push(Undo {
                    value,
                    status,
                    ..*place
                });
            }
        }
        self.places.truncate(KEPT);
    }
}

/// Those of a task that had them before.
impl From<Vec<Undo>> for Undos {
    fn from(places: Vec<Undo>) -> Self {
        Undos {
            count: places.len(),
            places,
            is_mixed: true,
        }
    }
}

/// Of a task that was suspended they go with the last handle, where nobody expects them.
impl Drop for Undos {
    fn drop(&mut self) {
        self.places.drain(..).for_each(panic_guard::drop_quietly);
    }
}

impl Deref for Undos {
    type Target = [Undo];

    fn deref(&self) -> &[Undo] {
        &self.places[..self.count]
    }
}

impl DerefMut for Undos {
    fn deref_mut(&mut self) -> &mut [Undo] {
        self.is_mixed = true;
        &mut self.places[..self.count]
    }
}

#[derive(Clone, Debug)]
pub(crate) enum UndoStatus {
    Registered,
    /// The effect surely did not happen: nothing to take back.
    Withdrawn,
    /// It has run.
    Undone,
    /// Its last try failed. It may be tried again.
    Failed(Failure),
}

pub(crate) struct Undo {
    pub(crate) stage: StageIx,
    /// The attempt that registered it: a clean-up between attempts takes back that one's alone.
    pub(crate) attempt: u32,
    /// The number of this task's work in that stage that it belongs to; see [`Key`](super::Key).
    pub(crate) generation: u32,
    /// `None` while it is being recorded, copied or printed: that is the user's code, and runs under no
    /// lock.
    pub(crate) value: Option<Box<dyn AnyUndo>>,
    pub(crate) status: UndoStatus,
    /// Number of times that it was started.
    pub(crate) tries: u32,
}

impl Undo {
    /// Takes a value, into a box that is there, if it fits.
    #[inline(always)]
    fn put<U: Clone + Debug + Send + 'static>(&mut self, undo: U) {
        if !mem::needs_drop::<U>()
            && let Some(kept) = self.value.as_deref_mut()
            && let Some(kept) = (kept as &mut dyn Any).downcast_mut::<U>()
        {
            *kept = undo;
        } else {
            self.value = Some(Box::new(undo));
        }
    }

    /// This attempt of this stage has registered it.
    pub(crate) fn is_of(&self, stage: StageIx, attempt: u32) -> bool {
        self.stage == stage && self.attempt == attempt
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::failure::Failure;

    fn values(undos: &Undos) -> Vec<String> {
        let shown = |undo: &Undo| undo.value.as_ref().map(|value| value.debug());
        undos.iter().map(|undo| shown(undo).unwrap()).collect()
    }

    fn address(undos: &Undos) -> *const u8 {
        let value = undos[0].value.as_deref().unwrap();
        std::ptr::from_ref(value).cast()
    }

    #[test]
    fn g06_the_places_of_tasks_before_are_used_again_and_nothing_of_these_is_left() {
        let (mut undos, mut scrap) = (Undos::default(), Vec::new());
        undos.register(0, 1, 0, 7u64);
        undos.register(1, 2, 3, 8u64);
        let first = address(&undos);
        undos[0].tries = 5;
        undos[1].status = UndoStatus::Undone;
        undos.clear(&mut scrap);
        assert!(undos.is_empty() && scrap.is_empty());

        undos.register(2, 1, 0, 9u64);
        assert_eq!((address(&undos), values(&undos)), (first, vec!["9".into()]));
        // Of another type.
        undos.register(2, 1, 0, 'x');
        assert_eq!(values(&undos), ["9", "'x'"]);
        for undo in &*undos {
            assert!(matches!(undo.status, UndoStatus::Registered));
            assert_eq!((undo.stage, undo.attempt, undo.tries), (2, 1, 0));
        }
        assert_eq!(undos.take().len(), 2);
        assert!(undos.is_empty());
    }

    #[test]
    fn g06_what_is_the_users_is_dropped_by_the_caller() {
        let (mut undos, mut scrap) = (Undos::default(), Vec::new());
        let value = Arc::new(());
        undos.register(0, 1, 0, 1u8);
        undos.register(1, 1, 0, value.clone());
        undos.register(2, 1, 0, 2u8);
        undos[0].status = UndoStatus::Failed(Failure::new("no"));
        undos.clear(&mut scrap);
        // The last one first: a value, then a failure.
        assert_eq!(scrap.len(), 2);
        assert!(scrap[0].value.is_some() && scrap[1].value.is_none());
        assert!(matches!(scrap[1].status, UndoStatus::Failed(_)));
        assert_eq!(Arc::strong_count(&value), 2);
        scrap.clear();
        assert_eq!(Arc::strong_count(&value), 1);
        // One that nobody has touched since, too.
        undos.register(0, 1, 0, value.clone());
        undos.clear(&mut scrap);
        assert_eq!(scrap.len(), 1);
    }

    #[test]
    fn g06_few_places_are_kept() {
        let (mut undos, mut scrap) = (Undos::default(), Vec::new());
        for n in 0..100u64 {
            undos.register(0, 1, 0, n);
        }
        undos.clear(&mut scrap);
        assert_eq!((undos.places.len(), scrap.len()), (KEPT, 0));
        // One without a value, as it is while a ledger records it.
        undos.register(0, 1, 0, 1u64);
        let undo = undos.pop().unwrap();
        undos.push(Undo {
            value: None,
            ..undo
        });
        assert!(undos.len() == 1 && undos[0].value.is_none());
        undos.clear(&mut scrap);
        undos.register(0, 1, 0, 2u64);
        assert_eq!(values(&undos), ["2"]);
    }
}
