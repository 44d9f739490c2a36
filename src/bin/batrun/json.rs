//! What a journal has, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use batrun::{JournalOutcome, JournalTask, JournalUndo, JournalUndoStatus, JournalValue, State};
use rmpv::Value as Packed;
use serde_json::{Map, Value, json};

/// Values are nested no deeper than that.
const DEEPEST: usize = 256;

/// A value that a journal has. What JSON has no word for becomes a text.
pub(crate) fn value(value: &JournalValue) -> Value {
    let mut bytes = value.bytes();
    match rmpv::decode::read_value_with_max_depth(&mut bytes, DEEPEST) {
        Ok(packed) if bytes.is_empty() => unpacked(packed),
        _ => hex(value.bytes()),
    }
}

fn unpacked(packed: Packed) -> Value {
    match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(is) => is.into(),
        Packed::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.to_string().into(),
        },
        Packed::F32(number) => float(number.into(), &number.to_string()),
        Packed::F64(number) => float(number, &number.to_string()),
        Packed::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Packed::Binary(bytes) => hex(&bytes),
        Packed::Array(values) => values.into_iter().map(unpacked).collect(),
        Packed::Map(entries) => {
            let entry = |(name, value)| {
                let name = match unpacked(name) {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                (name, unpacked(value))
            };
            Value::Object(entries.into_iter().map(entry).collect())
        }
        Packed::Ext(kind, bytes) => json!({ "ext": kind, "bytes": hex(&bytes) }),
    }
}

fn float(number: f64, shown: &str) -> Value {
    if number.is_finite() {
        // The shorter one of the two that mean the same.
        shown.parse().unwrap_or(number).into()
    } else {
        shown.into()
    }
}

fn hex(bytes: &[u8]) -> Value {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}").into()
}

/// Where a task is, in a word or two.
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

/// What became of an undo, in a word.
pub(crate) fn status(undo: &JournalUndo) -> &'static str {
    match undo.status {
        JournalUndoStatus::Registered if undo.running => "being cancelled",
        JournalUndoStatus::Registered => "registered",
        JournalUndoStatus::Withdrawn => "withdrawn",
        JournalUndoStatus::Cancelled => "cancelled",
        JournalUndoStatus::Failed(_) => "failed",
        _ => "unknown",
    }
}

/// Everything about a task.
pub(crate) fn task(task: &JournalTask) -> Result<Value, serde_json::Error> {
    let undos: Vec<_> = task.undos.iter().enumerate().map(undo).collect();
    Ok(json!({
        "id": task.id,
        "key": task.key,
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

/// Why it is rolled back, or set aside.
pub(crate) fn end(task: &JournalTask) -> Option<&batrun::End> {
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
        "at_ms": millis(kept.at),
        "end": serde_json::to_value(&kept.outcome.end)?,
        "rollback": serde_json::to_value(&kept.outcome.rollback)?,
        "output": kept.output.as_ref().map(value),
    }))
}

/// Milliseconds since 1970.
fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// An object with one more field, its first.
pub(crate) fn of_kind(kind: &str, value: Value) -> Value {
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());
    if let Value::Object(fields) = value {
        object.extend(fields);
    }
    Value::Object(object)
}
