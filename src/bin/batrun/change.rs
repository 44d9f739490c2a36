//! `batrun journal resolve` and `batrun journal retry`

use std::io::Write;

use batrun::{JournalFile, TaskId};

use crate::{Failed, Faults, Resolve, Retry, text};

/// These have been dealt with.
pub(crate) fn resolve(options: &Resolve, out: &mut impl Write) -> Result<Faults, Failed> {
    let ids = numbers(&options.ids);
    JournalFile::edit(&options.file)?.resolve(&ids)?;
    let tasks = text::count(ids.len(), "task is resolved", "tasks are resolved");
    writeln!(out, "{tasks}: {}", listed(&ids))?;
    Ok(Faults::default())
}

/// These are to be tried again.
pub(crate) fn retry(options: &Retry, out: &mut impl Write) -> Result<Faults, Failed> {
    let mut faults = Faults::default();
    let mut file = JournalFile::edit(&options.file)?;
    let mut ids = numbers(&options.ids);
    if options.all {
        file.tasks(|task| match task {
            Ok(task) if task.stuck.is_some() => ids.push(task.id),
            Ok(_) => {}
            Err(corrupt) => faults.add(&corrupt),
        })?;
        if ids.is_empty() {
            writeln!(out, "nothing is stuck")?;
            return Ok(faults);
        }
    }
    file.retry(&ids)?;
    let start = "at the pipeline's next start";
    let tasks = text::count(ids.len(), "task is tried again", "tasks are tried again");
    writeln!(out, "{tasks} {start}: {}", listed(&ids))?;
    Ok(faults)
}

fn numbers(ids: &[u64]) -> Vec<TaskId> {
    let mut ids: Vec<_> = ids.iter().copied().map(TaskId).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn listed(ids: &[TaskId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}
