//! The contents of a journal in a database as JSON.

use std::time::SystemTime;

use batrun::journal::{
    JournalDatabase, JournalDatabaseTask, JournalNode, JournalNodeState, JournalStage,
    JournalStranded, JournalTakeover, JournalUpkeep,
};
use serde_json::{Value, json};

use crate::json::{self as rows, millis};

/// The state of a node, in a word.
pub(crate) fn state(state: JournalNodeState) -> &'static str {
    match state {
        JournalNodeState::Live => "live",
        JournalNodeState::Overdue => "overdue",
        JournalNodeState::Left => "left",
        JournalNodeState::Dead => "dead",
        _ => "unknown",
    }
}

/// The journal itself.
pub(crate) fn journal(
    journal: &mut JournalDatabase,
) -> Result<Value, batrun::journal::JournalError> {
    let outcomes = journal.outcomes_kept()?;
    Ok(json!({
        "database": journal.database(),
        "schema": journal.schema(),
        "pipeline": journal.pipeline(),
        "format": journal.format(),
        "outcomes_kept": outcomes,
    }))
}

pub(crate) fn node(node: &JournalNode) -> Value {
    json!({
        "node": node.id,
        "name": node.name,
        "state": state(node.state),
        "stages": stages(&node.stages),
        "began_ms": millis(node.began),
        "lease_ms": node.lease.as_millis() as u64,
        "lease_left_ms": node.lease_left.map(|left| left.as_millis() as u64),
        "commits": node.commits,
        "tasks": node.tasks,
        "room": node.room,
        "queued": node.queued,
    })
}

/// Everything about a task, with its node.
pub(crate) fn task(found: &JournalDatabaseTask) -> Result<Value, serde_json::Error> {
    let mut task = rows::task(&found.task)?;
    task["node"] = json!(found.node);
    task["has_node"] = json!(found.has_node);
    task["taken_over"] = json!(found.taken_over);
    Ok(task)
}

pub(crate) fn takeover(takeover: &JournalTakeover) -> Value {
    json!({
        "node": takeover.node,
        "name": takeover.name,
        "from": takeover.from,
        "from_name": takeover.from_name,
        "killed": takeover.killed,
        "tasks": takeover.tasks,
        "at_ms": millis(takeover.at),
    })
}

pub(crate) fn stranded(stranded: &JournalStranded) -> Value {
    json!({
        "stages": stages(&stranded.stages),
        "tasks": stranded.tasks,
        "stuck": stranded.stuck,
    })
}

pub(crate) fn upkeep(upkeep: &JournalUpkeep) -> Value {
    let at = |at: Option<SystemTime>| at.map(millis);
    let tables = upkeep.tables.iter().map(|table| {
        json!({
            "table": table.name,
            "bytes": table.bytes,
            "rows": table.rows,
            "dead_rows": table.dead_rows,
            "vacuumed_ms": at(table.vacuumed),
        })
    });
    let oldest = upkeep.oldest.as_ref().map(|oldest| {
        json!({
            "holder": oldest.holder,
            "transactions": oldest.transactions,
            "since_ms": oldest.since.map(|since| since.as_millis() as u64),
        })
    });
    let standbys = upkeep.standbys.iter().map(|standby| {
        json!({
            "name": standby.name,
            "sync": standby.sync,
            "bytes_behind": standby.bytes_behind,
            "behind_ms": standby.behind.map(|behind| behind.as_millis() as u64),
        })
    });
    json!({
        "tables": tables.collect::<Vec<_>>(),
        "oldest": oldest,
        "standbys": standbys.collect::<Vec<_>>(),
    })
}

fn stages(stages: &[JournalStage]) -> Vec<Value> {
    let stage = |stage: &JournalStage| json!({ "name": stage.name, "version": stage.version });
    stages.iter().map(stage).collect()
}
