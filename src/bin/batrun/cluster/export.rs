//! `batrun cluster export`

use std::io::Write;

use super::{json as rows, look, options::Export};
use crate::{
    error::{CliError, Damage},
    export::{Lines, corrupt_line, write_line},
    json,
};

/// Writes a line of JSON for the journal, for each node and each takeover, for each task with its undos, and for each outcome.
pub(crate) fn export(options: &Export, out: &mut impl Write) -> Result<Damage, CliError> {
    // Each is told below, beside its line.
    let mut journal = look(&options.place, &mut Damage::default())?;
    let mut damage = Damage::default();
    let whole = rows::journal(&mut journal)?;
    write_line(json::with_kind("cluster", whole), out)?;
    for corrupt in journal.corrupt() {
        write_line(corrupt_line(&corrupt, &mut damage), out)?;
    }
    for node in journal.nodes()? {
        write_line(json::with_kind("node", rows::node(&node)), out)?;
    }
    for takeover in journal.takeovers()? {
        write_line(json::with_kind("takeover", rows::takeover(&takeover)), out)?;
    }
    let mut lines = Lines {
        out,
        damage,
        written: Ok(()),
    };
    journal.tasks(|task| lines.add("task", task, rows::task))?;
    journal.outcomes(|outcome| lines.add("outcome", outcome, json::outcome))?;
    lines.written?;
    Ok(lines.damage)
}
