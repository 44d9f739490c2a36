//! What is wrong, in words.

use std::time::Duration;

use batrun::report::{Snapshot, StageHealth, StageSnapshot};
use serde::Serialize;

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

/// The warnings about a pipeline, the worst first; `before` is what it was some seconds ago.
pub(crate) fn of(now: &Snapshot, before: Option<&Snapshot>) -> Vec<Warning> {
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
        text.push_str(", as many as may be, so none is accepted");
    }
    warn(warnings, "stuck", "stuck", now.stuck as u64, None, text);
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
