//! `batrun cluster nodes`

use std::io::Write;

use batrun::journal::{JournalNode, JournalNodeState, JournalStage};
use serde_json::Value;

use super::{json, look, options::List};
use crate::{
    error::{CliError, Damage},
    text,
};

/// Lists the nodes.
pub(crate) fn list(options: &List, out: &mut impl Write) -> Result<Damage, CliError> {
    let mut damage = Damage::default();
    let nodes = look(&options.place, &mut damage)?.nodes()?;
    if options.json {
        let nodes: Vec<Value> = nodes.iter().map(json::node).collect();
        serde_json::to_writer_pretty(&mut *out, &nodes)?;
        writeln!(out)?;
    } else if nodes.is_empty() {
        writeln!(out, "there are no nodes: no process runs the pipeline")?;
    } else {
        writeln!(out, "{}", table(&nodes))?;
    }
    Ok(damage)
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
            json::state(node.state).to_owned(),
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
