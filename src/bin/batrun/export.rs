//! `batrun journal export`

use std::io::Write;

use batrun::journal::{JournalError, JournalFile};
use serde_json::{Value, json};

use crate::{
    error::{CliError, Damage},
    json,
    options::Export,
};

/// Writes a line of JSON for the journal, for each task with its undos, and for each outcome.
pub(crate) fn export(options: &Export, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let file = JournalFile::look(&options.file)?;
    write_line(json::with_kind("journal", json::journal(&file)), out)?;
    for corrupt in file.corrupt() {
        write_line(corrupt_line(&corrupt, &mut damage), out)?;
    }
    let mut lines = Lines {
        out,
        damage,
        written: Ok(()),
    };
    file.tasks(|task| lines.add("task", task, json::task))?;
    file.outcomes(|outcome| lines.add("outcome", outcome, json::outcome))?;
    lines.written?;
    Ok(lines.damage)
}

/// The lines for rows, which the journal hands out one by one. After a failed write nothing more is
/// written.
pub(crate) struct Lines<'a, W> {
    pub(crate) out: &'a mut W,
    pub(crate) damage: Damage,
    pub(crate) written: Result<(), CliError>,
}

impl<W: Write> Lines<'_, W> {
    pub(crate) fn add<T, E: Into<CliError>>(
        &mut self,
        kind: &str,
        row: Result<T, JournalError>,
        to_json: fn(&T) -> Result<Value, E>,
    ) {
        if self.written.is_err() {
            return;
        }
        let value = match row {
            Ok(row) => to_json(&row).map(|value| json::with_kind(kind, value)),
            Err(corrupt) => Ok(corrupt_line(&corrupt, &mut self.damage)),
        };
        self.written = value
            .map_err(Into::into)
            .and_then(|value| write_line(value, self.out));
    }
}

pub(crate) fn corrupt_line(corrupt: &JournalError, damage: &mut Damage) -> Value {
    damage.add(corrupt);
    json!({ "kind": "corrupt", "error": corrupt.to_string() })
}

pub(crate) fn write_line(value: Value, out: &mut impl Write) -> Result<(), CliError> {
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)?;
    Ok(())
}
