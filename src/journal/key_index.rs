//! The keys of all tasks whose outcome is kept, in memory: a question for one of them needs no disk.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Mutex,
};

use super::task_id_hash::TaskIdHasher;
use crate::{
    panic_guard,
    task::{EndKind, TaskId},
};

/// Some 40 bytes a key, however long it is: a random hash stands for it. Of a million keys, one that was
/// never used is taken for a used one once in ten million million times; whoever must be sure asks the
/// store.
#[derive(Default)]
pub(super) struct KeyIndex {
    hasher: RandomState,
    /// By the key's hash.
    kept: Mutex<HashMap<u64, Packed, std::hash::BuildHasherDefault<TaskIdHasher>>>,
}

/// The kept outcome of a key: whose it is, when it was written and of what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) task: TaskId,
    /// In milliseconds since 1970.
    pub(super) at: u64,
    pub(super) end: EndKind,
}

/// The same in two words. The lowest three bits of the second are the kind, the others are the time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed(u64, u64);

/// A change of the index, made once it is committed.
pub(super) enum KeyChange {
    Kept(Box<str>, Kept),
    /// This task's outcome of that time is no longer kept.
    Dropped {
        key: Box<str>,
        task: u64,
        at: u64,
    },
}

impl KeyIndex {
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = KeyChange>) {
        let mut kept = panic_guard::lock(&self.kept);
        for change in changes {
            match change {
                KeyChange::Kept(key, outcome) => {
                    kept.insert(self.hasher.hash_one(&*key), Packed::of(outcome));
                }
                KeyChange::Dropped { key, task, at } => {
                    let hash = self.hasher.hash_one(&*key);
                    let same = |packed: &Packed| packed.0 == task && packed.1 >> 3 == at << 3 >> 3;
                    if kept.get(&hash).is_some_and(same) {
                        kept.remove(&hash);
                    }
                }
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Kept> {
        let hash = self.hasher.hash_one(key);
        let packed = panic_guard::lock(&self.kept).get(&hash).copied()?;
        Some(packed.unpacked())
    }
}

impl Packed {
    fn of(Kept { task, at, end }: Kept) -> Self {
        let kind = EndKind::ALL.iter().position(|kind| *kind == end);
        Packed(task.0, at << 3 | kind.unwrap_or_default() as u64)
    }

    fn unpacked(self) -> Kept {
        let Packed(task, word) = self;
        Kept {
            task: TaskId(task),
            at: word >> 3,
            end: EndKind::ALL[(word & 7) as usize % EndKind::ALL.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(task: u64, at: u64, end: EndKind) -> Kept {
        let task = TaskId(task);
        Kept { task, at, end }
    }

    #[test]
    fn d05_an_outcome_is_found_by_its_key_until_it_is_dropped() {
        let index = KeyIndex::default();
        let dropped = |task, at| KeyChange::Dropped {
            key: "a".into(),
            task,
            at,
        };
        assert_eq!(index.get("a"), None);
        for end in EndKind::ALL {
            let kept = kept(u64::MAX >> 1, 1_800_000_000_000, end);
            index.apply([KeyChange::Kept("a".into(), kept)]);
            assert_eq!(index.get("a"), Some(kept));
        }
        let later = kept(7, 20, EndKind::TakenBack);
        index.apply([
            KeyChange::Kept("a".into(), later),
            dropped(7, 10),
            dropped(6, 20),
        ]);
        assert_eq!(index.get("a"), Some(later));
        index.apply([dropped(7, 20)]);
        assert_eq!(index.get("a"), None);
    }
}
