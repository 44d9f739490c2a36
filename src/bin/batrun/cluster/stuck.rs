//! `batrun cluster stuck`

use std::io::Write;

use super::{json, look, option, options::List};
use crate::{
    error::{CliError, Damage},
    stuck::describe,
    text,
};

/// Lists the stuck tasks, each with the undos that are left.
pub(crate) fn list(options: &List, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    let mut stuck = Vec::new();
    journal.stuck(|task| match task {
        Ok(task) => stuck.push(task),
        Err(corrupt) => damage.add(&corrupt),
    })?;
    if options.json {
        let all: Result<Vec<_>, _> = stuck.iter().map(json::task).collect();
        serde_json::to_writer_pretty(&mut *out, &all?)?;
        writeln!(out)?;
        return Ok(damage);
    }
    if stuck.is_empty() {
        writeln!(out, "nothing is stuck")?;
        return Ok(damage);
    }
    for (number, found) in stuck.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        describe(&found.task, out)?;
        if !found.has_node {
            writeln!(out, "  no node that lives has its stages")?;
        }
    }
    let option = option(&journal);
    let tasks = text::count(
        stuck.len(),
        "task waits for a person",
        "tasks wait for a person",
    );
    writeln!(
        out,
        "\n{tasks}.\n  \
         batrun cluster resolve {option} ID..   if you have dealt with them\n  \
         batrun cluster retry {option} ID..     to have them tried again"
    )?;
    Ok(damage)
}
