//! `batrun journal export`

use std::io::Write;

use batrun::{JournalError, JournalFile};
use serde_json::{Value, json};

use crate::{Export, Failed, Faults, json, show};

/// A line of JSON for the journal, for each task with its undos, and for each outcome that is kept.
pub(crate) fn lines(options: &Export, out: &mut impl Write) -> Result<Faults, Failed> {
    let mut faults = Faults::default();
    let file = JournalFile::look(&options.file)?;
    line(json::of_kind("journal", show::about(&file)), out)?;
    for corrupt in file.corrupt() {
        line(told(&corrupt, &mut faults), out)?;
    }
    let mut rows = Rows {
        out,
        faults,
        written: Ok(()),
    };
    file.tasks(|task| rows.add("task", task, json::task))?;
    file.outcomes(|outcome| rows.add("outcome", outcome, json::outcome))?;
    rows.written?;
    Ok(rows.faults)
}

/// What is written of rows, which are read one by one: nothing more once that has failed.
struct Rows<'a, W> {
    out: &'a mut W,
    faults: Faults,
    written: Result<(), Failed>,
}

impl<W: Write> Rows<'_, W> {
    fn add<T, E: Into<Failed>>(
        &mut self,
        kind: &str,
        row: Result<T, JournalError>,
        shown: fn(&T) -> Result<Value, E>,
    ) {
        if self.written.is_err() {
            return;
        }
        let value = match row {
            Ok(row) => shown(&row).map(|value| json::of_kind(kind, value)),
            Err(corrupt) => Ok(told(&corrupt, &mut self.faults)),
        };
        self.written = value
            .map_err(Into::into)
            .and_then(|value| line(value, self.out));
    }
}

fn told(corrupt: &JournalError, faults: &mut Faults) -> Value {
    faults.add(corrupt);
    json!({ "kind": "corrupt", "error": corrupt.to_string() })
}

fn line(value: Value, out: &mut impl Write) -> Result<(), Failed> {
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)?;
    Ok(())
}
