//! A journal in a database is made before the first start, or brought to another format.

use super::{
    database::{JournalDatabase, place},
    database_view::JournalSchema,
};
use crate::journal::{
    error::JournalError,
    postgres::setup::{self, Roles},
};

/// The users that a journal in a database is opened to, beside its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the rights are granted by `JournalDatabase::init`"]
pub struct JournalRights<'a> {
    run: Option<&'a str>,
    look: Option<&'a str>,
}

impl<'a> JournalRights<'a> {
    /// Nobody but the owner.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets this role run the pipeline: it reads and writes rows, and makes and drops nothing.
    pub fn run(mut self, role: &'a str) -> Self {
        self.run = Some(role);
        self
    }

    /// Lets this role look into the journal.
    pub fn look(mut self, role: &'a str) -> Self {
        self.look = Some(role);
        self
    }
}

impl JournalDatabase {
    /// Makes the schema of a journal with its tables and functions if there is none, and grants these rights. The user
    /// of the address owns what is made. Returns true if it was made, and false if it was there.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server can't be reached, or the user may not make it, or a role isn't there;
    /// [`NotAJournal`](JournalError::NotAJournal) or [`Format`](JournalError::Format) if there is something else in the
    /// schema, which is left as it is.
    pub fn init(
        address: &str,
        schema: &JournalSchema,
        rights: JournalRights<'_>,
    ) -> Result<bool, JournalError> {
        let (server, schema, path) = place(address, schema)?;
        let JournalRights { run, look } = rights;
        let made = setup::init(server, &schema, Roles { run, look });
        made.map_err(|error| JournalError::store(&path, error))
    }

    /// Brings a journal that an older version of batrun has made to this version's format, as a whole or not at all.
    /// Rights that were granted go for what is added, too. Returns the format before, which may be this version's own.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server can't be reached, there is no such schema, or the user doesn't own it;
    /// [`NotAJournal`](JournalError::NotAJournal), or [`Format`](JournalError::Format) if a newer version has made it.
    pub fn migrate(address: &str, schema: &JournalSchema) -> Result<i32, JournalError> {
        let (server, schema, path) = place(address, schema)?;
        let before = setup::migrate(server, &schema);
        before.map_err(|error| JournalError::store(&path, error))
    }
}
