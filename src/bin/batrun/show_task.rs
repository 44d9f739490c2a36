//! `batrun journal show FILE ID` and `batrun journal show FILE --key KEY`

use std::{fmt, io::Write};

use batrun::{
    journal::{JournalFile, JournalOutcome, JournalTask, JournalUndoStatus},
    state::TaskId,
};

use crate::{
    error::{CliError, Damage},
    json,
    options::Show,
    show::open,
    text,
};

/// The task that is to be shown.
pub(crate) enum Wanted<'a> {
    Number(u64),
    Key(&'a str),
}

impl Wanted<'_> {
    /// The task, unless it has ended and left.
    fn task(
        &self,
        file: &JournalFile,
        damage: &mut Damage,
    ) -> Result<Option<JournalTask>, CliError> {
        let key = match self {
            Wanted::Number(id) => return Ok(file.task(TaskId(*id))?),
            Wanted::Key(key) => *key,
        };
        let mut found: Option<JournalTask> = None;
        file.tasks(|task| match task {
            Ok(task) if task.key.as_deref() == Some(key) => {
                // Stuck tasks keep theirs, though another may have it once their outcomes are deleted.
                if found.is_none() || task.stuck.is_none() {
                    found = Some(task);
                }
            }
            Ok(_) => {}
            Err(corrupt) => damage.add(&corrupt),
        })?;
        Ok(found)
    }

    pub(crate) fn is(&self, kept: &JournalOutcome) -> bool {
        match self {
            Wanted::Number(id) => kept.outcome.task.0 == *id,
            Wanted::Key(key) => kept.key.as_deref() == Some(*key),
        }
    }
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Number(id) => write!(f, "a task {id}"),
            Wanted::Key(key) => write!(f, "a task with the key {key}"),
        }
    }
}

/// Shows everything about one task, or its outcome if it has ended.
pub(crate) fn show(
    options: &Show,
    wanted: &Wanted<'_>,
    out: &mut impl Write,
) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let file = open(options, &mut damage)?;
    if let Some(task) = wanted.task(&file, &mut damage)? {
        if options.json {
            serde_json::to_writer_pretty(&mut *out, &json::task(&task)?)?;
            writeln!(out)?;
        } else {
            describe_task(&task, &[], out)?;
        }
        return Ok(damage);
    }
    let mut found = None;
    file.outcomes(|outcome| match outcome {
        Ok(outcome) if wanted.is(&outcome) => found = Some(outcome),
        Ok(_) => {}
        Err(corrupt) => damage.add(&corrupt),
    })?;
    let Some(found) = found else {
        let file = options.file.display();
        return Err(CliError::Other(format!(
            "{file}: nothing is known of {wanted}: it never existed, or its outcome is no longer \
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

/// Shows everything about a task, with more facts.
pub(crate) fn describe_task(
    task: &JournalTask,
    more: &[(&'static str, String)],
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mut facts = vec![
        ("task", task.id.to_string()),
        ("key", text::cell_or_dash(task.key.as_deref())),
        ("label", text::cell_or_dash(task.label.as_deref())),
        ("state", json::state(task).to_owned()),
        ("stage", text::cell_or_dash(task.stage.as_deref())),
        ("attempt", task.attempt.to_string()),
        ("interrupted", task.interrupted.to_string()),
        ("deadline", text::time_left(task.left)),
    ];
    if let Some(end) = json::end(task) {
        facts.push(("end", text::escaped(&end.to_string())));
    }
    facts.extend_from_slice(more);
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

pub(crate) fn describe_outcome(
    kept: &JournalOutcome,
    out: &mut impl Write,
) -> Result<(), CliError> {
    writeln!(out, "{}", text::escaped(&kept.outcome.to_string()))?;
    if let Some(key) = &kept.key {
        writeln!(out, "key          {}", text::escaped(key))?;
    }
    if let Some(label) = &kept.outcome.label {
        writeln!(out, "label        {}", text::escaped(label))?;
    }
    if let Some(output) = &kept.output {
        let output = json::value(output).to_string();
        writeln!(out, "output       {}", text::escaped(&output))?;
    }
    Ok(())
}
