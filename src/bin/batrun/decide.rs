//! `batrun journal resolve`, `retry`, `cancel`, `take-back` and `forget`

use std::io::Write;

use batrun::{
    journal::{JournalError, JournalFile},
    state::TaskId,
};

use crate::{
    error::{CliError, Damage},
    options::{Keys, Resolve, Retry},
    text,
};

/// Records that a person has dealt with these tasks.
pub(crate) fn resolve(options: &Resolve, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut file = JournalFile::edit(&options.file)?;
    let ids = task_ids(&file, &options.ids, &options.key)?;
    file.resolve(&ids)?;
    let tasks = text::count(ids.len(), "task is resolved", "tasks are resolved");
    writeln!(out, "{tasks}: {}", listed(&ids))?;
    Ok(Damage::default())
}

/// Has these tasks tried again at the next start.
pub(crate) fn retry(options: &Retry, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut file = JournalFile::edit(&options.file)?;
    let mut ids = task_ids(&file, &options.ids, &options.key)?;
    if options.all {
        file.tasks(|task| match task {
            Ok(task) if task.stuck.is_some() => ids.push(task.id),
            Ok(_) => {}
            Err(corrupt) => damage.add(&corrupt),
        })?;
        if ids.is_empty() {
            writeln!(out, "nothing is stuck")?;
            return Ok(damage);
        }
    }
    file.retry(&ids)?;
    let start = "at the pipeline's next start";
    let tasks = text::count(ids.len(), "task is tried again", "tasks are tried again");
    writeln!(out, "{tasks} {start}: {}", listed(&ids))?;
    Ok(damage)
}

/// Has the tasks with these keys cancelled at the next start.
pub(crate) fn cancel(options: &Keys, out: &mut impl Write) -> Result<Damage, CliError> {
    let done = ["task is cancelled", "tasks are cancelled"];
    by_key(
        options,
        JournalFile::cancel,
        done,
        " at the pipeline's next start",
        out,
    )
}

/// Has the done tasks with these keys taken back at the next start.
pub(crate) fn take_back(options: &Keys, out: &mut impl Write) -> Result<Damage, CliError> {
    let done = ["task is taken back", "tasks are taken back"];
    by_key(
        options,
        JournalFile::take_back,
        done,
        " at the pipeline's next start",
        out,
    )
}

/// Gives these keys back.
pub(crate) fn forget(options: &Keys, out: &mut impl Write) -> Result<Damage, CliError> {
    by_key(
        options,
        JournalFile::forget,
        ["key is free", "keys are free"],
        "",
        out,
    )
}

fn by_key(
    options: &Keys,
    decide: impl Fn(&mut JournalFile, &[&str]) -> Result<(), JournalError>,
    [one, more]: [&str; 2],
    when: &str,
    out: &mut impl Write,
) -> Result<Damage, CliError> {
    let mut keys: Vec<&str> = options.keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    decide(&mut JournalFile::edit(&options.file)?, &keys)?;
    let listed: Vec<_> = keys.iter().map(|key| text::escaped(key)).collect();
    let decided = text::count(keys.len(), one, more);
    writeln!(out, "{decided}{when}: {}", listed.join(", "))?;
    Ok(Damage::default())
}

/// The stuck tasks with these numbers and keys.
fn task_ids(file: &JournalFile, ids: &[u64], keys: &[String]) -> Result<Vec<TaskId>, CliError> {
    let mut ids: Vec<_> = ids.iter().copied().map(TaskId).collect();
    let mut left: Vec<&String> = keys.iter().collect();
    if !keys.is_empty() {
        file.tasks(|task| {
            let Ok(task) = task else { return };
            if task.stuck.is_some() && keys.iter().any(|key| Some(key) == task.key.as_ref()) {
                left.retain(|key| Some(*key) != task.key.as_ref());
                ids.push(task.id);
            }
        })?;
    }
    if let Some(key) = left.first() {
        return Err(CliError::Other(format!(
            "nothing was changed: no stuck task has the key {key:?}"
        )));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

pub(crate) fn listed(ids: &[TaskId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}
