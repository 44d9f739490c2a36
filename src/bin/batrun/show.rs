//! `batrun journal show FILE`

use std::{collections::BTreeMap, io::Write};

use batrun::{
    journal::{JournalFile, JournalTask},
    state::{StageName, State},
};
use serde_json::{Value, json};

use crate::{
    error::{CliError, Damage},
    json,
    options::Show,
    text,
};

/// The tasks of a journal, counted; the first of those that are not stuck are listed.
#[derive(Default)]
struct Overview {
    live: usize,
    stuck: usize,
    /// Stuck tasks that a start has set aside.
    set_aside: usize,
    /// The number of tasks that are not stuck, by state and stage.
    by_state: BTreeMap<(Place, &'static str, Option<StageName>), usize>,
    listed: Vec<JournalTask>,
}

/// Sorts states in the order in which tasks pass through them.
type Place = (u32, u32);

/// Shows the journal itself, and an overview of its tasks.
pub(crate) fn show(options: &Show, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let file = open(options, &mut damage)?;
    let overview = overview(&file, options.limit, &mut damage)?;
    if options.json {
        let whole = to_json(&file, &overview, &damage)?;
        serde_json::to_writer_pretty(&mut *out, &whole)?;
        writeln!(out)?;
    } else {
        print(options, &file, &overview, out)?;
    }
    Ok(damage)
}

/// Opens the journal as the options say.
pub(crate) fn open(options: &Show, damage: &mut Damage) -> Result<JournalFile, CliError> {
    let file = JournalFile::look(&options.file)?;
    if options.check {
        file.check()?;
    }
    for corrupt in file.corrupt() {
        damage.add(&corrupt);
    }
    Ok(file)
}

fn overview(file: &JournalFile, limit: usize, damage: &mut Damage) -> Result<Overview, CliError> {
    let mut overview = Overview::default();
    file.tasks(|task| match task {
        Err(corrupt) => damage.add(&corrupt),
        Ok(task) if task.stuck.is_some() => {
            overview.stuck += 1;
            overview.set_aside += usize::from(task.quarantined);
        }
        Ok(task) => {
            overview.live += 1;
            let state = (place(&task), json::state(&task), task.stage.clone());
            *overview.by_state.entry(state).or_default() += 1;
            if overview.listed.len() < limit {
                overview.listed.push(task);
            }
        }
    })?;
    Ok(overview)
}

fn place(task: &JournalTask) -> Place {
    match task.state {
        State::Queued(stage) => (stage.into(), 0),
        State::Running(stage) => (stage.into(), 1),
        State::Cleaning(stage) => (stage.into(), 2),
        State::Stopping(stage) => (stage.into(), 3),
        State::RollingBack | State::Ended => (u32::MAX, 0),
    }
}

fn to_json(file: &JournalFile, overview: &Overview, damage: &Damage) -> Result<Value, CliError> {
    let by_state: Vec<_> = overview
        .by_state
        .iter()
        .map(|((_, state, stage), tasks)| json!({ "state": state, "stage": stage, "tasks": tasks }))
        .collect();
    let listed: Result<Vec<_>, _> = overview.listed.iter().map(json::task).collect();
    let mut whole = json::with_kind("journal", json::journal(file));
    whole["tasks"] = json!({
        "live": overview.live,
        "stuck": overview.stuck,
        "set_aside": overview.set_aside,
        "by": by_state,
    });
    whole["live"] = Value::Array(listed?);
    whole["corrupt"] = json!(damage.texts());
    Ok(whole)
}

fn print(
    options: &Show,
    file: &JournalFile,
    overview: &Overview,
    out: &mut impl Write,
) -> Result<(), CliError> {
    print_journal(options, file, out)?;
    writeln!(
        out,
        "{} under way, {} stuck ({} set aside), {} kept",
        text::count(overview.live, "task", "tasks"),
        overview.stuck,
        overview.set_aside,
        text::count(file.outcomes_kept() as usize, "outcome", "outcomes"),
    )?;
    if !overview.by_state.is_empty() {
        let mut table = text::table(&["state", "stage", "tasks"]);
        for ((_, state, stage), tasks) in &overview.by_state {
            let stage = text::cell_or_dash(stage.as_deref());
            table.add_row([(*state).to_owned(), stage, tasks.to_string()]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    if !overview.listed.is_empty() {
        let mut table = text::table(&[
            "task", "key", "label", "state", "stage", "attempt", "deadline", "undos", "context",
        ]);
        for task in &overview.listed {
            table.add_row([
                task.id.to_string(),
                text::cell_or_dash(task.key.as_deref()),
                text::cell_or_dash(task.label.as_deref()),
                json::state(task).to_owned(),
                text::cell_or_dash(task.stage.as_deref()),
                task.attempt.to_string(),
                text::time_left(task.left),
                undos(task),
                text::cell(&json::value(&task.context).to_string()),
            ]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    if overview.live > overview.listed.len() {
        let more = overview.live - overview.listed.len();
        writeln!(out, "and {more} more; --limit N lists up to N tasks")?;
    }
    if overview.stuck > 0 {
        let path = text::escaped(&options.file.display().to_string());
        writeln!(out, "\nto see the stuck tasks: batrun journal stuck {path}")?;
    }
    Ok(())
}

fn print_journal(options: &Show, file: &JournalFile, out: &mut impl Write) -> Result<(), CliError> {
    let path = text::escaped(&options.file.display().to_string());
    let format = file.format();
    match file.pipeline() {
        Some(name) => writeln!(
            out,
            "{path}: the journal of the pipeline {}, format {format}",
            text::escaped(name)
        )?,
        None => writeln!(
            out,
            "{path}: the journal of no pipeline yet, format {format}"
        )?,
    }
    let stages: Vec<_> = file
        .stages()
        .iter()
        .map(|stage| format!("{} (version {})", text::escaped(&stage.name), stage.version))
        .collect();
    writeln!(out, "stages: {}", stages.join(", "))?;
    Ok(())
}

/// The number of undos, and of those that are left.
pub(crate) fn undos(task: &JournalTask) -> String {
    let left = task.undos.iter().filter(|undo| undo.is_left()).count();
    match task.undos.len() {
        0 => "-".to_owned(),
        all if all == left => all.to_string(),
        all => format!("{left} of {all}"),
    }
}
