//! `batrun cluster show`

use std::{io::Write, time::SystemTime};

use batrun::journal::{
    JournalCount, JournalDatabase, JournalDatabaseTask, JournalNode, JournalNodeState,
    JournalStranded, JournalUpkeep,
};
use serde_json::{Value, json};

use super::{json as rows, look, nodes, option, options::Show};
use crate::{
    error::{CliError, Damage},
    json, show as files, text,
};

/// A journal at one moment.
struct Overview {
    nodes: Vec<JournalNode>,
    /// The tasks that aren't stuck, counted by state and stage.
    counts: Vec<JournalCount>,
    live: u64,
    stuck: u64,
    /// Stuck tasks that a start has set aside.
    set_aside: u64,
    listed: Vec<JournalDatabaseTask>,
    stranded: Vec<JournalStranded>,
    outcomes: u64,
    upkeep: JournalUpkeep,
}

/// Shows the nodes, the tasks and the tables.
pub(crate) fn show(options: &Show, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    if options.check {
        check(&mut journal, &mut damage)?;
    }
    let overview = overview(&mut journal, options.limit, &mut damage)?;
    if options.json {
        let whole = to_json(&mut journal, &overview, &damage)?;
        serde_json::to_writer_pretty(&mut *out, &whole)?;
        writeln!(out)?;
    } else {
        print(&journal, &overview, out)?;
    }
    Ok(damage)
}

/// Reads everything, so that its checksums are verified.
pub(crate) fn check(journal: &mut JournalDatabase, damage: &mut Damage) -> Result<(), CliError> {
    journal.tasks(|task| drop(task.map_err(|corrupt| damage.add(&corrupt))))?;
    journal.outcomes(|outcome| drop(outcome.map_err(|corrupt| damage.add(&corrupt))))?;
    Ok(())
}

fn overview(
    journal: &mut JournalDatabase,
    limit: usize,
    damage: &mut Damage,
) -> Result<Overview, CliError> {
    let nodes = journal.nodes()?;
    let counts = journal.counts()?;
    let (stuck, mut counts): (Vec<_>, Vec<_>) = counts.into_iter().partition(|count| count.stuck);
    sort(&mut counts, &nodes);
    let mut listed = Vec::new();
    journal.first_tasks(limit, |task| match task {
        Ok(task) => listed.push(task),
        Err(corrupt) => damage.add(&corrupt),
    })?;
    let mut set_aside = 0;
    journal.stuck(|task| match task {
        Ok(found) => set_aside += u64::from(found.task.quarantined),
        Err(corrupt) => damage.add(&corrupt),
    })?;
    Ok(Overview {
        nodes,
        live: counts.iter().map(|count| count.tasks).sum(),
        counts,
        stuck: stuck.iter().map(|count| count.tasks).sum(),
        set_aside,
        listed,
        stranded: journal.stranded()?,
        outcomes: journal.outcomes_kept()?,
        upkeep: journal.upkeep()?,
    })
}

/// In the order in which tasks pass through stages and states.
fn sort(counts: &mut [JournalCount], nodes: &[JournalNode]) {
    let stages: Vec<_> = nodes.iter().flat_map(|node| &node.stages).collect();
    counts.sort_by_key(|count| {
        let stage = count.stage.as_ref();
        let known = stages.iter().position(|known| Some(&known.name) == stage);
        let state = ["queued", "running", "cleaning up"];
        let state = state.iter().position(|state| *state == count.state);
        let name = count.stage.as_deref().unwrap_or_default().to_owned();
        (
            count.stage.is_none(),
            known.unwrap_or(usize::MAX),
            name,
            state,
        )
    });
}

fn to_json(
    journal: &mut JournalDatabase,
    overview: &Overview,
    damage: &Damage,
) -> Result<Value, CliError> {
    let count = |count: &JournalCount| json!({ "state": count.state, "stage": count.stage, "tasks": count.tasks });
    let listed: Result<Vec<_>, _> = overview.listed.iter().map(rows::task).collect();
    let mut whole = json::with_kind("cluster", rows::journal(journal)?);
    whole["nodes"] = overview.nodes.iter().map(rows::node).collect();
    whole["tasks"] = json!({
        "live": overview.live,
        "stuck": overview.stuck,
        "set_aside": overview.set_aside,
        "by": overview.counts.iter().map(count).collect::<Vec<_>>(),
    });
    whole["stranded"] = overview.stranded.iter().map(rows::stranded).collect();
    whole["live"] = Value::Array(listed?);
    whole["upkeep"] = rows::upkeep(&overview.upkeep);
    whole["corrupt"] = json!(damage.texts());
    Ok(whole)
}

fn print(
    journal: &JournalDatabase,
    overview: &Overview,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let (database, schema) = (journal.database(), journal.schema());
    let place = text::escaped(&format!("{database}, schema {schema:?}"));
    let format = journal.format();
    match journal.pipeline() {
        Some(name) => {
            let name = text::escaped(name);
            writeln!(
                out,
                "{place}: the journal of the pipeline {name}, format {format}"
            )?;
        }
        None => writeln!(
            out,
            "{place}: the journal of no pipeline yet, format {format}"
        )?,
    }
    let live = overview
        .nodes
        .iter()
        .filter(|node| node.state == JournalNodeState::Live);
    writeln!(
        out,
        "{}; {} under way, {} stuck ({} set aside), {} kept",
        text::count(live.count(), "node lives", "nodes live"),
        text::count(overview.live as usize, "task", "tasks"),
        overview.stuck,
        overview.set_aside,
        text::count(overview.outcomes as usize, "outcome", "outcomes"),
    )?;
    if !overview.nodes.is_empty() {
        writeln!(out, "\n{}", nodes::table(&overview.nodes))?;
    }
    if !overview.counts.is_empty() {
        let mut table = text::table(&["state", "stage", "tasks"]);
        for count in &overview.counts {
            let stage = text::cell_or_dash(count.stage.as_deref());
            table.add_row([text::cell(&count.state), stage, count.tasks.to_string()]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    print_tasks(overview, out)?;
    print_stranded(&overview.stranded, out)?;
    print_upkeep(&overview.upkeep, out)?;
    if overview.stuck > 0 {
        let option = option(journal);
        writeln!(
            out,
            "\nto see the stuck tasks: batrun cluster stuck {option}"
        )?;
    }
    Ok(())
}

fn print_tasks(overview: &Overview, out: &mut impl Write) -> Result<(), CliError> {
    if !overview.listed.is_empty() {
        let mut table = text::table(&[
            "task", "key", "label", "node", "state", "stage", "attempt", "deadline", "undos",
            "context",
        ]);
        for found in &overview.listed {
            let task = &found.task;
            table.add_row([
                task.id.to_string(),
                text::cell_or_dash(task.key.as_deref()),
                text::cell_or_dash(task.label.as_deref()),
                found.node.map_or("-".to_owned(), |node| node.to_string()),
                json::state(task).to_owned(),
                text::cell_or_dash(task.stage.as_deref()),
                task.attempt.to_string(),
                text::time_left(task.left),
                files::undos(task),
                text::cell(&json::value(&task.context).to_string()),
            ]);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    let listed = overview.listed.len() as u64;
    if overview.live > listed {
        let more = overview.live - listed;
        writeln!(out, "and {more} more; --limit N lists up to N tasks")?;
    }
    Ok(())
}

fn print_stranded(stranded: &[JournalStranded], out: &mut impl Write) -> Result<(), CliError> {
    if stranded.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nno node that lives has the stages of these tasks; they wait for a process that has:"
    )?;
    let mut table = text::table(&["tasks", "stuck", "stages"]);
    for stranded in stranded {
        let stages = match stranded.stages.is_empty() {
            true => "any".to_owned(),
            false => text::cell(&nodes::stages(&stranded.stages)),
        };
        table.add_row([
            stranded.tasks.to_string(),
            stranded.stuck.to_string(),
            stages,
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

fn print_upkeep(upkeep: &JournalUpkeep, out: &mut impl Write) -> Result<(), CliError> {
    let mut table = text::table(&["table", "size", "rows", "dead", "vacuumed"]);
    let now = SystemTime::now();
    for row in &upkeep.tables {
        let ago = row
            .vacuumed
            .map(|at| now.duration_since(at).unwrap_or_default());
        let ago = ago.map(|ago| format!("{} ago", text::time(ago)));
        table.add_row([
            text::cell(&row.name),
            text::bytes(row.bytes),
            row.rows.to_string(),
            row.dead_rows.to_string(),
            ago.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    writeln!(out, "\n{}", table.trim_fmt())?;
    match &upkeep.oldest {
        Some(oldest) => {
            let since = oldest
                .since
                .map(|since| format!(" for {}", text::time(since)));
            writeln!(
                out,
                "dead rows are kept by {}{}, {}",
                text::escaped(&oldest.holder),
                since.unwrap_or_default(),
                text::count(
                    oldest.transactions as usize,
                    "transaction old",
                    "transactions old"
                ),
            )?;
        }
        None => writeln!(out, "nothing keeps dead rows, as far as this user may see")?,
    }
    for standby in &upkeep.standbys {
        let name = text::escaped(&standby.name);
        let Some(sync) = &standby.sync else {
            writeln!(
                out,
                "standby {name}: only a user with pg_read_all_stats sees more of it"
            )?;
            continue;
        };
        let bytes = standby.bytes_behind.map_or("?".to_owned(), text::bytes);
        let time = text::time(standby.behind.unwrap_or_default());
        writeln!(
            out,
            "standby {name}: {}, {bytes} and {time} behind",
            text::escaped(sync)
        )?;
    }
    Ok(())
}
