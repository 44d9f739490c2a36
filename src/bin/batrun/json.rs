//! The contents of a journal as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use batrun::{
    journal::{
        JournalFile, JournalOutcome, JournalStage, JournalTask, JournalUndo, JournalUndoStatus,
        JournalValue,
    },
    state::State,
};
use rmpv::Value as Packed;
use serde_json::{Map, Value, json};

/// The deepest nesting of a value that is shown as JSON. Deeper ones are shown as bytes.
const MAX_DEPTH: usize = 256;

/// A value. Parts that JSON can't express become texts.
pub(crate) fn value(value: &JournalValue) -> Value {
    let mut bytes = value.bytes();
    match rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH) {
        Ok(packed) if bytes.is_empty() => from_packed(packed),
        _ => hex(value.bytes()),
    }
}

fn from_packed(packed: Packed) -> Value {
    match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(value) => value.into(),
        Packed::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.to_string().into(),
        },
        Packed::F32(number) => float(number.into(), &number.to_string()),
        Packed::F64(number) => float(number, &number.to_string()),
        Packed::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Packed::Binary(bytes) => hex(&bytes),
        Packed::Array(values) => values.into_iter().map(from_packed).collect(),
        Packed::Map(entries) => {
            let entry = |(name, value)| {
                let name = match from_packed(name) {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                (name, from_packed(value))
            };
            Value::Object(entries.into_iter().map(entry).collect())
        }
        Packed::Ext(kind, bytes) => json!({ "ext": kind, "bytes": hex(&bytes) }),
    }
}

fn float(number: f64, text: &str) -> Value {
    if number.is_finite() {
        // An f32 has fewer digits than the same number as an f64.
        text.parse().unwrap_or(number).into()
    } else {
        text.into()
    }
}

fn hex(bytes: &[u8]) -> Value {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}").into()
}

/// The state of a task, in a word or two.
pub(crate) fn state(task: &JournalTask) -> &'static str {
    match (task.state, &task.stuck) {
        (_, Some(_)) if task.quarantined => "set aside",
        (_, Some(_)) => "stuck",
        (State::Queued(_), _) => "queued",
        (State::Running(_), _) => "running",
        (State::Cleaning(_), _) => "cleaning up",
        (State::Stopping(_), _) => "stopping",
        (State::RollingBack | State::Ended, _) => "rolling back",
    }
}

/// The status of an undo, in a word.
pub(crate) fn status(undo: &JournalUndo) -> &'static str {
    match undo.status {
        JournalUndoStatus::Registered if undo.running => "running",
        JournalUndoStatus::Registered => "registered",
        JournalUndoStatus::Withdrawn => "withdrawn",
        JournalUndoStatus::Cancelled => "undone",
        JournalUndoStatus::Failed(_) => "failed",
        _ => "unknown",
    }
}

/// The journal itself.
pub(crate) fn journal(file: &JournalFile) -> Value {
    let stage = |stage: &JournalStage| json!({ "name": stage.name, "version": stage.version });
    json!({
        "pipeline": file.pipeline(),
        "format": file.format(),
        "stages": file.stages().iter().map(stage).collect::<Vec<_>>(),
        "outcomes_kept": file.outcomes_kept(),
    })
}

/// Everything about a task.
pub(crate) fn task(task: &JournalTask) -> Result<Value, serde_json::Error> {
    let undos: Vec<_> = task.undos.iter().enumerate().map(undo).collect();
    Ok(json!({
        "id": task.id,
        "key": task.key,
        "label": task.label,
        "state": state(task),
        "stage": task.stage,
        "attempt": task.attempt,
        "interrupted": task.interrupted,
        "deadline_left_ms": task.left.map(|left| left.as_millis() as u64),
        "stuck": task.stuck.is_some(),
        "set_aside": task.quarantined,
        "end": serde_json::to_value(end(task))?,
        "undos": undos,
        "context": value(&task.context),
    }))
}

/// The reason why a task is rolled back, or was set aside.
pub(crate) fn end(task: &JournalTask) -> Option<&batrun::state::End> {
    match &task.stuck {
        Some(outcome) => Some(&outcome.end),
        None => task.end.as_ref(),
    }
}

fn undo((number, undo): (usize, &JournalUndo)) -> Value {
    let error = match &undo.status {
        JournalUndoStatus::Failed(error) => Some(error),
        _ => None,
    };
    json!({
        "undo": number,
        "stage": undo.stage,
        "attempt": undo.attempt,
        "status": status(undo),
        "left": undo.is_left(),
        "tries": undo.tries,
        "error": error,
        "value": value(&undo.value),
    })
}

/// An outcome that is kept.
pub(crate) fn outcome(kept: &JournalOutcome) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "id": kept.outcome.task,
        "key": kept.key,
        "label": kept.outcome.label,
        "at_ms": millis(kept.at),
        "end": serde_json::to_value(&kept.outcome.end)?,
        "rollback": serde_json::to_value(&kept.outcome.rollback)?,
        "output": kept.output.as_ref().map(value),
    }))
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The object with the field `kind` before its own.
pub(crate) fn with_kind(kind: &str, value: Value) -> Value {
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());
    if let Value::Object(fields) = value {
        object.extend(fields);
    }
    Value::Object(object)
}
