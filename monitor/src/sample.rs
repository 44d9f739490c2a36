//! A pipeline at one instant, as the page shows it.

use std::time::SystemTime;

use batrun::{
    Control,
    policy::RateLimit,
    report::{Snapshot, StageCounts, StageHealth, StageSnapshot, StageTimes, Times},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    access::Access,
    journal_watch::kind,
    live::Rates,
    texts::{Texts, Whole, millis},
    warnings::Warning,
};

/// All pipelines at one instant: what is the same for all who look, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampled {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// An object for each pipeline, without its closing brace.
    pub(crate) pipelines: Vec<Bytes>,
    /// Every pipeline has ended.
    pub(crate) over: bool,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl Sampled {
    /// The text for one who looks.
    pub(crate) fn text(&self, access: &Access) -> Vec<u8> {
        let access = Self::access(access);
        let len: usize = self
            .pipelines
            .iter()
            .map(|one| one.len() + access.len() + 2)
            .sum();
        let mut text = Vec::with_capacity(len + 100);
        let (at, version) = (self.at, env!("CARGO_PKG_VERSION"));
        text.extend(format!(r#"{{"now":{at},"version":"{version}","pipelines":["#).bytes());
        for (number, one) in self.pipelines.iter().enumerate() {
            if number > 0 {
                text.push(b',');
            }
            text.extend_from_slice(one);
            text.extend_from_slice(access.as_bytes());
            text.push(b'}');
        }
        text.extend_from_slice(b"]}");
        text
    }

    /// The text of one of them.
    pub(crate) fn one(&self, place: usize, access: &Access) -> Option<Vec<u8>> {
        let mut text = self.pipelines.get(place)?.to_vec();
        text.extend_from_slice(Self::access(access).as_bytes());
        text.push(b'}');
        Some(text)
    }

    fn access(access: &Access) -> String {
        let access = json!({ "values": access.sees_values(), "actions": access.actions() });
        format!(r#","access":{access}"#)
    }
}

#[derive(Serialize)]
struct Sample<'a> {
    p: String,
    name: &'a str,
    health: Value,
    warnings: Vec<Warning>,
    counts: Value,
    in_flight: Whole,
    in_flight_limit: Whole,
    stuck: usize,
    stuck_limit: usize,
    refused: Value,
    paused: bool,
    draining: bool,
    drain_left_ns: Option<Whole>,
    suspended_why: Option<String>,
    ended: bool,
    started_at: u64,
    uptime_ns: Whole,
    /// none, file or database
    journal: &'static str,
    per_second: Value,
    stages: Vec<Stage<'a>>,
}

#[derive(Serialize)]
struct Stage<'a> {
    name: &'a str,
    queued: usize,
    capacity: usize,
    oldest_queued_ns: Option<Whole>,
    workers: usize,
    workers_target: usize,
    workers_busy: usize,
    resizable: bool,
    rate_limit: Option<Value>,
    paused: bool,
    health: Value,
    counts: Value,
    per_second: f64,
    wait: Value,
    work: Value,
    undos_per_second: f64,
}

/// The text of a pipeline, without its closing brace.
pub(crate) fn text(
    place: usize,
    control: &Control,
    snapshot: &Snapshot,
    rates: &Rates,
    warnings: Vec<Warning>,
    texts: &Texts,
) -> Bytes {
    let health = control.health();
    let times = control.times();
    let counts = &snapshot.counts;
    let refused = &snapshot.refused;
    let stages = snapshot.stages.iter().zip(&times).enumerate();
    let sample = Sample {
        p: place.to_string(),
        name: control.name(),
        health: json!({ "ready": health.is_ready(), "text": texts.show_any(&health) }),
        warnings,
        counts: json!({
            "accepted": Whole(counts.accepted),
            "done": Whole(counts.done),
            "failed": Whole(counts.failed),
            "timed_out": Whole(counts.timed_out),
            "cancelled": Whole(counts.cancelled),
            "taken_back": Whole(counts.taken_back),
            "suspended": Whole(counts.suspended),
            "released": Whole(counts.released),
        }),
        in_flight: Whole(snapshot.in_flight),
        in_flight_limit: Whole(snapshot.in_flight_limit as u64),
        stuck: snapshot.stuck,
        stuck_limit: snapshot.stuck_limit,
        refused: json!({
            "full": Whole(refused.full),
            "closed": Whole(refused.closed),
            "stuck": Whole(refused.stuck),
            "suspended": Whole(refused.suspended),
        }),
        paused: snapshot.paused,
        draining: snapshot.draining,
        drain_left_ns: snapshot.drain_left.map(Whole::from),
        suspended_why: snapshot.suspended_why.as_deref().map(|why| texts.show(why)),
        ended: snapshot.ended,
        started_at: millis(snapshot.started_at),
        uptime_ns: snapshot.uptime.into(),
        journal: kind(control.journal()),
        per_second: json!({ "accepted": rates.accepted, "done": rates.done, "failed": rates.failed }),
        stages: stages
            .map(|(at, (stage, times))| {
                let (attempts, undos) = rates.stages.get(at).copied().unwrap_or_default();
                shown(stage, times, attempts, undos, texts)
            })
            .collect(),
    };
    let mut text = serde_json::to_vec(&sample).unwrap_or_else(|_| b"{}".to_vec());
    text.pop();
    text.into()
}

fn shown<'a>(
    stage: &'a StageSnapshot,
    of: &StageTimes,
    attempts: f64,
    undos: f64,
    texts: &Texts,
) -> Stage<'a> {
    Stage {
        name: &stage.name,
        queued: stage.queued,
        capacity: stage.capacity,
        oldest_queued_ns: stage.oldest_queued.map(Whole::from),
        workers: stage.workers,
        workers_target: stage.target,
        workers_busy: stage.busy,
        resizable: stage.resizable,
        rate_limit: stage.rate.map(rate),
        paused: stage.paused,
        health: match &stage.health {
            StageHealth::Failing { failures, error } => {
                json!({ "state": "failing", "failures": failures, "error": texts.show(error) })
            }
            StageHealth::Down { failures, error } => {
                json!({ "state": "down", "failures": failures, "error": texts.show(error) })
            }
            _ => json!({ "state": "up", "failures": 0, "error": null }),
        },
        counts: stage_counts(&stage.counts),
        per_second: attempts,
        wait: times(&of.wait.times()),
        work: times(&of.work.times()),
        undos_per_second: undos,
    }
}

fn stage_counts(counts: &StageCounts) -> Value {
    json!({
        "started": Whole(counts.started),
        "finished": Whole(counts.finished),
        "failed": Whole(counts.failed),
        "panicked": Whole(counts.panicked),
        "retried": Whole(counts.retried),
        "stopped": Whole(counts.stopped),
        "undone": Whole(counts.cancelled),
        "undo_failures": Whole(counts.cancel_failures),
    })
}

fn times(times: &Times) -> Value {
    json!({
        "count": Whole(times.count),
        "p50_ns": Whole::from(times.p50),
        "p99_ns": Whole::from(times.p99),
        "max_ns": Whole::from(times.max),
    })
}

fn rate(limit: RateLimit) -> Value {
    let (count, period) = (limit.count(), limit.period());
    let per_second = f64::from(count) / period.as_secs_f64();
    let text = match period.as_secs_f64() {
        1.0 => format!("{count}/s"),
        60.0 => format!("{count}/min"),
        _ => format!("{count} per {period:?}"),
    };
    json!({ "text": text, "per_second": per_second })
}

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    millis(SystemTime::now())
}
