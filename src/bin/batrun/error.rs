//! The errors that end a command, and the damage that doesn't.

use std::io;

use batrun::journal::JournalError;

use crate::text;

/// The reason why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Other(String),
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        CliError::Io(error.into())
    }
}

/// The damaged rows of a journal whose other rows could be shown. Each is printed to standard error
/// when it is found.
#[derive(Default)]
pub(crate) struct Damage(Vec<String>);

impl Damage {
    pub(crate) fn add(&mut self, error: &JournalError) {
        let error = text::escaped(&error.to_string());
        // Several looks find the same.
        if self.0.contains(&error) {
            return;
        }
        eprintln!("batrun: {error}");
        self.0.push(error);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn texts(&self) -> &[String] {
        &self.0
    }
}
