//! The lock on the file `-lock` beside a journal: its holder is the only writer.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use super::path::beside;
use crate::{journal::error::JournalError, logging};

/// A lock that is held. It ends with the process, however that ends.
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn take(journal: &Path) -> Result<Self, JournalError> {
        let path = beside(journal, "-lock");
        let failed = |error| JournalError::io(&path, error);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(JournalError::Held {
                path: journal.to_owned(),
                waited: Duration::ZERO,
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Gives the lock back.
    ///
    /// Closing the file would not be enough: a child process that is just being started may still
    /// have a copy of it.
    pub(super) fn release(self) {
        if let Err(error) = self.0.unlock() {
            logging::warning!(
                "the lock of a journal could not be released, so the journal can't be opened again \
                 before this process ends: {error}"
            );
        }
    }
}
