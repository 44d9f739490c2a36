//! `batrun journal show`

use std::{collections::BTreeMap, io::Write};

use batrun::{JournalFile, JournalOutcome, JournalTask, JournalUndoStatus, TaskId};
use serde_json::{Value, json};

use crate::{Failed, Faults, Show, json, text};

/// What there is, and the tasks under way.
pub(crate) fn all(options: &Show, out: &mut impl Write) -> Result<Faults, Failed> {
    let mut faults = Faults::default();
    let file = open(options, &mut faults)?;
    let mut by = BTreeMap::<_, usize>::new();
    let mut listed = Vec::new();
    let (mut live, mut stuck, mut aside) = (0, 0, 0);
    file.tasks(|task| match task {
        Err(corrupt) => faults.add(&corrupt),
        Ok(task) if task.stuck.is_some() => {
            stuck += 1;
            aside += usize::from(task.quarantined);
        }
        Ok(task) => {
            live += 1;
            let place = (place(&task), json::state(&task), task.stage.clone());
            *by.entry(place).or_default() += 1;
            if listed.len() < options.limit {
                listed.push(task);
            }
        }
    })?;
    if options.json {
        let by: Vec<_> = by
            .iter()
            .map(|((_, state, stage), tasks)| json!({ "state": state, "stage": stage, "tasks": tasks }))
            .collect();
        let listed: Result<Vec<_>, _> = listed.iter().map(json::task).collect();
        let mut whole = json::of_kind("journal", about(&file));
        whole["tasks"] = json!({ "live": live, "stuck": stuck, "set_aside": aside, "by": by });
        whole["live"] = Value::Array(listed?);
        whole["corrupt"] = json!(faults.0);
        serde_json::to_writer_pretty(&mut *out, &whole)?;
        writeln!(out)?;
        return Ok(faults);
    }
    heading(options, &file, out)?;
    writeln!(
        out,
        "{} under way, {} stuck ({aside} set aside), {} kept",
        text::count(live, "task", "tasks"),
        stuck,
        text::count(file.outcomes_kept() as usize, "outcome", "outcomes"),
    )?;
    if !by.is_empty() {
        let mut table = text::table(&["state", "stage", "tasks"]);
        for ((_, state, stage), tasks) in &by {
            let stage = text::or_dash(stage.as_deref());
            table.add_row([(*state).to_owned(), stage, tasks.to_string()]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    if !listed.is_empty() {
        let mut table = text::table(&[
            "task", "key", "state", "stage", "attempt", "deadline", "undos", "context",
        ]);
        for task in &listed {
            table.add_row([
                task.id.to_string(),
                text::or_dash(task.key.as_deref()),
                json::state(task).to_owned(),
                text::or_dash(task.stage.as_deref()),
                task.attempt.to_string(),
                text::left(task.left),
                undos(task),
                text::short(&json::value(&task.context).to_string()),
            ]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    if live > listed.len() {
        let more = live - listed.len();
        writeln!(out, "and {more} more: --limit N lists as many")?;
    }
    if stuck > 0 {
        let file = options.file.display().to_string();
        writeln!(
            out,
            "\nwhat waits for a person: batrun journal stuck {}",
            text::clean(&file)
        )?;
    }
    Ok(faults)
}

/// Everything about one task.
pub(crate) fn one(options: &Show, id: u64, out: &mut impl Write) -> Result<Faults, Failed> {
    let mut faults = Faults::default();
    let file = open(options, &mut faults)?;
    if let Some(task) = file.task(TaskId(id))? {
        if options.json {
            serde_json::to_writer_pretty(&mut *out, &json::task(&task)?)?;
            writeln!(out)?;
        } else {
            describe(&task, out)?;
        }
        return Ok(faults);
    }
    let mut found = None;
    file.outcomes(|outcome| match outcome {
        Ok(outcome) if outcome.outcome.task.0 == id => found = Some(outcome),
        Ok(_) => {}
        Err(corrupt) => faults.add(&corrupt),
    })?;
    let Some(found) = found else {
        let file = options.file.display();
        return Err(Failed::Other(format!(
            "{file}: nothing is known of a task {id}"
        )));
    };
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &json::outcome(&found)?)?;
        writeln!(out)?;
    } else {
        ended(&found, out)?;
    }
    Ok(faults)
}

fn open(options: &Show, faults: &mut Faults) -> Result<JournalFile, Failed> {
    let file = JournalFile::look(&options.file)?;
    if options.check {
        file.check()?;
    }
    for corrupt in file.corrupt() {
        faults.add(&corrupt);
    }
    Ok(file)
}

/// The journal itself.
pub(crate) fn about(file: &JournalFile) -> Value {
    let stage =
        |stage: &batrun::JournalStage| json!({ "name": stage.name, "version": stage.version });
    json!({
        "pipeline": file.pipeline(),
        "format": file.format(),
        "stages": file.stages().iter().map(stage).collect::<Vec<_>>(),
        "outcomes_kept": file.outcomes_kept(),
    })
}

fn heading(options: &Show, file: &JournalFile, out: &mut impl Write) -> Result<(), Failed> {
    let path = text::clean(&options.file.display().to_string());
    let format = file.format();
    match file.pipeline() {
        Some(name) => writeln!(
            out,
            "{path}: the journal of the pipeline {}, format {format}",
            text::clean(name)
        )?,
        None => writeln!(
            out,
            "{path}: the journal of no pipeline yet, format {format}"
        )?,
    }
    let stages: Vec<_> = file
        .stages()
        .iter()
        .map(|stage| format!("{} (version {})", text::clean(&stage.name), stage.version))
        .collect();
    writeln!(out, "stages: {}", stages.join(", "))?;
    Ok(())
}

/// Those at the beginning of the pipeline come first.
fn place(task: &JournalTask) -> (u32, u32) {
    use batrun::State as S;
    match task.state {
        S::Queued(stage) => (stage.into(), 0),
        S::Running(stage) => (stage.into(), 1),
        S::Cleaning(stage) => (stage.into(), 2),
        S::Stopping(stage) => (stage.into(), 3),
        S::RollingBack | S::Ended => (u32::MAX, 0),
    }
}

/// How many there are, and how many of them are left.
fn undos(task: &JournalTask) -> String {
    let left = task.undos.iter().filter(|undo| undo.is_left()).count();
    match task.undos.len() {
        0 => "-".to_owned(),
        all if all == left => all.to_string(),
        all => format!("{left} of {all}"),
    }
}

fn describe(task: &JournalTask, out: &mut impl Write) -> Result<(), Failed> {
    let mut facts = vec![
        ("task", task.id.to_string()),
        ("key", text::or_dash(task.key.as_deref())),
        ("state", json::state(task).to_owned()),
        ("stage", text::or_dash(task.stage.as_deref())),
        ("attempt", task.attempt.to_string()),
        ("interrupted", task.interrupted.to_string()),
        ("deadline", text::left(task.left)),
    ];
    if let Some(end) = json::end(task) {
        facts.push(("end", text::clean(&end.to_string())));
    }
    for (name, fact) in facts {
        writeln!(out, "{name:<12} {fact}")?;
    }
    let context = serde_json::to_string_pretty(&json::value(&task.context))?;
    writeln!(out, "context      {}", text::clean(&context))?;
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
            text::short(&undo.stage),
            undo.attempt.to_string(),
            json::status(undo).to_owned(),
            undo.tries.to_string(),
            error.map_or("-".to_owned(), text::clean),
        ]);
    }
    writeln!(out, "\n{}\n", table.trim_fmt())?;
    for (number, undo) in task.undos.iter().enumerate() {
        let value = json::value(&undo.value).to_string();
        writeln!(out, "undo {number}: {}", text::clean(&value))?;
    }
    Ok(())
}

fn ended(kept: &JournalOutcome, out: &mut impl Write) -> Result<(), Failed> {
    writeln!(out, "{}", text::clean(&kept.outcome.to_string()))?;
    if let Some(key) = &kept.key {
        writeln!(out, "key          {}", text::clean(key))?;
    }
    if let Some(output) = &kept.output {
        let output = json::value(output).to_string();
        writeln!(out, "output       {}", text::clean(&output))?;
    }
    Ok(())
}
