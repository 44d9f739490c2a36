//! `batrun journal stuck`

use std::io::Write;

use batrun::journal::{JournalFile, JournalTask, JournalUndoStatus};

use crate::{
    error::{CliError, Damage},
    json,
    options::Stuck,
    text,
};

/// Lists the stuck tasks, each with the undos that are left.
pub(crate) fn list(options: &Stuck, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let file = JournalFile::look(&options.file)?;
    let mut stuck = Vec::new();
    file.tasks(|task| match task {
        Ok(task) if task.stuck.is_some() => stuck.push(task),
        Ok(_) => {}
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
    for (number, task) in stuck.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        describe(task, out)?;
    }
    let file = text::escaped(&options.file.display().to_string());
    let tasks = text::count(
        stuck.len(),
        "task waits for a person",
        "tasks wait for a person",
    );
    writeln!(
        out,
        "\n{tasks}. Stop the pipeline, then\n  \
         batrun journal resolve {file} ID..   if you have dealt with them\n  \
         batrun journal retry {file} ID..     to have them tried again at the next start"
    )?;
    Ok(damage)
}

/// Shows a stuck task with the undos that are left.
pub(crate) fn describe(task: &JournalTask, out: &mut impl Write) -> Result<(), CliError> {
    write!(out, "task {}", task.id)?;
    if let Some(key) = &task.key {
        write!(out, ", key {}", text::cell(key))?;
    }
    if let Some(label) = &task.label {
        write!(out, ", label {}", text::cell(label))?;
    }
    if task.quarantined {
        write!(out, ", set aside")?;
    }
    if let Some(end) = json::end(task) {
        write!(out, ": {}", text::escaped(&end.to_string()))?;
    }
    writeln!(out)?;
    let left = || {
        let undos = task.undos.iter().enumerate();
        undos.filter(|(_, undo)| undo.is_left())
    };
    if left().next().is_none() {
        writeln!(out, "  no undo is left")?;
        return Ok(());
    }
    let mut table = text::table(&["undo", "stage", "tries", "error", "value"]);
    for (number, undo) in left() {
        let error = match &undo.status {
            JournalUndoStatus::Failed(error) => Some(error.as_str()),
            _ => None,
        };
        table.add_row([
            number.to_string(),
            text::cell(&undo.stage),
            undo.tries.to_string(),
            error.map_or("-".to_owned(), text::escaped),
            text::escaped(&json::value(&undo.value).to_string()),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}
