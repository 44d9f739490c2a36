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
    let mut written = Ok(());
    file.tasks(|task| {
        if written.is_err() {
            return;
        }
        let value = match task {
            Ok(task) => json::task(&task).map(|task| json::of_kind("task", task)),
            Err(corrupt) => Ok(told(&corrupt, &mut faults)),
        };
        written = value
            .map_err(Failed::from)
            .and_then(|value| line(value, out));
    })?;
    written?;
    let mut written = Ok(());
    file.outcomes(|outcome| {
        if written.is_err() {
            return;
        }
        let value = match outcome {
            Ok(outcome) => json::outcome(&outcome).map(|kept| json::of_kind("outcome", kept)),
            Err(corrupt) => Ok(told(&corrupt, &mut faults)),
        };
        written = value
            .map_err(Failed::from)
            .and_then(|value| line(value, out));
    })?;
    written?;
    Ok(faults)
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
