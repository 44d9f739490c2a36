//! `batrun cluster nodes`

use std::{io::Write, time::SystemTime};

use batrun::journal::{JournalNode, JournalNodeState, JournalStage, JournalTakeover};
use serde_json::json;

use super::{json as rows, look, options::List};
use crate::{
    error::{CliError, Damage},
    text,
};

/// The takeovers that a person reads.
const SHOWN: usize = 20;

/// Lists the nodes, and the nodes that have taken over from others.
pub(crate) fn list(options: &List, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let mut journal = look(&options.place, &mut damage)?;
    let (nodes, takeovers) = (journal.nodes()?, journal.takeovers()?);
    if options.json {
        let whole = json!({
            "nodes": nodes.iter().map(rows::node).collect::<Vec<_>>(),
            "takeovers": takeovers.iter().map(rows::takeover).collect::<Vec<_>>(),
        });
        serde_json::to_writer_pretty(&mut *out, &whole)?;
        writeln!(out)?;
        return Ok(damage);
    }
    match nodes.is_empty() {
        true => writeln!(out, "there are no nodes: no process runs the pipeline")?,
        false => writeln!(out, "{}", table(&nodes))?,
    }
    if !takeovers.is_empty() {
        writeln!(out, "\n{}", takeover_table(&takeovers))?;
    }
    if takeovers.len() > SHOWN {
        let more = takeovers.len() - SHOWN;
        writeln!(out, "and {more} older ones; --json has all of them")?;
    }
    Ok(damage)
}

/// The newest takeovers as a table.
fn takeover_table(takeovers: &[JournalTakeover]) -> String {
    let mut table = text::table(&[
        "node",
        "has got",
        "from",
        "because",
        "last",
        "name",
        "from name",
    ]);
    let now = SystemTime::now();
    for takeover in takeovers.iter().take(SHOWN) {
        let ago = now.duration_since(takeover.at).unwrap_or_default();
        table.add_row([
            takeover.node.to_string(),
            text::count(takeover.tasks as usize, "task", "tasks"),
            takeover.from.to_string(),
            match takeover.killed {
                true => "its lease ran out",
                false => "it has left them",
            }
            .to_owned(),
            format!("{} ago", text::time(ago)),
            text::cell(&takeover.name),
            text::cell(&takeover.from_name),
        ]);
    }
    table.trim_fmt()
}

/// The nodes as a table.
pub(crate) fn table(nodes: &[JournalNode]) -> String {
    let mut table = text::table(&[
        "node", "name", "state", "lease", "tasks", "room", "queued", "commits", "stages",
    ]);
    for node in nodes {
        let lives = node.state == JournalNodeState::Live;
        table.add_row([
            node.id.to_string(),
            text::cell(&node.name),
            rows::state(node.state).to_owned(),
            match lives {
                true => text::time_left(node.lease_left),
                false => "-".to_owned(),
            },
            node.tasks.to_string(),
            node.room.to_string(),
            node.queued.to_string(),
            node.commits.to_string(),
            text::cell(&stages(&node.stages)),
        ]);
    }
    table.trim_fmt()
}

/// The stages with their versions. A process that only submits has none.
pub(crate) fn stages(stages: &[JournalStage]) -> String {
    let stages: Vec<_> = stages
        .iter()
        .map(|stage| format!("{} (version {})", stage.name, stage.version))
        .collect();
    match stages.is_empty() {
        true => "none".to_owned(),
        false => stages.join(", "),
    }
}
