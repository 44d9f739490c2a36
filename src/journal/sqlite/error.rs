//! SQLite's errors: which of them say that the file is damaged.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::journal::{corrupt::Corrupt, error::JournalError, store::StoreError};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => {
                StoreError::Corrupt(Corrupt::new("the file", error))
            }
            Some(ErrorCode::NotADatabase) => {
                let why = format_args!("{error}, so it is damaged or the path is wrong");
                StoreError::Corrupt(Corrupt::new("the file", why))
            }
            _ => match error {
                // A column holds a value of another type than it was written with.
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..) => StoreError::Corrupt(Corrupt::new("a row", error)),
                other => StoreError::Failed(other.to_string()),
            },
        }
    }
}

/// One of SQLite's errors, for the journal in this file.
pub(super) fn journal_error(path: &Path, error: Error) -> JournalError {
    JournalError::store(path, error.into())
}
