//! Which of SQLite's errors say that the file is damaged.

use std::path::Path;

use rusqlite::Error;

use crate::journal::{self, JournalError, rows::Corrupt, store::StoreError};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::Corrupt(Corrupt::new("the file", error))
            }
            _ => match error {
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..) => StoreError::Corrupt(Corrupt::new("a row", error)),
                other => StoreError::Failed(other.to_string()),
            },
        }
    }
}

pub(super) fn unusable(path: &Path, error: Error) -> JournalError {
    journal::unusable(path, error.into())
}
