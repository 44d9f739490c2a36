//! The errors of PostgreSQL and of connections to it.

use std::error::Error as _;

use tokio_postgres::{Error, error::SqlState};

use crate::journal::store::StoreError;

/// The reason why a statement didn't succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody knows what came of it: the connection is gone, or there was no answer in time.
    Lost(String),
    /// It had no effect, and may have one later: the server is short of something, or on its way up or down.
    Later(String),
    /// The fence refused it.
    Fenced,
    /// Commits are missing that had been confirmed.
    Missing(String),
    /// It had no effect, and never will.
    Refused(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let Some(code) = error.code() else {
            return Trouble::Lost(text_of(&error));
        };
        let text = text_of(&error);
        if code.code() == "BRFEN" {
            return Trouble::Fenced;
        }
        if code.code() == "BRLST" {
            let found = error.as_db_error().map(|error| error.message().to_owned());
            return Trouble::Missing(found.unwrap_or(text));
        }
        if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN {
            return Trouble::Lost(text);
        }
        // The classes of connections, rollbacks, resources, operators and the system. A server that only
        // reads is one that another has taken the place of.
        match code.code().get(..2) {
            Some("08" | "57") => Trouble::Lost(text),
            Some("40" | "53" | "58") => Trouble::Later(text),
            _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT =>
            {
                Trouble::Later(text)
            }
            _ => Trouble::Refused(text),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        StoreError::Failed(match trouble {
            Trouble::Lost(why) | Trouble::Later(why) | Trouble::Refused(why) => why,
            Trouble::Missing(found) => format!(
                "the database has lost commits that it had confirmed: {found}; has it been restored, or has a \
                 copy taken its place?"
            ),
            Trouble::Fenced => {
                "another process has taken this journal over: this one's lease had run out"
                    .to_owned()
            }
        })
    }
}

/// The error as a person reads it, with the server's own words.
pub(super) fn text_of(error: &Error) -> String {
    if let Some(server) = error.as_db_error() {
        let hint = server.hint().map(|hint| format!("; {hint}"));
        let code = server.code().code();
        return format!("{} ({code}){}", server.message(), hint.unwrap_or_default());
    }
    let text = error.to_string();
    match error.source() {
        Some(source) if !text.contains(&source.to_string()) => format!("{text}: {source}"),
        _ => text,
    }
}
