//! `batrun cluster resolve`, `retry` and `cancel`

use std::io::Write;

use batrun::{
    journal::{JournalAnswer, JournalDatabase, JournalDecision},
    state::TaskId,
};

use super::{
    look,
    options::{Decide, Retry},
};
use crate::{
    decide::listed,
    error::{CliError, Damage},
    text,
};

/// Records that a person has dealt with these tasks.
pub(crate) fn resolve(options: &Decide, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    let ids = task_ids(&mut journal, &options.ids, &options.key, Kind::Stuck)?;
    let decisions = journal.resolve(&ids, options.wait.time())?;
    report(&decisions, out)?;
    Ok(damage)
}

/// Has these tasks tried again.
pub(crate) fn retry(options: &Retry, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    let mut ids = task_ids(&mut journal, &options.ids, &options.key, Kind::Stuck)?;
    if options.all {
        journal.stuck(|task| match task {
            Ok(found) => ids.push(found.task.id),
            Err(corrupt) => damage.add(&corrupt),
        })?;
        if ids.is_empty() {
            writeln!(out, "nothing is stuck")?;
            return Ok(damage);
        }
    }
    let decisions = journal.retry(&ids, options.wait.time())?;
    report(&decisions, out)?;
    Ok(damage)
}

/// Has these tasks cancelled.
pub(crate) fn cancel(options: &Decide, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    let ids = task_ids(&mut journal, &options.ids, &options.key, Kind::UnderWay)?;
    let decisions = journal.cancel(&ids, options.wait.time())?;
    report(&decisions, out)?;
    Ok(damage)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stuck,
    UnderWay,
}

/// The tasks with these numbers and keys.
fn task_ids(
    journal: &mut JournalDatabase,
    ids: &[u64],
    keys: &[String],
    kind: Kind,
) -> Result<Vec<TaskId>, CliError> {
    let mut ids: Vec<_> = ids.iter().copied().map(TaskId).collect();
    for key in keys {
        let found = journal.task_of_key(key)?;
        let wanted = |stuck| stuck == (kind == Kind::Stuck);
        match found.filter(|found| wanted(found.task.stuck.is_some())) {
            Some(found) => ids.push(found.task.id),
            None => {
                let kind = match kind {
                    Kind::Stuck => "no stuck task",
                    Kind::UnderWay => "no task under way",
                };
                return Err(CliError::Other(format!(
                    "nothing was changed: {kind} has the key {key:?}"
                )));
            }
        }
    }
    Ok(ids)
}

/// Says what came of each decision. One that was refused is an error.
fn report(decisions: &[JournalDecision], out: &mut impl Write) -> Result<(), CliError> {
    let with = |answer: &JournalAnswer| -> Vec<TaskId> {
        let with = decisions
            .iter()
            .filter(|decision| decision.answer == *answer);
        with.map(|decision| decision.task).collect()
    };
    for (answer, one, more) in [
        (
            JournalAnswer::Resolved,
            "task is resolved",
            "tasks are resolved",
        ),
        (
            JournalAnswer::Retried,
            "task is tried again",
            "tasks are tried again",
        ),
        (
            JournalAnswer::Cancelled,
            "task is cancelled",
            "tasks are cancelled",
        ),
        (
            JournalAnswer::NoAnswerYet,
            "decision is written down, and its node does it once it can",
            "decisions are written down, and their nodes do them once they can",
        ),
        (
            JournalAnswer::NoNode,
            "decision is written down, and the next process that has the task's stages does it",
            "decisions are written down, and the next process that has the tasks' stages does them",
        ),
    ] {
        let ids = with(&answer);
        if !ids.is_empty() {
            let tasks = text::count(ids.len(), one, more);
            writeln!(out, "{tasks}: {}", listed(&ids))?;
        }
    }
    let refused = decisions.iter().filter_map(|decision| {
        let task = decision.task;
        match &decision.answer {
            JournalAnswer::Ended => Some(format!("task {task} has ended by itself before that")),
            JournalAnswer::Refused(why) => Some(format!("task {task}: its node refused it: {why}")),
            _ => None,
        }
    });
    let refused: Vec<_> = refused.collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(CliError::Other(refused.join("; "))),
    }
}
