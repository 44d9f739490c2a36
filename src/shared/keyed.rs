//! The tasks in flight that have a key, to be found by it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{panic_guard, task::TaskRef};

#[derive(Default)]
pub(crate) struct KeyedTasks {
    /// Number of them: most pipelines never have one, and take no lock to see that.
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<Arc<str>, TaskRef>,
    /// By the record's slot: a task that is taken back may have another record before it is done with its
    /// first one.
    keys: HashMap<u32, Arc<str>>,
}

impl KeyedTasks {
    /// A task with this key is in flight. Before anybody else may know of it.
    pub(crate) fn insert(&self, key: Arc<str>, task: &TaskRef) {
        let mut inner = panic_guard::lock(&self.inner);
        inner.keys.insert(task.slot, key.clone());
        let before = inner.by_key.insert(key, task.clone());
        self.count.store(inner.keys.len(), Ordering::Release);
        drop(inner);
        // Perhaps the last hold.
        panic_guard::drop_quietly(before);
    }

    pub(crate) fn find(&self, key: &str) -> Option<TaskRef> {
        panic_guard::lock(&self.inner).by_key.get(key).cloned()
    }

    /// A task is in flight no more: with this record, that is.
    pub(crate) fn remove(&self, task: &TaskRef) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut inner = panic_guard::lock(&self.inner);
        let Some(key) = inner.keys.remove(&task.slot) else {
            return;
        };
        let own = inner
            .by_key
            .get(&key)
            .is_some_and(|found| Arc::ptr_eq(found, task));
        let hold = match own {
            true => inner.by_key.remove(&key),
            false => None,
        };
        self.count.store(inner.keys.len(), Ordering::Release);
        drop(inner);
        panic_guard::drop_quietly(hold);
    }
}
