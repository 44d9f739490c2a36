//! The tables with the pages.

use std::{collections::BTreeMap, path::Path};

use batrun_actors::Statement;
use rusqlite::{Connection, Result};

use crate::Page;

/// A run of this program: a database may hold the pages of several.
pub(crate) type Run = i64;

/// The part of a row that the check needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) url: String,
    pub(crate) bytes: u64,
}

/// Makes the tables if they don't exist, and a number for this run.
pub(crate) fn begin(path: &Path) -> Result<Run> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS runs (
             id INTEGER PRIMARY KEY,
             began TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
         );
         CREATE TABLE IF NOT EXISTS pages (
             run INTEGER NOT NULL REFERENCES runs (id),
             task INTEGER NOT NULL,
             url TEXT NOT NULL,
             status INTEGER NOT NULL,
             bytes INTEGER NOT NULL,
             words INTEGER NOT NULL,
             title TEXT,
             PRIMARY KEY (run, task)
         );",
    )?;
    db.execute("INSERT INTO runs DEFAULT VALUES", [])?;
    Ok(db.last_insert_rowid())
}

/// Stores a page.
pub(crate) fn insert(run: Run, page: &Page) -> Statement {
    Statement::new(
        "INSERT INTO pages (run, task, url, status, bytes, words, title)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(run)
    .bind(number(page.task))
    .bind(page.url.clone())
    .bind(i64::from(page.status))
    .bind(number(page.bytes))
    .bind(number(page.words))
    .bind(page.title.clone())
}

/// Deletes the row of [`insert`] and no other one: no other row has this run and task.
pub(crate) fn delete(run: Run, page: &Page) -> Statement {
    Statement::new("DELETE FROM pages WHERE run = ?1 AND task = ?2")
        .bind(run)
        .bind(number(page.task))
}

/// The rows of a run by their task.
pub(crate) fn rows(path: &Path, run: Run) -> Result<BTreeMap<u64, Row>> {
    let db = Connection::open(path)?;
    let mut query = db.prepare("SELECT task, url, bytes FROM pages WHERE run = ?1")?;
    let rows = query.query_map([run], |row| {
        let (task, bytes): (i64, i64) = (row.get(0)?, row.get(2)?);
        let row = Row {
            url: row.get(1)?,
            bytes: bytes.unsigned_abs(),
        };
        Ok((task.unsigned_abs(), row))
    })?;
    rows.collect()
}

/// SQLite's integers have a sign. None of these numbers comes near the limit.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
