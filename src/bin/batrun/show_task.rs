//! `batrun journal show FILE ID`

use std::io::Write;

use batrun::{
    journal::{JournalOutcome, JournalTask, JournalUndoStatus},
    state::TaskId,
};

use crate::{
    error::{CliError, Damage},
    json,
    options::Show,
    show::open,
    text,
};

/// Shows everything about one task, or its outcome if it has ended.
pub(crate) fn show(options: &Show, id: u64, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let file = open(options, &mut damage)?;
    if let Some(task) = file.task(TaskId(id))? {
        if options.json {
            serde_json::to_writer_pretty(&mut *out, &json::task(&task)?)?;
            writeln!(out)?;
        } else {
            describe_task(&task, out)?;
        }
        return Ok(damage);
    }
    let mut found = None;
    file.outcomes(|outcome| match outcome {
        Ok(outcome) if outcome.outcome.task.0 == id => found = Some(outcome),
        Ok(_) => {}
        Err(corrupt) => damage.add(&corrupt),
    })?;
    let Some(found) = found else {
        let file = options.file.display();
        return Err(CliError::Other(format!(
            "{file}: nothing is known of a task {id}: it never existed, or its outcome is no longer \
             kept"
        )));
    };
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &json::outcome(&found)?)?;
        writeln!(out)?;
    } else {
        describe_outcome(&found, out)?;
    }
    Ok(damage)
}

fn describe_task(task: &JournalTask, out: &mut impl Write) -> Result<(), CliError> {
    let mut facts = vec![
        ("task", task.id.to_string()),
        ("key", text::cell_or_dash(task.key.as_deref())),
        ("state", json::state(task).to_owned()),
        ("stage", text::cell_or_dash(task.stage.as_deref())),
        ("attempt", task.attempt.to_string()),
        ("interrupted", task.interrupted.to_string()),
        ("deadline", text::time_left(task.left)),
    ];
    if let Some(end) = json::end(task) {
        facts.push(("end", text::escaped(&end.to_string())));
    }
    for (name, fact) in facts {
        writeln!(out, "{name:<12} {fact}")?;
    }
    let context = serde_json::to_string_pretty(&json::value(&task.context))?;
    writeln!(out, "context      {}", text::escaped(&context))?;
    if task.undos.is_empty() {
        writeln!(out, "undos        none")?;
        return Ok(());
    }
    let mut table = text::table(&["undo", "stage", "attempt", "status", "tries", "error"]);
    for (number, undo) in task.undos.iter().enumerate() {
        let error = match &undo.status {
            JournalUndoStatus::Failed(error) => Some(error.as_str()),
            _ => None,
        };
        table.add_row([
            number.to_string(),
            text::cell(&undo.stage),
            undo.attempt.to_string(),
            json::status(undo).to_owned(),
            undo.tries.to_string(),
            error.map_or("-".to_owned(), text::escaped),
        ]);
    }
    writeln!(out, "\n{}\n", table.trim_fmt())?;
    for (number, undo) in task.undos.iter().enumerate() {
        let value = json::value(&undo.value).to_string();
        writeln!(out, "undo {number}: {}", text::escaped(&value))?;
    }
    Ok(())
}

fn describe_outcome(kept: &JournalOutcome, out: &mut impl Write) -> Result<(), CliError> {
    writeln!(out, "{}", text::escaped(&kept.outcome.to_string()))?;
    if let Some(key) = &kept.key {
        writeln!(out, "key          {}", text::escaped(key))?;
    }
    if let Some(output) = &kept.output {
        let output = json::value(output).to_string();
        writeln!(out, "output       {}", text::escaped(&output))?;
    }
    Ok(())
}
