//! `batrun journal resolve` and `batrun journal retry`

use std::io::Write;

use batrun::{journal::JournalFile, state::TaskId};

use crate::{
    error::{CliError, Damage},
    options::{Resolve, Retry},
    text,
};

/// Records that a person has dealt with these tasks.
pub(crate) fn resolve(options: &Resolve, out: &mut impl Write) -> Result<Damage, CliError> {
    let ids = task_ids(&options.ids);
    JournalFile::edit(&options.file)?.resolve(&ids)?;
    let tasks = text::count(ids.len(), "task is resolved", "tasks are resolved");
    writeln!(out, "{tasks}: {}", listed(&ids))?;
    Ok(Damage::default())
}

/// Has these tasks tried again at the next start.
pub(crate) fn retry(options: &Retry, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut file = JournalFile::edit(&options.file)?;
    let mut ids = task_ids(&options.ids);
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

fn task_ids(ids: &[u64]) -> Vec<TaskId> {
    let mut ids: Vec<_> = ids.iter().copied().map(TaskId).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn listed(ids: &[TaskId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}
