//! The world that the service changes: the accounts, and a folder of files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use batrun::{report::Report, state::TaskId};
use serde::Serialize;

/// An account as a client sees it.
#[derive(Clone, Serialize)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) pages: u32,
}

impl Account {
    pub(crate) fn welcome(&self) -> String {
        format!(
            "Welcome {}, here are your {} pages.\n",
            self.name, self.pages
        )
    }
}

/// The accounts, and the folder with a welcome file for each of them.
pub(crate) struct World {
    entries: Mutex<BTreeMap<String, Entry>>,
    folder: PathBuf,
}

struct Entry {
    account: Account,
    /// The task that reserved the name: an undo removes its own task's entry and no other.
    by: TaskId,
    active: bool,
}

impl World {
    pub(crate) fn new(folder: &Path) -> Self {
        World {
            entries: Mutex::default(),
            folder: folder.to_owned(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // A poisoned lock is fine: no code that holds it leaves an entry half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the name, unless it is taken.
    pub(crate) fn reserve(&self, account: &Account, by: TaskId) -> bool {
        let mut entries = self.entries();
        let free = !entries.contains_key(&account.name);
        if free {
            let account = account.clone();
            let name = account.name.clone();
            entries.insert(
                name,
                Entry {
                    account,
                    by,
                    active: false,
                },
            );
        }
        free
    }

    /// Frees the name, if this task has it.
    pub(crate) fn release(&self, name: &str, by: TaskId) {
        let mut entries = self.entries();
        if entries.get(name).is_some_and(|entry| entry.by == by) {
            entries.remove(name);
        }
    }

    pub(crate) fn activate(&self, name: &str) {
        if let Some(entry) = self.entries().get_mut(name) {
            entry.active = true;
        }
    }

    /// The account, once it is active.
    pub(crate) fn find(&self, name: &str) -> Option<Account> {
        let entries = self.entries();
        let entry = entries.get(name).filter(|entry| entry.active)?;
        Some(entry.account.clone())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.txt"))
    }

    /// Checks that each account is complete, that nothing is left of any other, that the report
    /// counts as many, and that the accounts in answers with 201 exist. Returns the number of
    /// accounts.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn check(&self, report: &Report, created: &[String]) -> Result<usize, String> {
        let entries = self.entries();
        for (name, entry) in &*entries {
            if !entry.active {
                return Err(format!("{name} is reserved, but not active"));
            }
            match fs::read_to_string(self.file(name)) {
                Ok(text) if text == entry.account.welcome() => {}
                Ok(_) => return Err(format!("{name} has someone else's file")),
                Err(error) => return Err(format!("the file of {name}: {error}")),
            }
        }
        let wanted: BTreeSet<PathBuf> = entries.keys().map(|name| self.file(name)).collect();
        let files = fs::read_dir(&self.folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| format!("{}: {error}", self.folder.display()))?;
        if let Some(file) = files.iter().find(|file| !wanted.contains(&file.path())) {
            return Err(format!("{:?} is left behind", file.file_name()));
        }
        if let Some(name) = created.iter().find(|name| !entries.contains_key(*name)) {
            return Err(format!("{name} was answered with 201 and is not there"));
        }
        if entries.len() as u64 != report.counts.done {
            let done = report.counts.done;
            return Err(format!("{done} done, but {} accounts", entries.len()));
        }
        Ok(entries.len())
    }
}
