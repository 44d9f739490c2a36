//! Troubles of a pipeline, in words.

use std::time::Duration;

use batrun::report::{Snapshot, StageHealth, StageSnapshot};
use serde::Serialize;

use crate::cluster::ClusterTroubles;

/// A sentence, with a number and the part of the page that says more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    pub(crate) code: &'static str,
    pub(crate) text: String,
    pub(crate) count: u64,
    pub(crate) stage: Option<String>,
    pub(crate) view: &'static str,
}

/// More than that nobody reads.
const MOST: usize = 5;

/// A wait that is worth a sentence.
const LONG: Duration = Duration::from_secs(60);

/// The warnings about a pipeline, the worst first; `before` is what it was some seconds ago, and `cluster` what is known
/// of the processes that share its journal.
pub(crate) fn of(
    now: &Snapshot,
    before: Option<&Snapshot>,
    cluster: Option<&ClusterTroubles>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(why) = &now.suspended_why {
        warn(
            &mut warnings,
            "suspended",
            "stages",
            1,
            None,
            format!("suspended: {why}"),
        );
    }
    if now.ended {
        stuck(now, &mut warnings);
        warnings.truncate(MOST);
        return warnings;
    }
    for stage in &now.stages {
        unhealthy(stage, &mut warnings);
    }
    stuck(now, &mut warnings);
    if let Some(cluster) = cluster {
        shared(cluster, &mut warnings);
    }
    if let Some(before) = before {
        failing(now, before, &mut warnings);
    }
    if now.paused {
        let text = format!(
            "paused: {}",
            count(now.in_flight, "task waits", "tasks wait")
        );
        warn(&mut warnings, "paused", "stages", now.in_flight, None, text);
    }
    for stage in now
        .stages
        .iter()
        .filter(|stage| stage.paused && stage.queued > 0)
    {
        let text = format!(
            "{} is paused: {}",
            stage.name,
            count(stage.queued as u64, "task waits", "tasks wait")
        );
        warn(
            &mut warnings,
            "stage_paused",
            "stages",
            stage.queued as u64,
            Some(stage),
            text,
        );
    }
    bottleneck(now, &mut warnings);
    if let Some(before) = before {
        refused(now, before, &mut warnings);
    }
    oldest(now, &mut warnings);
    warnings.truncate(MOST);
    warnings
}

fn warn(
    warnings: &mut Vec<Warning>,
    code: &'static str,
    view: &'static str,
    count: u64,
    stage: Option<&StageSnapshot>,
    text: String,
) {
    let stage = stage.map(|stage| stage.name.to_string());
    warnings.push(Warning {
        code,
        text,
        count,
        stage,
        view,
    });
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn unhealthy(stage: &StageSnapshot, warnings: &mut Vec<Warning>) {
    let (code, failures, error) = match &stage.health {
        StageHealth::Down { failures, error } => ("stage_down", *failures, error),
        StageHealth::Failing { failures, error } => ("stage_failing", *failures, error),
        _ => return,
    };
    let what = match code {
        "stage_down" => "no worker can be built",
        _ => "a worker can't be built",
    };
    let text = format!("{}: {what} ({failures} in a row): {error}", stage.name);
    warn(warnings, code, "stages", failures.into(), Some(stage), text);
}

fn stuck(now: &Snapshot, warnings: &mut Vec<Warning>) {
    if now.stuck == 0 {
        return;
    }
    let mut text = count(now.stuck as u64, "task is stuck", "tasks are stuck");
    if now.stuck >= now.stuck_limit && !now.ended {
        text.push_str(", the most allowed, so no more tasks are accepted");
    }
    warn(warnings, "stuck", "stuck", now.stuck as u64, None, text);
}

fn shared(cluster: &ClusterTroubles, warnings: &mut Vec<Warning>) {
    let sentences = [
        ("stranded", cluster.stranded()),
        ("silent_node", cluster.silent()),
    ];
    for (code, sentence) in sentences {
        if let Some((text, count)) = sentence {
            warn(warnings, code, "nodes", count, None, text);
        }
    }
}

/// Half of what ended lately was not done.
fn failing(now: &Snapshot, before: &Snapshot, warnings: &mut Vec<Warning>) {
    let not_done = |of: &Snapshot| of.counts.failed + of.counts.timed_out;
    let bad = not_done(now).saturating_sub(not_done(before));
    let good = now.counts.done.saturating_sub(before.counts.done);
    if bad >= 3 && bad >= good {
        let text = format!("{bad} of the last {} tasks failed or timed out", bad + good);
        warn(warnings, "failing", "failures", bad, None, text);
    }
}

/// Queues fill up before the stage that is too slow, so it is the last one whose queue is full.
fn bottleneck(now: &Snapshot, warnings: &mut Vec<Warning>) {
    let full = |stage: &&StageSnapshot| {
        stage.capacity > 0 && stage.queued >= stage.capacity && !stage.paused
    };
    let Some(stage) = now.stages.iter().rev().find(full).filter(|_| !now.paused) else {
        return;
    };
    let StageSnapshot {
        name,
        queued,
        capacity,
        busy,
        workers,
        ..
    } = stage;
    let mut text =
        format!("{name} is the bottleneck: {queued}/{capacity} queued, {busy}/{workers} busy");
    if busy < workers && stage.rate.is_some() {
        text.push_str(", held by its rate limit");
    }
    warn(
        warnings,
        "bottleneck",
        "stages",
        *queued as u64,
        Some(stage),
        text,
    );
}

fn refused(now: &Snapshot, before: &Snapshot, warnings: &mut Vec<Warning>) {
    let full = now.refused.full.saturating_sub(before.refused.full);
    if full > 0 {
        let text = format!(
            "{} in the last seconds",
            count(full, "submit found no room", "submits found no room")
        );
        warn(warnings, "refused", "stages", full, None, text);
    }
}

fn oldest(now: &Snapshot, warnings: &mut Vec<Warning>) {
    let waits = |stage: &&StageSnapshot| stage.oldest_queued.unwrap_or_default();
    let Some(stage) = now.stages.iter().max_by_key(waits) else {
        return;
    };
    let time = waits(&stage);
    if time >= LONG {
        let text = format!(
            "the oldest task waits for {} since {}",
            stage.name,
            minutes(time)
        );
        warn(
            warnings,
            "oldest",
            "tasks",
            time.as_secs(),
            Some(stage),
            text,
        );
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() / 60 {
        minutes @ 0..120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A pipeline that is well, with these changes to itself and to its first stage.
    fn pipeline(changes: Value, stage_changes: Value) -> Snapshot {
        let stage = |name: &str| {
            json!({
                "name": name, "queued": 0, "capacity": 16, "workers": 2, "target": 2, "busy": 0, "resizable": true,
                "paused": false, "health": { "state": "up" }, "started": 0, "finished": 0, "failed": 0, "retried": 0,
                "panicked": 0, "stopped": 0, "cancelled": 0, "cancel_failures": 0, "wait_sum": 0, "work_sum": 0,
            })
        };
        let mut first = stage("reserve");
        merge(&mut first, stage_changes);
        let mut all = json!({
            "pipeline": "p", "accepted": 9, "done": 0, "failed": 0, "timed_out": 0, "cancelled": 0, "taken_back": 0,
            "suspended": 0, "released": 0, "in_flight": 9, "in_flight_limit": 100, "stuck": 0, "stuck_limit": 10,
            "refused": { "full": 0, "closed": 0, "stuck": 0, "suspended": 0 }, "paused": false, "draining": false,
            "ended": false, "started_at": { "secs_since_epoch": 0, "nanos_since_epoch": 0 },
            "uptime": { "secs": 1, "nanos": 0 }, "stages": [first, stage("pay")], "progress": [],
        });
        merge(&mut all, changes);
        serde_json::from_value(all).unwrap()
    }

    fn merge(into: &mut Value, changes: Value) {
        for (name, value) in changes.as_object().unwrap() {
            into[name] = value.clone();
        }
    }

    fn said(changes: Value, stage_changes: Value) -> Vec<String> {
        let before = pipeline(json!({}), json!({}));
        let now = pipeline(changes, stage_changes);
        of(&now, Some(&before), None)
            .into_iter()
            .map(|warning| warning.text)
            .collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_pipeline_that_works() {
        let busy = json!({ "queued": 15, "busy": 2, "oldest_queued": { "secs": 59, "nanos": 0 } });
        let works = json!({ "done": 100, "failed": 99 });
        assert_eq!(said(works, busy), [""; 0]);
    }

    #[test]
    fn each_trouble_has_its_sentence() {
        let full = json!({ "queued": 16, "busy": 2 });
        let limited = json!({
            "queued": 16, "busy": 0, "rate": { "count": 1, "per": { "secs": 1, "nanos": 0 }, "burst": 1 },
        });
        let down = |state: &str| json!({ "health": { "state": state, "failures": 12, "error": "no route" } });
        let waits = |secs: u64| json!({ "oldest_queued": { "secs": secs, "nanos": 0 } });
        let none = || json!({});
        let cases = [
            (
                json!({ "suspended_why": "disk full" }),
                none(),
                "suspended: disk full",
            ),
            (
                none(),
                down("down"),
                "reserve: no worker can be built (12 in a row): no route",
            ),
            (
                none(),
                down("failing"),
                "reserve: a worker can't be built (12 in a row): no route",
            ),
            (json!({ "stuck": 1 }), none(), "1 task is stuck"),
            (
                json!({ "stuck": 10 }),
                none(),
                "10 tasks are stuck, the most allowed, so no more tasks are accepted",
            ),
            (
                json!({ "failed": 3, "timed_out": 2, "done": 5 }),
                none(),
                "5 of the last 10 tasks failed or timed out",
            ),
            (json!({ "paused": true }), none(), "paused: 9 tasks wait"),
            (
                none(),
                json!({ "paused": true, "queued": 1 }),
                "reserve is paused: 1 task waits",
            ),
            (
                none(),
                full,
                "reserve is the bottleneck: 16/16 queued, 2/2 busy",
            ),
            (
                none(),
                limited,
                "reserve is the bottleneck: 16/16 queued, 0/2 busy, held by its rate limit",
            ),
            (
                json!({ "refused": { "full": 7, "closed": 0, "stuck": 0, "suspended": 0 } }),
                none(),
                "7 submits found no room in the last seconds",
            ),
            (
                none(),
                waits(250),
                "the oldest task waits for reserve since 4 min",
            ),
            (
                none(),
                waits(7_200),
                "the oldest task waits for reserve since 2 h",
            ),
        ];
        for (changes, stage_changes, text) in cases {
            assert_eq!(said(changes, stage_changes), [text]);
        }
    }

    #[test]
    fn troubles_of_those_that_share_a_journal_lead_to_the_nodes() {
        let shared = ClusterTroubles::of_test();
        let now = pipeline(json!({ "stuck": 1, "paused": true }), json!({}));
        let warnings = of(&now, None, Some(&shared));
        let told: Vec<_> = warnings.iter().map(|one| (one.code, one.view)).collect();
        assert_eq!(
            told,
            [
                ("stuck", "stuck"),
                ("stranded", "nodes"),
                ("silent_node", "nodes"),
                ("paused", "stages")
            ]
        );
        assert_eq!((warnings[1].count, warnings[2].count), (12, 3));
        assert!(of(&now, None, Some(&ClusterTroubles::default())).len() == 2);
    }

    #[test]
    fn the_worst_five_come_first() {
        let all = json!({
            "suspended_why": "disk full", "stuck": 2, "failed": 5, "refused": { "full": 1, "closed": 0, "stuck": 0, "suspended": 0 },
        });
        let stage = json!({
            "queued": 16, "busy": 2, "health": { "state": "down", "failures": 10, "error": "no" },
            "oldest_queued": { "secs": 90, "nanos": 0 },
        });
        let said = said(all, stage);
        assert_eq!(said.len(), MOST);
        assert!(
            said[0].starts_with("suspended") && said[1].starts_with("reserve: no worker"),
            "{said:?}"
        );
    }

    #[test]
    fn of_an_ended_pipeline_only_what_is_left_is_said() {
        let said = said(
            json!({ "ended": true, "stuck": 10, "paused": true }),
            json!({ "queued": 16 }),
        );
        assert_eq!(said, ["10 tasks are stuck"]);
    }
}
