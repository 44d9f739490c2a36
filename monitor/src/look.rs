//! The answers to lookups. Values are hidden from those who may not see them, on every path alike.

use std::time::SystemTime;

use actix_web::http::StatusCode;
use batrun::{
    Control, Outcome,
    report::{Cursor, EndedTask, TaskDetail, TaskView, Timeline, TimelineKind, UndoState},
    state::{End, Rollback, Stuck, TaskId},
};
use serde_json::{Value, json};

use crate::{
    answer::{Refused, Reply},
    call::Call,
    texts::{Whole, end_of, millis, without_values},
};

type Answer = Result<Reply, Refused>;

fn raw(body: Vec<u8>) -> Reply {
    Reply::of("application/json", body)
}

pub(crate) fn pipelines(call: &Call) -> Answer {
    Ok(raw(call.inner.sampled().text(&call.access)))
}

pub(crate) fn pipeline(call: &Call) -> Answer {
    call.pipeline()?;
    let one = call.inner.sampled().one(call.place(), &call.access);
    one.map(raw)
        .ok_or_else(|| Refused::not_found("no such pipeline; api/v1/pipelines lists them"))
}

pub(crate) fn history(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    call.inner.signal.look(std::time::Instant::now());
    let range = call.query.get("range").map_or("5m", String::as_str);
    let stages = pipeline.control.stages();
    let history = pipeline.history(|history| history.json(range, crate::sample::now(), stages));
    let history = history.ok_or_else(|| Refused::bad_request("range is 5m, 1h or 24h"))?;
    Reply::json(&history)
}

pub(crate) fn health(call: &Call) -> Answer {
    let pipelines = call.inner.pipelines();
    let mut ready = true;
    let each: Vec<Value> = pipelines
        .iter()
        .map(|watched| {
            let health = watched.control.health();
            ready &= health.is_ready();
            json!({
                "name": watched.control.name(),
                "ready": health.is_ready(),
                "text": call.texts().show_any(&health),
            })
        })
        .collect();
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    Reply::status(status, &json!({ "ready": ready, "pipelines": each }))
}

pub(crate) fn tasks(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let control = &pipeline.control;
    let filter = call.filter()?;
    let chosen = filter.to_tasks()?;
    // A number, or a key, is one task.
    let one = filter.q.as_deref().and_then(|q| exactly(call, control, q));
    if let Some(detail) = one {
        let task = view(call, &detail.view);
        return Reply::json(&json!({ "tasks": [task], "next": null, "total": 1 }));
    }
    let page = control.tasks(&chosen, call.number("after")?.map(TaskId), call.limit()?);
    let tasks: Vec<Value> = page.tasks.iter().map(|task| view(call, task)).collect();
    let next = page.next.map(|next| Whole(next.0));
    Reply::json(&json!({ "tasks": tasks, "next": next, "total": page.total }))
}

/// The task in flight with this number or, for those who may see it, this key.
pub(crate) fn exactly(call: &Call, control: &Control, q: &str) -> Option<TaskDetail> {
    let number = q.parse().ok().map(TaskId);
    let by_number = number.and_then(|task| control.task(task));
    let by_key = || match call.access.sees_values() {
        true => control.find_key(q).and_then(|task| control.task(task)),
        false => None,
    };
    by_number.or_else(by_key)
}

pub(crate) fn key(call: &Call, key: Option<&str>) -> Option<String> {
    key.filter(|_| call.access.sees_values())
        .map(|key| call.texts().show(key))
}

pub(crate) fn label(call: &Call, label: Option<&str>) -> Option<String> {
    label.map(|label| call.texts().show(label))
}

fn view(call: &Call, task: &TaskView) -> Value {
    let progress = task.progress.as_ref();
    json!({
        "task": Whole(task.task.0),
        "key": key(call, task.key.as_deref()),
        "label": label(call, task.label.as_deref()),
        "phase": task.phase,
        "stage": task.stage,
        "attempt": task.attempt,
        "worker": task.worker,
        "age_ns": Whole::from(task.age),
        "deadline_left_ns": task.deadline_left.map(Whole::from),
        "progress": progress.map(|progress| {
            json!({ "fraction": progress.fraction, "text": call.texts().show(&progress.text) })
        }),
    })
}

fn undo(
    call: &Call,
    stage: &str,
    attempt: Option<u32>,
    undo: Option<&str>,
    state: UndoState,
    error: Option<&str>,
    tries: Option<u32>,
) -> Value {
    json!({
        "stage": stage,
        "attempt": attempt,
        "undo": undo.filter(|_| call.access.sees_values()).map(|undo| call.texts().show(undo)),
        "state": state,
        "error": error.map(|error| call.texts().show(error)),
        "tries": tries,
    })
}

/// The undos that a stuck task has left.
fn left(call: &Call, stuck: &Stuck) -> Vec<Value> {
    let undos = stuck.undos.iter();
    undos
        .map(|one| {
            undo(
                call,
                &one.stage,
                None,
                Some(&one.undo),
                UndoState::Failed,
                Some(&one.error),
                None,
            )
        })
        .collect()
}

pub(crate) fn task(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let (control, task) = (&pipeline.control, call.task()?);
    let started = control.snapshot().started_at;
    let timeline = control
        .timeline(task)
        .map(|timeline| events(&timeline, started));
    if let Some(detail) = control.task(task) {
        let undos: Vec<Value> = detail
            .undos
            .iter()
            .map(|one| {
                let (error, undone) = (one.error.as_deref(), one.undo.as_deref());
                undo(
                    call,
                    &one.stage,
                    Some(one.attempt),
                    undone,
                    one.state,
                    error,
                    Some(one.tries),
                )
            })
            .collect();
        return Reply::json(&json!({
            "task": Whole(task.0),
            "where": "in_flight",
            "view": view(call, &detail.view),
            "end": detail.end.as_ref().map(kind),
            "undos": undos,
            "outcome": null,
            "timeline": timeline,
        }));
    }
    let outcome = control.ended_task(task).map(|one| ended_task(call, one));
    let stuck = control.stuck().into_iter().find(|stuck| stuck.task == task);
    if outcome.is_none() && stuck.is_none() {
        return Err(Refused::not_found(
            "no such task is in flight, stuck or among the last 1,000 that were not done",
        ));
    }
    Reply::json(&json!({
        "task": Whole(task.0),
        "where": if stuck.is_some() { "stuck" } else { "ended" },
        "view": null,
        "end": null,
        "undos": stuck.map(|stuck| left(call, &stuck)).unwrap_or_default(),
        "outcome": outcome,
        "timeline": timeline,
    }))
}

fn events(timeline: &Timeline, started: std::time::SystemTime) -> Value {
    let events: Vec<Value> = timeline
        .events
        .iter()
        .map(|event| {
            let (name, number) = named(event.kind);
            let at = event.at.and_then(|at| started.checked_add(at));
            // With their fractions: undos take less than a millisecond.
            let at = at.and_then(|at| at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
            let at = at.map(|at| (at.as_micros() as f64) / 1_000.0);
            json!({ "at": at, "stage": event.stage, "event": name, "number": number })
        })
        .collect();
    json!({
        "events": events,
        "left_out": timeline.left_out,
        "gap": timeline.gap,
        "recorded": timeline.recorded,
    })
}

fn named(kind: TimelineKind) -> (&'static str, Option<u32>) {
    match kind {
        TimelineKind::Queued { attempt } => ("queued", Some(attempt)),
        TimelineKind::Started { attempt } => ("started", Some(attempt)),
        TimelineKind::Finished { attempt } => ("finished", Some(attempt)),
        TimelineKind::AttemptEnded { attempt } => ("attempt_ended", Some(attempt)),
        TimelineKind::Registered { undo } => ("registered", Some(undo)),
        TimelineKind::RollbackBegan => ("rollback_began", None),
        TimelineKind::UndoStarted { undo } => ("undo_started", Some(undo)),
        TimelineKind::Undone { undo } => ("undone", Some(undo)),
        TimelineKind::UndoFailed { undo } => ("undo_failed", Some(undo)),
        TimelineKind::Ended => ("ended", None),
        _ => ("other", None),
    }
}

fn kind(end: &End) -> &'static str {
    match end {
        End::Done => "done",
        End::Failed { .. } => "failed",
        End::TimedOut { .. } => "timed_out",
        End::Cancelled { .. } => "cancelled",
        End::TakenBack => "taken_back",
        _ => "other",
    }
}

pub(crate) fn ended_task(call: &Call, ended: EndedTask) -> Value {
    let mut shown = ended_outcome(call, ended.outcome, ended.at);
    shown["number"] = ended.number.into();
    shown["rollback"]["time_ns"] = json!(Whole::from(ended.rollback_time));
    shown
}

/// An outcome that was told at this time.
pub(crate) fn ended_outcome(call: &Call, mut outcome: Outcome, at: SystemTime) -> Value {
    if !call.access.sees_values() {
        without_values(&mut outcome);
    }
    let texts = call.texts();
    let (stage, error) = end_of(&outcome.end);
    let (state, undone, left_over) = match &outcome.rollback {
        Rollback::Complete { undos } => ("complete", Some(*undos), 0),
        Rollback::Stuck(stuck) => ("stuck", None, stuck.undos.len()),
        _ => ("nothing", Some(0), 0),
    };
    json!({
        "task": Whole(outcome.task.0),
        "key": key(call, outcome.key.as_deref()),
        "label": label(call, outcome.label.as_deref()),
        "at": millis(at),
        "end": kind(&outcome.end),
        "stage": stage,
        "error": error.map(|error| texts.show(&error)),
        "text": texts.show_line(&outcome),
        "rollback": { "state": state, "undone": undone, "left": left_over },
    })
}

pub(crate) fn ended(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let control = &pipeline.control;
    let before = call.number("before")?;
    let cursor = before.map_or(Cursor::Newest, Cursor::Before);
    let limit = call.limit()?;
    let mut page = control.ended(cursor, limit + 1);
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| last.number);
    let groups = match before {
        None => crate::groups::of(
            &control.ended(Cursor::Newest, usize::MAX),
            &call.texts(),
            crate::sample::now(),
        ),
        Some(_) => Vec::new(),
    };
    let ended: Vec<Value> = page.into_iter().map(|one| ended_task(call, one)).collect();
    Reply::json(&json!({ "groups": groups, "ended": ended, "next": next }))
}

pub(crate) fn stuck(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let stuck: Vec<Value> = pipeline
        .control
        .stuck()
        .iter()
        .map(|stuck| stuck_task(call, stuck))
        .collect();
    Reply::json(&json!({ "stuck": stuck }))
}

fn stuck_task(call: &Call, stuck: &Stuck) -> Value {
    let mut shown = stuck.clone();
    if !call.access.sees_values() {
        shown.key = None;
        shown
            .undos
            .iter_mut()
            .for_each(|undo| undo.undo = crate::texts::HIDDEN.to_owned());
    }
    json!({
        "task": Whole(stuck.task.0),
        "key": key(call, stuck.key.as_deref()),
        "label": label(call, stuck.label.as_deref()),
        "still_running": stuck.still_running,
        "text": call.texts().show_line(&shown),
        "undos": left(call, stuck),
    })
}

pub(crate) fn report(call: &Call) -> Answer {
    let pipeline = call.pipeline()?;
    let mut report = pipeline.control.report().ok_or_else(|| {
        Refused::not_found("the pipeline runs still; its report comes at its end")
    })?;
    if !call.access.sees_values() {
        report.last_failures.iter_mut().for_each(without_values);
        for stuck in &mut report.stuck {
            stuck.key = None;
            stuck
                .undos
                .iter_mut()
                .for_each(|undo| undo.undo = crate::texts::HIDDEN.to_owned());
        }
    }
    let text = report.to_string();
    let redacted = call.texts();
    // The parts of a report have texts of the user's in them, too many to find each.
    let (text, report) = match redacted.0 {
        Some(redact) => (redact(&text), Value::Null),
        None => (text, serde_json::to_value(&report).unwrap_or_default()),
    };
    Reply::json(&json!({ "text": text, "report": report }))
}
