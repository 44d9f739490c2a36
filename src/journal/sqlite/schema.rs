//! The format of the file: its tables, their version, and the check that it is sound.

use std::path::Path;

use rusqlite::{Connection, Error};

use super::error::journal_error;
use crate::journal::error::JournalError;

/// SQLite's application id for journals, the bytes `Btrn`.
const APPLICATION_ID: i32 = 0x4274_726e;

/// The version of the tables.
pub(in crate::journal) const FORMAT: i32 = 2;

/// The tables, to the letter as SQLite has them in its schema.
const TABLES: [&str; 7] = [
    "CREATE TABLE word (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID",
    "CREATE TABLE stage (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL
)",
    "CREATE TABLE task (
    id INTEGER PRIMARY KEY, key TEXT, stage INTEGER, state TEXT NOT NULL, stuck INTEGER NOT NULL,
    more BLOB NOT NULL, sum INTEGER NOT NULL, context BLOB NOT NULL, context_sum INTEGER NOT NULL
)",
    "CREATE TABLE undo (
    task INTEGER NOT NULL, undo INTEGER NOT NULL, more BLOB NOT NULL, sum INTEGER NOT NULL,
    value BLOB NOT NULL, value_sum INTEGER NOT NULL, PRIMARY KEY (task, undo)
) WITHOUT ROWID",
    "CREATE TABLE outcomes (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, count INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL
)",
    "CREATE TABLE kept (
    key TEXT PRIMARY KEY, task INTEGER NOT NULL, at INTEGER NOT NULL, end TEXT NOT NULL,
    digest INTEGER, undos INTEGER, outcome BLOB NOT NULL, output BLOB, sum INTEGER NOT NULL
) WITHOUT ROWID",
    "CREATE TABLE kept_undo (
    task INTEGER NOT NULL, undo INTEGER NOT NULL, more BLOB NOT NULL, sum INTEGER NOT NULL,
    value BLOB NOT NULL, value_sum INTEGER NOT NULL, PRIMARY KEY (task, undo)
) WITHOUT ROWID",
];

/// Makes an empty database a journal.
pub(super) fn create_tables(connection: &Connection) -> Result<(), Error> {
    let tables = TABLES.join(";");
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; \
         PRAGMA user_version = {FORMAT}; {tables}; COMMIT;"
    ))
}

/// Checks that the file is a journal of this version.
pub(super) fn check_format(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let failed = |error| journal_error(path, error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if pragma("application_id").map_err(failed)? != APPLICATION_ID {
        return Err(JournalError::NotAJournal {
            path: path.to_owned(),
        });
    }
    let found = pragma("user_version").map_err(failed)?;
    if found != FORMAT {
        return Err(JournalError::Format {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    // A flipped letter in the schema could make a column read as empty.
    let mut tables = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .map_err(failed)?;
    let mut tables = tables
        .query_map([], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?;
    let mut known = TABLES;
    known.sort_unstable();
    tables.sort_unstable();
    if tables != known {
        return Err(JournalError::corrupt(
            path,
            "its tables are not those of a journal",
        ));
    }
    Ok(())
}

/// Reads the whole file and checks that it is sound, as far as SQLite can tell.
pub(super) fn check_integrity(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let failed = |error| journal_error(path, error);
    let mut check = connection
        .prepare("PRAGMA integrity_check(1)")
        .map_err(failed)?;
    let found: String = check.query_row([], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(JournalError::corrupt(path, found));
    }
    Ok(())
}
