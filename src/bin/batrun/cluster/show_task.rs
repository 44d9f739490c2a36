//! `batrun cluster show ID` and `batrun cluster show --key KEY`

use std::io::Write;

use batrun::{
    journal::{JournalDatabase, JournalDatabaseTask, JournalOutcome},
    state::TaskId,
};

use super::{json as rows, look, options::Show, show::check};
use crate::{
    error::{CliError, Damage},
    json,
    show_task::{Wanted, describe_outcome, describe_task},
};

/// Shows everything about one task, or its outcome if it has ended.
pub(crate) fn show(options: &Show, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    if options.check {
        check(&mut journal, &mut damage)?;
    }
    let wanted = match (options.id, &options.key) {
        (Some(id), _) => Wanted::Number(id),
        (None, key) => Wanted::Key(key.as_deref().unwrap_or_default()),
    };
    let task = match wanted {
        Wanted::Number(id) => journal.task(TaskId(id))?,
        Wanted::Key(key) => journal.task_of_key(key)?,
    };
    if let Some(found) = task {
        if options.json {
            serde_json::to_writer_pretty(&mut *out, &rows::task(&found)?)?;
            writeln!(out)?;
        } else {
            describe_task(&found.task, &[("node", node(&found))], out)?;
        }
        return Ok(damage);
    }
    let Some(outcome) = outcome(&mut journal, &wanted, &mut damage)? else {
        let (database, schema) = (journal.database(), journal.schema());
        return Err(CliError::Other(format!(
            "{database}, schema {schema:?}: nothing is known of {wanted}: it never existed, or its outcome is no \
             longer kept"
        )));
    };
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &json::outcome(&outcome)?)?;
        writeln!(out)?;
    } else {
        describe_outcome(&outcome, out)?;
    }
    Ok(damage)
}

fn outcome(
    journal: &mut JournalDatabase,
    wanted: &Wanted<'_>,
    damage: &mut Damage,
) -> Result<Option<JournalOutcome>, CliError> {
    if let Wanted::Key(key) = wanted
        && let Some(outcome) = journal.outcome_of(key)?
    {
        return Ok(Some(outcome));
    }
    // The key may have been given back since.
    let mut found = None;
    journal.outcomes(|outcome| match outcome {
        Ok(outcome) if wanted.is(&outcome) => found = Some(outcome),
        Ok(_) => {}
        Err(corrupt) => damage.add(&corrupt),
    })?;
    Ok(found)
}

fn node(found: &JournalDatabaseTask) -> String {
    let taken_over = match found.taken_over {
        0 => String::new(),
        1 => ", taken over once".to_owned(),
        times => format!(", taken over {times} times"),
    };
    let node = found.node.map(|node| node.to_string());
    let node = match (node, found.has_node) {
        (Some(node), true) => node,
        (None, true) => "none yet".to_owned(),
        (Some(node), false) => format!("{node}, which has gone; no node that lives has the stages"),
        (None, false) => "none; no node that lives has the stages".to_owned(),
    };
    format!("{node}{taken_over}")
}
