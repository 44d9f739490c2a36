//! The answers about what is in a journal: finished tasks, and the processes that share it. Keys and outputs are
//! values.

use batrun::report::{
    JournalCluster, JournalNode, JournalNodeState, JournalReader, JournalStage, PastCursor,
    PastOutcome,
};
use serde_json::{Value, json};

use crate::{
    answer::{Refused, Reply},
    call::Call,
    journal_watch::{kind, unreadable},
    look::ended_outcome,
    packed,
    texts::{Whole, millis},
};

type Answer = Result<Reply, Refused>;

/// The outcome of the task that has this key, for those who may see keys.
pub(crate) fn find(
    call: &Call,
    journal: &JournalReader,
    key: &str,
) -> Result<Option<PastOutcome>, Refused> {
    if !call.access.sees_values() {
        return Ok(None);
    }
    let _turn = call.inner.readers.enter()?;
    journal.outcome_of(key).map_err(|error| unreadable(&error))
}

/// The place before which the caller wants more.
pub(crate) fn cursor(call: &Call) -> Result<Option<PastCursor>, Refused> {
    let before = call.query.get("before").filter(|text| !text.is_empty());
    let before = before.map(|text| text.parse::<PastCursor>());
    before
        .transpose()
        .map_err(|error| Refused::bad_request(format!("before is `next` of a page: {error}")))
}

pub(crate) fn journal(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let (limit, q) = (call.limit()?, call.q()?);
    let before = cursor(call)?;
    let reader = pipeline.control.journal();
    let (mut outcomes, mut corrupt, mut next) = (Vec::new(), Vec::new(), None);
    match reader {
        None => {}
        Some(reader) if !q.is_empty() => outcomes.extend(find(call, reader, q)?),
        Some(reader) => {
            let _turn = call.inner.readers.enter()?;
            let page = reader.outcomes(before, limit);
            let page = page.map_err(|error| unreadable(&error))?;
            (outcomes, corrupt, next) = (page.outcomes, page.corrupt, page.next);
        }
    }
    let place = reader.filter(|_| call.access.sees_values());
    let outcomes: Vec<Value> = outcomes.into_iter().map(|one| past(call, one)).collect();
    let corrupt: Vec<String> = corrupt.iter().map(|text| call.texts().show(text)).collect();
    Reply::json(&json!({
        "kind": kind(reader),
        "place": place.map(|reader| call.texts().show(&reader.place())),
        "outcomes": outcomes,
        "corrupt": corrupt,
        "next": next.map(|next| next.to_string()),
    }))
}

pub(crate) fn past(call: &Call, past: PastOutcome) -> Value {
    let PastOutcome {
        outcome,
        at,
        output,
        ..
    } = past;
    let mut shown = ended_outcome(call, outcome, at);
    let output = output.filter(|_| call.access.sees_values());
    let output = output.map(|output| call.texts().show_any(packed::json(&output)));
    shown["output"] = json!(output);
    shown
}

pub(crate) fn nodes(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let reader = pipeline.control.journal();
    let cluster = match reader {
        Some(reader) => pipeline.journal.cluster(reader, &call.inner.readers)?,
        None => None,
    };
    let mut shown = match cluster {
        Some(cluster) => shared(call, &cluster),
        None => json!({
            "nodes": [], "takeovers": [], "waiting": Whole(0), "stranded": [], "counted_to": Whole(0),
        }),
    };
    shown["kind"] = kind(reader).into();
    Reply::json(&shown)
}

fn shared(call: &Call, cluster: &JournalCluster) -> Value {
    let takeovers = cluster.takeovers.iter().map(|takeover| {
        json!({
            "node": takeover.node.to_string(),
            "name": call.texts().show(&takeover.name),
            "from": takeover.from.to_string(),
            "from_name": call.texts().show(&takeover.from_name),
            "killed": takeover.killed,
            "tasks": Whole(takeover.tasks),
            "at": millis(takeover.at),
        })
    });
    let stranded = cluster.stranded.iter().map(|stranded| {
        json!({
            "stages": stages(&stranded.stages),
            "tasks": Whole(stranded.tasks),
            "stuck": Whole(stranded.stuck),
        })
    });
    let nodes = cluster.nodes.iter();
    json!({
        "this": cluster.this.to_string(),
        "lease_left_ns": Whole::from(cluster.lease_left),
        "nodes": nodes.map(|one| node(call, one, cluster.this)).collect::<Vec<_>>(),
        "takeovers": takeovers.collect::<Vec<_>>(),
        "waiting": Whole(cluster.waiting),
        "stranded": stranded.collect::<Vec<_>>(),
        "counted_to": Whole(cluster.counted_to),
    })
}

fn node(call: &Call, node: &JournalNode, this: i32) -> Value {
    json!({
        "node": node.id.to_string(),
        "this": node.id == this,
        "name": call.texts().show(&node.name),
        "state": match node.state {
            JournalNodeState::Live => "live",
            JournalNodeState::Overdue => "overdue",
            JournalNodeState::Left => "left",
            JournalNodeState::Dead => "dead",
            _ => "other",
        },
        "began": millis(node.began),
        "lease_ns": Whole::from(node.lease),
        "lease_left_ns": node.lease_left.map(Whole::from),
        "tasks": Whole(node.tasks),
        "queued": Whole(node.queued),
        "room": Whole(node.room),
        "commits": Whole(node.commits),
        "stages": stages(&node.stages),
    })
}

fn stages(stages: &[JournalStage]) -> Vec<Value> {
    let stage = |stage: &JournalStage| json!({ "name": stage.name, "version": stage.version });
    stages.iter().map(stage).collect()
}
